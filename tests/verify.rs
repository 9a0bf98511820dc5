//! What a verification proves, what it finds, and what it cannot know.

use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use univrs_state::archive::{Archive, Export};
use univrs_state::log::{Anchor, StoreId};
use univrs_state::verify::{Level, NotProvable, Proved, Verify, VerifyReport};
use univrs_state::{Batch, Head, LocalStore, Meta, Seq, StateStore};

use crate::support::history::random_log;
use crate::support::{Local, Store, Subject, folder, on_every_backend, options, seq, value};

on_every_backend!(
    each_level_says_what_it_proved,
    anchors_are_checked_and_the_newest_one_bounds_what_is_open,
    progress_reaches_the_end,
    an_anchor_outside_an_export_is_named_and_contradicts_nothing,
);

impl Local {
    async fn verify_with(&self, verify: Verify) -> VerifyReport {
        match self {
            Self::Memory(store) => store.verify_with(verify).await,
            Self::Sqlite(store) => store.verify_with(verify).await,
        }
        .unwrap()
    }
}

async fn each_level_says_what_it_proved<S: Store>(store: S, subject: &Subject) {
    let log = random_log(&store, 30).await;
    let changes = log.len() as u64;
    let (keys, tombstones) =
        (store.list("").await.unwrap().len() as u64, store.list_deleted("").await.unwrap().len() as u64);
    let links = [Proved::Values(changes), Proved::Links(changes)];
    let whole = [Proved::Projection { keys, tombstones }, Proved::Storage];
    for (level, proved) in [
        (Level::Quick, links.to_vec()),
        (Level::Chain, links.to_vec()),
        (Level::Full, [links, whole].concat()),
    ] {
        let report = subject.local.verify_with(Verify::level(level)).await;
        assert!(report.is_intact());
        assert_eq!(
            (report.level, report.head, &report.proved),
            (level, store.head().await.unwrap(), &proved)
        );
        assert_eq!(report.not_provable, [NotProvable::AfterAnchor { anchor: None, changes }]);
    }
    for _ in 0..5 {
        let batch = (0..500).fold(Batch::new(), |batch, n| batch.set(format!("/many/{n}"), "x"));
        store.commit(batch).await.unwrap();
    }
    let report = subject.local.verify_with(Verify::level(Level::Quick)).await;
    assert_eq!(report.changes, 1_000 + (changes + 2_500 - 1_000 - changes) % 500);
    assert!(
        report.not_provable.contains(&NotProvable::Before(seq(changes + 1_500))),
        "{:?}",
        report.not_provable
    );
}

async fn anchors_are_checked_and_the_newest_one_bounds_what_is_open<S: Store>(store: S, subject: &Subject) {
    random_log(&store, 10).await;
    let id = subject.local.store_id();
    let early = Anchor::new(id, store.head().await.unwrap());
    let zero = Anchor::new(id, Head::genesis(id));
    store.set("/a", value(1)).await.unwrap();
    store.set("/a", value(2)).await.unwrap();
    let head = store.head().await.unwrap();
    for level in [Level::Quick, Level::Chain, Level::Full] {
        let report = subject.local.verify_with(Verify::level(level).anchors([early, zero, early])).await;
        assert!(report.is_intact(), "{:?}", report.findings);
        assert_eq!(report.proved.last(), Some(&Proved::Anchors(vec![Seq::ZERO, early.head.seq])));
        assert_eq!(
            report.not_provable,
            [NotProvable::AfterAnchor { anchor: Some(early.head.seq), changes: 2 }]
        );
        let report = subject.local.verify_with(Verify::level(level).anchors([Anchor::new(id, head)])).await;
        assert_eq!(report.not_provable, []);

        let forged = Head { hash: early.head.hash, ..head };
        let later = Head { seq: seq(head.seq.as_u64() + 7), ..head };
        let other = StoreId::from_bytes([9; 16]);
        for (anchor, why) in [
            (Anchor::new(id, forged), "another hash"),
            (Anchor::new(id, later), "7 changes are missing"),
            (Anchor::new(other, head), "of store 0909"),
        ] {
            let report = subject.local.verify_with(Verify::level(level).anchors([early, anchor])).await;
            assert_eq!((report.contradictions, report.proved.len()), (1, 0));
            assert_eq!(report.findings[0].seq, Some(anchor.head.seq));
            assert!(report.findings[0].what.contains(why), "{:?}", report.findings);
        }
    }
}

async fn progress_reaches_the_end<S: Store>(store: S, subject: &Subject) {
    for _ in 0..4 {
        let batch = (0..700).fold(Batch::new(), |batch, n| batch.set(format!("/many/{n}"), "x"));
        store.commit(batch).await.unwrap();
    }
    for level in [Level::Chain, Level::Full] {
        let seen: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
        let told = seen.clone();
        let verify =
            Verify::level(level).progress(move |now| told.lock().unwrap().push((now.done, now.total)));
        assert!(subject.local.verify_with(verify).await.is_intact());
        let seen = seen.lock().unwrap();
        assert!(seen.len() > 2 && seen.is_sorted(), "{seen:?}");
        assert_eq!(seen.last(), Some(&(2_800, 2_800)));
    }
}

/// A file with some commits, its store closed.
async fn sample() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = folder();
    let path = folder.path().join("state.db");
    let store = options().open(&path).await.unwrap();
    store.set("/a", value(1)).await.unwrap();
    let batch = Batch::new().set("/b", "1").set("/a", "2").set("/c", "1").meta(Meta::new().actor("x"));
    store.commit(batch).await.unwrap();
    store.set("/a", value(3)).await.unwrap();
    store.delete("/b").await.unwrap();
    store.set("/b", value(2)).await.unwrap();
    store.set("/c", value(2)).await.unwrap();
    store.close().await.unwrap();
    (folder, path)
}

async fn verified(path: &std::path::Path, verify: Verify) -> VerifyReport {
    let store = univrs_state::SqliteStore::options().read_only(true).open(path).await.unwrap();
    let report = store.verify_with(verify).await.unwrap();
    store.close().await.unwrap();
    report
}

#[tokio::test]
async fn a_finding_names_the_first_bad_change_its_field_and_whether_the_links_around_it_hold() {
    for (altered, at, field, links_hold) in [
        ("value = x'ff' WHERE seq = 3", 3, Some("value"), Some(true)),
        ("salt = zeroblob(16) WHERE seq = 3", 3, Some("value"), Some(true)),
        ("value_hash = zeroblob(32) WHERE seq = 3", 3, Some("value_hash"), Some(true)),
        ("hash = zeroblob(32) WHERE seq = 3", 3, Some("hash"), Some(false)),
        ("at = at + 1 WHERE seq = 3", 3, Some("at"), Some(true)),
        ("commit_seq = 3 WHERE seq = 3", 3, Some("commit_seq"), Some(true)),
        ("kind = 3 WHERE seq = 3", 3, Some("kind"), Some(true)),
        ("version = 3 WHERE seq = 3", 3, Some("version"), Some(true)),
        ("created_at = created_at + 1 WHERE seq = 5", 5, Some("created_at"), Some(true)),
        ("prev = 2 WHERE seq = 5", 5, Some("prev"), Some(true)),
        ("meta = x'a1656163746f726178' WHERE seq = 5", 5, Some("meta"), Some(true)),
        ("until = 7 WHERE seq = 5", 5, Some("until"), Some(true)),
        ("until = 0 WHERE seq = 5", 5, None, None),
        ("before = zeroblob(32) WHERE seq = 5", 5, None, None),
        ("key = '/d' WHERE seq = 5", 5, None, Some(true)),
        ("at = at - 1 WHERE seq = 8", 8, None, None),
    ] {
        let (_folder, path) = sample().await;
        Connection::open(&path).unwrap().execute(&format!("UPDATE changes SET {altered}"), []).unwrap();
        for level in [Level::Chain, Level::Full] {
            if at == 8 {
                // The end of the log cannot be sealed onto, but it can be looked at.
                let report = verified(&path, Verify::level(Level::Quick)).await;
                assert!(!report.is_intact(), "{altered}");
            }
            let report = verified(&path, Verify::level(level)).await;
            let first = &report.findings[0];
            assert_eq!(
                (first.seq, first.field, first.links_hold),
                (Some(seq(at)), field, links_hold),
                "{altered}: {report:?}"
            );
            assert_eq!(report.proved, [], "{altered}");
        }
    }
}

// A report lists the first hundred.
#[tokio::test]
async fn a_finding_keeps_its_field_however_many_changes_after_the_listed_ones_were_altered() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let store = univrs_state::SqliteStore::open(&path).await.unwrap();
    let batch = (0..150).fold(Batch::new(), |batch, n| batch.set(format!("/{n}"), value(n)));
    store.commit(batch).await.unwrap();
    store.close().await.unwrap();
    let conn = Connection::open(&path).unwrap();
    conn.execute("UPDATE changes SET value = x'ff' WHERE seq <= 100", []).unwrap();
    conn.execute("UPDATE changes SET version = 7, hash = zeroblob(32) WHERE seq BETWEEN 120 AND 140", [])
        .unwrap();
    drop(conn);
    for level in [Level::Chain, Level::Full] {
        let report = verified(&path, Verify::level(level)).await;
        assert!(report.contradictions > 100 && report.findings.len() == 100, "the premise: {report:?}");
        for (finding, at) in report.findings.iter().zip(1..) {
            let found = (finding.seq, finding.field, finding.links_hold);
            assert_eq!(found, (Some(seq(at)), Some("value"), Some(true)), "{report:?}");
        }
    }
}

#[tokio::test]
async fn a_quick_verification_sees_the_rows_of_the_newest_changes() {
    for altered in [
        "UPDATE changes SET value = x'ff' WHERE seq = 3",
        "UPDATE changes SET hash = zeroblob(32) WHERE seq = 5",
        "UPDATE kv_store SET value = x'ff' WHERE key = '/a'",
        "DELETE FROM kv_store WHERE key = '/c'",
        "DELETE FROM changes WHERE seq = 4",
    ] {
        let (_folder, path) = sample().await;
        Connection::open(&path).unwrap().execute(altered, []).unwrap();
        let report = verified(&path, Verify::level(Level::Quick)).await;
        assert!(!report.is_intact() && report.proved.is_empty(), "{altered}");
    }
}

// The projection is compared by sums first, and looked at key by key only where they differ.
#[tokio::test]
async fn a_projection_that_is_not_the_fold_is_found_by_its_sums() {
    let (no_row, no_commit) =
        ("commit_ids has no row for this commit", "a row of commit_ids does not match any commit of the log");
    for (altered, told) in [
        ("DELETE FROM kv_store WHERE key = '/a'", &["the projection has no row for this key"][..]),
        ("DELETE FROM commit_ids", &[no_row]),
        ("UPDATE commit_ids SET first = first + 1", &[no_commit]),
        ("INSERT INTO commit_ids VALUES ('other', 1, 1)", &[no_commit]),
        ("DELETE FROM tombstones", &["the projection has no row for this key"]),
        (
            "UPDATE kv_store SET seq = seq + 1 WHERE key = '/a'",
            &["the row of \"/a\" in kv_store does not match its checksum"],
        ),
    ] {
        let (_folder, path) = sample().await;
        let store = options().open(&path).await.unwrap();
        store.commit(Batch::new().set("/d", "1").delete("/c").commit_id("id")).await.unwrap();
        store.close().await.unwrap();
        assert!(verified(&path, Verify::full()).await.is_intact());
        let raw = Connection::open(&path).unwrap();
        assert!(raw.execute(altered, []).unwrap() > 0);
        drop(raw);
        assert!(verified(&path, Verify::level(Level::Chain)).await.is_intact(), "{altered}");
        let report = verified(&path, Verify::full()).await;
        let found: Vec<_> = report.findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(found, told, "{altered}");
    }
}

#[tokio::test]
async fn what_an_export_lacks_is_said_and_not_proved() {
    let store = options().memory().unwrap();
    store.set("/a", value(1)).await.unwrap();
    store.set("/b", value(1)).await.unwrap();
    store.set("/c", value(1)).await.unwrap();
    let local = Local::Memory(store);
    let export =
        Export::new().only("/a".parse().unwrap()).only("/b".parse().unwrap()).redact("/a".parse().unwrap());
    let archive = Archive::read(&local.export(export).await.unwrap()[..]).unwrap();
    let report = archive.verify().await.unwrap();
    assert!(report.is_intact());
    assert_eq!(report.proved[..2], [Proved::Values(1), Proved::Links(3)]);
    assert_eq!(report.not_provable[1..], [NotProvable::Erased(1), NotProvable::Withheld(1)]);
    let range = Archive::read(&local.export(Export::new().after(seq(2))).await.unwrap()[..]).unwrap();
    let report = range.verify().await.unwrap();
    assert_eq!(
        report.not_provable,
        [NotProvable::AfterAnchor { anchor: None, changes: 1 }, NotProvable::BelowFloor(seq(2))]
    );
}

/// What an export has no changes of, it neither proves nor contradicts.
async fn an_anchor_outside_an_export_is_named_and_contradicts_nothing<S: Store>(store: S, subject: &Subject) {
    random_log(&store, 10).await;
    let mut anchors = vec![Anchor::new(subject.local.store_id(), Head::genesis(subject.local.store_id()))];
    for n in 0..6 {
        store.set("/a", value(n)).await.unwrap();
        anchors.push(Anchor::new(subject.local.store_id(), store.head().await.unwrap()));
    }
    let at = |n: usize| anchors[n].head.seq;
    let part = Export::new().after(at(2)).to(at(4));
    for part in [part.clone(), part.only("/none".parse().unwrap())] {
        let archive = Archive::read(&subject.local.export(part).await.unwrap()[..]).unwrap();
        let outside = |n| NotProvable::OutsideExport { anchor: at(n), after: at(2), to: at(4) };
        for level in [Level::Quick, Level::Chain, Level::Full] {
            let all = anchors.iter().rev().chain(&anchors).copied();
            let report = archive.verify_with(Verify::level(level).anchors(all)).await.unwrap();
            assert!(report.is_intact(), "{:?}", report.findings);
            assert!(report.proved.contains(&Proved::Anchors(vec![at(2), at(3), at(4)])));
            assert!(report.proved.contains(&Proved::Export { after: at(2), to: at(4) }));
            assert!(
                !report.proved.iter().any(|what| matches!(what, Proved::Storage | Proved::Projection { .. }))
            );
            let named: Vec<_> = report
                .not_provable
                .iter()
                .filter(|what| matches!(what, NotProvable::OutsideExport { .. }))
                .copied()
                .collect();
            assert_eq!(named, [outside(0), outside(1), outside(5), outside(6)]);
            assert_eq!(
                named[3].to_string(),
                format!(
                    "the anchor at {}: outside this export, which begins after {} and ends with {}",
                    at(6),
                    at(2),
                    at(4)
                )
            );
            // One of another store, or with another hash inside of it, contradicts as ever.
            let other = Anchor::new(StoreId::from_bytes([9; 16]), anchors[6].head);
            let forged =
                Anchor::new(anchors[3].store, Head { hash: anchors[2].head.hash, ..anchors[3].head });
            for bad in [other, forged] {
                let report = archive.verify_with(Verify::level(level).anchors([bad])).await.unwrap();
                assert_eq!(report.contradictions, 1);
            }
        }
    }
}
