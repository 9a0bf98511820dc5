//! A snapshot and the changes after it, in one stream, without a gap between them.

use std::collections::BTreeMap;

use univrs_state::pattern::Pattern;
use univrs_state::watch::{SnapshotEvent, SnapshotWatch};
use univrs_state::{Batch, Cursor, Limits, StateError, StateStore};

use crate::support::{Seeded, Store, Subject, folder, frugal, on_every_backend, options, value};

on_every_backend!(
    entries_come_first_then_an_end_then_every_change,
    a_snapshot_without_entries_has_an_end_too,
    a_bad_pattern_is_refused_at_once,
    a_store_that_closes_ends_the_stream_with_its_cause,
);

/// The entries up to the end marker, and its position.
async fn snapshot(watch: &mut SnapshotWatch) -> (Vec<(String, Vec<u8>)>, Cursor) {
    let mut entries = Vec::new();
    loop {
        assert_eq!(watch.cursor(), None, "nothing to resume from");
        match watch.try_next().await.unwrap().unwrap() {
            SnapshotEvent::Entry(entry) => entries.push((entry.key, entry.value)),
            SnapshotEvent::End(cursor) => return (entries, cursor),
            other => panic!("{other:?} came before the end of the snapshot"),
        }
    }
}

async fn entries_come_first_then_an_end_then_every_change<S: Store>(store: S, _: &Subject) {
    for key in ["/nodes/n1", "/nodes/n2", "/nodes/n3", "/nodes", "/node", "/other"] {
        store.set(key, value(key)).await.unwrap();
    }
    store.delete("/nodes/n2").await.unwrap();
    let all = ["/nodes/n1", "/nodes/n3"].map(|key| (key.to_owned(), value(key)));
    for (pattern, expected) in [("/nodes/*", &all[..]), ("/*/n3", &all[1..]), ("/nodes/n1", &all[..1])] {
        let mut watch = store.watch_with_snapshot(pattern).unwrap();
        assert_eq!(watch.pattern(), pattern);
        let head = store.head().await.unwrap();
        let (entries, cursor) = snapshot(&mut watch).await;
        assert_eq!((entries.as_slice(), cursor.head()), (expected, Some(head)), "{pattern}");
        assert_eq!(watch.cursor(), Some(cursor));
    }
    let mut watch = store.watch_with_snapshot("/nodes/*").unwrap();
    snapshot(&mut watch).await;
    store.commit(Batch::new().delete("/nodes/n1").set("/x", "").set("/nodes/n4", "4")).await.unwrap();
    for (key, old) in [("/nodes/n1", Some(value("/nodes/n1"))), ("/nodes/n4", None)] {
        let Some(SnapshotEvent::Change(event)) = watch.try_next().await.unwrap() else { panic!("{key}") };
        assert_eq!((event.key.as_str(), event.old_value), (key, old));
    }
}

async fn a_snapshot_without_entries_has_an_end_too<S: Store>(store: S, _: &Subject) {
    store.set("/other", value(1)).await.unwrap();
    let mut watch = store.watch_with_snapshot("/nodes/*").unwrap();
    let (entries, cursor) = snapshot(&mut watch).await;
    assert_eq!((entries.len(), cursor.seq()), (0, 1.into()));
    store.set("/nodes/n1", value(1)).await.unwrap();
    assert!(matches!(watch.next().await, Some(SnapshotEvent::Change(event)) if event.key == "/nodes/n1"));
}

async fn a_bad_pattern_is_refused_at_once<S: Store>(store: S, _: &Subject) {
    assert!(matches!(store.watch_with_snapshot("/a**b"), Err(StateError::InvalidKey(_))));
}

async fn a_store_that_closes_ends_the_stream_with_its_cause<S: Store>(store: S, subject: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    let mut at_once = store.watch_with_snapshot("/*").unwrap();
    let mut complete = store.watch_with_snapshot("/*").unwrap();
    snapshot(&mut complete).await;
    subject.local.close().await.unwrap();
    for watch in [&mut at_once, &mut complete] {
        assert_eq!(watch.try_next().await, Err(StateError::Closed));
        assert_eq!((watch.try_next().await, watch.error()), (Ok(None), Some(&StateError::Closed)));
    }
    assert!(matches!(store.watch_with_snapshot("/*"), Err(StateError::Closed)));
}

/// Takes what the stream delivers, until the key `/end` comes.
async fn copy_of(mut watch: SnapshotWatch) -> BTreeMap<String, Vec<u8>> {
    let mut copy: BTreeMap<_, _> = snapshot(&mut watch).await.0.into_iter().collect();
    if copy.remove("/a/end").is_some() {
        return copy; // Begun late.
    }
    loop {
        let Some(SnapshotEvent::Change(event)) = watch.try_next().await.unwrap() else {
            panic!("one snapshot")
        };
        if event.key == "/a/end" {
            return copy;
        }
        let old = match event.new_value {
            Some(new) => copy.insert(event.key, new),
            None => copy.remove(&event.key),
        };
        assert_eq!(old, event.old_value, "what it replaces is what the copy had");
    }
}

fn handle<'a, T>(handles: &'a [T; 2], random: &Seeded) -> &'a T {
    &handles[usize::from(random.below(2) == 0)]
}

// While two openings write, as two processes do, snapshots in small pages and the changes after them make the same state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_from_a_snapshot_and_its_changes_equals_the_store() {
    let seed = crate::support::seed();
    let mut limits = Limits::default();
    limits.page_entries = 3;
    for options in [options(), frugal(), options().resident_bytes(0)] {
        let (folder, random) = (folder(), Seeded::from(seed));
        let path = folder.path().join("state.db");
        let options = options.limits(limits.clone()).unshared();
        let subject = Subject::open(options.clone(), &path).await;
        let handles = [subject.shared(), Subject::open(options, &path).await.shared()];
        let mut copies = Vec::new();
        for round in 0..200 {
            let key = |random: &Seeded| {
                format!("/{}/k{}", if random.below(2) == 0 { "a" } else { "b" }, random.below(20))
            };
            let mut batch = Batch::new();
            for _ in 0..=random.below(3) {
                batch = match random.below(3) {
                    0 => batch.delete(key(&random)),
                    _ => batch.set(key(&random), value(round)),
                };
            }
            handle(&handles, &random).commit(batch).await.unwrap();
            if round % 10 == 0 {
                for pattern in ["/a/*", "/**", "/*/k1*"] {
                    let watch = handle(&handles, &random).watch_with_snapshot(pattern).unwrap();
                    copies.push((pattern, tokio::spawn(copy_of(watch))));
                }
            }
        }
        handles[0].set("/a/end", value("")).await.unwrap();
        let page = handles[0].scan(univrs_state::Scan::prefix("/")).await.unwrap();
        let (mut entries, mut next) = (page.entries, page.next);
        while let Some(scan) = next {
            let page = handles[0].scan(scan).await.unwrap();
            entries.extend(page.entries);
            next = page.next;
        }
        for (pattern, copy) in copies {
            if pattern == "/*/k1*" {
                copy.abort(); // It never hears of the end; dropping it while it waits harms nobody.
                continue;
            }
            let matches: Pattern = pattern.parse().unwrap();
            let shown = entries.iter().filter(|entry| matches.matches(&entry.key) && entry.key != "/a/end");
            let expected: BTreeMap<_, _> = shown.map(|e| (e.key.clone(), e.value.clone())).collect();
            assert_eq!(copy.await.unwrap(), expected, "{pattern}, seed {seed}");
        }
        subject.audit().await;
    }
}
