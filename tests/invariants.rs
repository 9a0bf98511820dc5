//! The invariants of the design, each as a test of its name.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use univrs_state::log::Change;
use univrs_state::{Batch, Options, Scan, Seq, StateError, StateStore};

use crate::support::audit::{entries, fold};
use crate::support::{START, STORE, Seeded, Store, Subject, Ticks, on_every_backend, seq, value};

on_every_backend!(
    positions_have_no_gap_and_a_position_is_never_reused,
    a_keys_version_grows_by_one_with_each_change_and_never_repeats_across_deletion_too,
    the_projection_equals_the_fold_of_the_log_after_every_commit,
    readers_and_watches_see_whole_commits_or_nothing,
    a_watch_is_complete_and_in_order_or_it_ends_with_its_cause,
    what_was_delivered_by_a_watch_or_a_read_is_still_there_after_reopening,
);

/// A batch that random numbers make: may be refused, may be empty.
fn batch(random: &Seeded) -> Batch {
    let key = || format!("/{}/{}", random.below(3), random.below(4));
    let mut batch = Batch::new();
    for _ in 0..random.below(6) {
        batch = match random.below(10) {
            0..=5 => batch.set(key(), value(random.next())),
            6..=7 => batch.delete(key()),
            8 => batch.expect(key(), random.below(4)),
            _ => batch.expect_unchanged_since("/1/", seq(random.below(20))),
        };
    }
    if random.below(4) == 0 { batch.commit_id(random.below(50).to_string()) } else { batch }
}

async fn positions_have_no_gap_and_a_position_is_never_reused<S: Store>(store: S, subject: &Subject) {
    let random = Seeded::from(1);
    let mut kept: BTreeMap<Seq, Change> = BTreeMap::new();
    let mut current = subject.reopened().await;
    drop(store);
    for _ in 0..5 {
        for _ in 0..30 {
            let before = current.shared().head().await.unwrap();
            match current.shared().commit(batch(&random)).await {
                Ok(receipt) if receipt.first > before.seq && !receipt.is_empty() => {
                    assert_eq!((receipt.first, receipt.head.seq), (before.seq.next(), receipt.last));
                }
                // Refused, empty, or a batch that was recorded before.
                _ => assert_eq!(current.shared().head().await.unwrap(), before),
            }
        }
        for change in current.audit().await {
            let seq = change.seq;
            if let Some(earlier) = kept.insert(seq, change.clone()) {
                assert_eq!(earlier, change, "position {seq} was reused");
            }
        }
        assert!(kept.keys().map(|seq| seq.as_u64()).eq(1..=kept.len() as u64));
        current = current.reopened().await;
    }
    assert!(kept.len() > 100);
}

async fn a_keys_version_grows_by_one_with_each_change_and_never_repeats_across_deletion_too<S: Store>(
    store: S,
    subject: &Subject,
) {
    let random = Seeded::from(2);
    let mut changes: HashMap<String, u64> = HashMap::new();
    for n in 0..300 {
        let key = format!("/{}", random.below(3));
        let count = changes.entry(key.clone()).or_default();
        if random.below(3) > 0 {
            *count += 1;
            assert_eq!(store.set(&key, value(n)).await.unwrap(), *count);
        } else if store.exists(&key).await.unwrap() {
            *count += 1;
            store.delete(&key).await.unwrap();
        }
    }
    let again = subject.reopened().await;
    for (key, count) in changes {
        assert_eq!(again.shared().set(&key, value("later")).await.unwrap(), count + 1);
    }
    again.audit().await;
}

async fn the_projection_equals_the_fold_of_the_log_after_every_commit<S: Store>(store: S, subject: &Subject) {
    let random = Seeded::from(3);
    for _ in 0..60 {
        let _ = store.commit(batch(&random)).await;
        // The audit compares them.
        subject.audit().await;
    }
}

async fn readers_and_watches_see_whole_commits_or_nothing<S: Store>(store: S, _: &Subject) {
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for reader in 0..3 {
        let (store, done) = (store.clone(), done.clone());
        readers.push(tokio::spawn(async move {
            let mut reads = 0;
            while !done.load(Ordering::SeqCst) || reads == 0 {
                let values: Vec<Vec<u8>> = match reader {
                    0 => {
                        let page = store.get_many(&["/a", "/b", "/c"]).await.unwrap();
                        page.entries.into_iter().map(|entry| entry.value).collect()
                    }
                    1 => {
                        let page = store.scan(Scan::prefix("/")).await.unwrap();
                        page.entries.into_iter().map(|entry| entry.value).collect()
                    }
                    _ => {
                        let commits = store.changes(Seq::ZERO, 1).await.unwrap();
                        assert!(commits.iter().all(|commit| commit.changes.len() == 3));
                        commits
                            .into_iter()
                            .flat_map(|c| c.changes)
                            .map(|c| c.value.unwrap().to_vec())
                            .collect()
                    }
                };
                assert!(values.is_empty() || values.len() == 3, "half a commit");
                assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "a mix of commits");
                reads += 1;
            }
        }));
    }
    let mut commits = store.watch("/*").unwrap().commits();
    let watching = tokio::spawn(async move {
        for n in 0..200 {
            let events = commits.try_next().await.unwrap().unwrap();
            assert_eq!(events.len(), 3);
            assert!(
                events
                    .iter()
                    .all(|event| event.new_value == Some(value(n)) && event.commit_seq == events[2].seq)
            );
        }
    });
    for n in 0..200 {
        store.commit(Batch::new().set("/a", value(n)).set("/b", value(n)).set("/c", value(n))).await.unwrap();
    }
    watching.await.unwrap();
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

async fn a_watch_is_complete_and_in_order_or_it_ends_with_its_cause<S: Store>(store: S, subject: &Subject) {
    let watches: Vec<_> = ["/*", "/0/*", "/*/1", "/**/2", "/2/3"]
        .into_iter()
        .map(|pattern| {
            let mut watch = store.watch(pattern).unwrap();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                loop {
                    match watch.try_next().await {
                        Ok(event) => seen.push(event.expect("an end has a cause")),
                        Err(cause) => return (watch, seen, cause),
                    }
                }
            })
        })
        .collect();
    let random = Seeded::from(4);
    for _ in 0..200 {
        let _ = store.commit(batch(&random)).await;
    }
    let log = subject.audit().await;
    let again = subject.reopened().await;
    // What lives in the memory of SQLite is gone with it; there is nothing to resume then.
    subject.local.close().await.unwrap();
    let resumes = again.local.stats().await.is_ok();
    for watch in watches {
        let (watch, seen, cause) = watch.await.unwrap();
        assert_eq!(cause, StateError::Closed);
        let pattern: univrs_state::pattern::Pattern = watch.pattern().parse().unwrap();
        // What was delivered, up to the cursor, is everything; what follows it is all the rest.
        let mut seqs: Vec<Seq> = seen.iter().map(|event| event.seq).collect();
        seqs.retain(|seq| *seq <= watch.cursor().seq());
        let expected: Vec<Seq> = log.iter().filter(|c| pattern.matches(&c.key)).map(|c| c.seq).collect();
        assert!(expected.starts_with(&seqs), "{seqs:?} of {expected:?}");
        if resumes {
            let mut rest = again.shared().watch_after(pattern.as_str(), watch.cursor()).unwrap();
            while seqs.len() < expected.len() {
                seqs.push(rest.try_next().await.unwrap().unwrap().seq);
            }
            assert_eq!(seqs, expected);
        }
    }
    again.audit().await;
}

async fn what_was_delivered_by_a_watch_or_a_read_is_still_there_after_reopening<S: Store>(
    store: S,
    subject: &Subject,
) {
    let mut watch = store.watch("/*").unwrap();
    for n in 0..50 {
        store.set(&format!("/{}", n % 9), value(n)).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..50 {
        seen.push(watch.next().await.unwrap());
    }
    let before = entries(&store, "").await;
    let again = subject.reopened().await;
    assert_eq!(entries(&again.shared(), "").await, before);
    let log = again.audit().await;
    assert!(seen.iter().zip(&log).all(|(event, change)| event.key == *change.key && event.at == change.at));
}

#[tokio::test]
async fn what_was_acknowledged_is_on_disk() {
    // A copy of the files, taken while the store is open, is what a crash of the process leaves.
    let folder = crate::support::folder();
    let (path, crashed) = (folder.path().join("state.db"), folder.path().join("crashed.db"));
    let subject = Subject::open(crate::support::options(), &path).await;
    let mut head = subject.shared().head().await.unwrap();
    for round in 0..10 {
        for n in 0..10 {
            head =
                subject.shared().commit(Batch::new().set(format!("/{n}"), value(round))).await.unwrap().head;
        }
        for suffix in ["", "-wal"] {
            let named = |path: &Path| path.with_extension(format!("db{suffix}"));
            // Copied by another process: reading it in this one would drop SQLite's locks.
            let copied = std::process::Command::new("cp").args([named(&path), named(&crashed)]).status();
            assert!(copied.unwrap().success());
        }
        let copy = Subject::open(crate::support::options(), &crashed).await;
        assert_eq!(copy.shared().head().await.unwrap(), head);
        copy.audit().await;
        copy.local.close().await.unwrap();
    }
    subject.audit().await;
}

#[tokio::test]
async fn the_same_batches_with_the_same_times_and_salts_give_the_same_changes_and_hashes_in_every_backend() {
    let options = || Options::new().clock(Ticks::from(START)).entropy(Seeded::from(9)).store_id(STORE);
    let subjects = Subject::each_with(options).await;
    let random = Seeded::from(5);
    for _ in 0..200 {
        let batch = batch(&random);
        let mut results = Vec::new();
        for subject in &subjects {
            results.push(subject.shared().commit(batch.clone()).await);
        }
        assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    }
    let logs = [subjects[0].audit().await, subjects[1].audit().await, subjects[2].audit().await];
    assert!(logs[0].len() > 200);
    assert_eq!(logs[0], logs[1]);
    assert_eq!(logs[0], logs[2]);
    assert!(!fold(&logs[0]).is_empty());
}

#[tokio::test]
async fn times_strictly_increase_whatever_the_clock_does() {
    let clock = Ticks::from(START);
    for subject in Subject::each_with(|| crate::support::options().clock(clock.clone())).await {
        let store = subject.shared();
        for micros in [START, START - 5_000_000, -1, i64::MIN, START + 9, i64::MAX - 1_000, START, 0] {
            clock.set(micros);
            store.commit(Batch::new().set("/a", "1").set("/b", "1")).await.unwrap();
            store.delete("/a").await.unwrap();
        }
        // The audit sees that they do.
        let log = subject.audit().await;
        assert_eq!(log[0].at.as_micros(), START);
        assert_eq!(log[3].at.as_micros(), log[2].at.as_micros() + 1, "just after the one before");
        let reopened = subject.reopened().await;
        reopened.shared().set("/a", value(2)).await.unwrap();
        reopened.audit().await;
    }
}

#[test]
fn log_and_state_read_no_clock_draw_no_randomness_and_do_no_io() {
    const FORBIDDEN: [&str; 14] = [
        "now()",
        "Instant",
        "getrandom",
        "std::fs",
        "std::io::",
        "std::net",
        "std::env",
        "std::thread",
        "std::process",
        "tokio",
        "async fn",
        "rusqlite",
        "println!",
        "RandomState",
    ];
    let mut files = 0;
    for floor in ["log", "state"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(floor);
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap().path();
            let source = std::fs::read_to_string(&file).unwrap();
            // Examples in comments and tests may do as they like.
            let code = source.split("#[cfg(test)]").next().unwrap();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let found = FORBIDDEN.iter().find(|word| line.contains(**word));
                assert_eq!(found, None, "{}: {line}", file.display());
            }
            files += 1;
        }
    }
    assert!(files > 10);
}
