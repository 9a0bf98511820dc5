//! A purge rebuilds the file: what was dropped is in no byte of it, and what the store has is as it was.

use std::path::Path;

use univrs_state::retain::{Compact, Erase, Purged, Retention, Thin};
use univrs_state::{Batch, MemoryStore, StateError, StateStore};

use crate::support::audit::log_after;
use crate::support::{Seeded, Subject, folder, on_every_backend, options, seed, value};

on_every_backend!(a_purge_leaves_the_store_as_it_was);

async fn a_purge_leaves_the_store_as_it_was<S: crate::support::Store>(store: S, subject: &Subject) {
    for n in 0..200 {
        store
            .commit(Batch::new().set(format!("/k/{}", n % 20), value(n)).set("/a", vec![7; 9_000]))
            .await
            .unwrap();
    }
    store.delete("/k/3").await.unwrap();
    let local = subject.local.opened();
    let floor = store.head().await.unwrap();
    store.set("/a", value("last")).await.unwrap();
    local.compact(Compact::before(floor).force().forget()).await.unwrap();
    let (head, log) = (store.head().await.unwrap(), log_after(&store, floor.seq).await);
    let purged = local.purge().await.unwrap();
    assert_eq!(purged.before > 0, subject.path.is_some());
    assert!(purged.after <= purged.before);
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(log_after(&store, floor.seq).await, log);
    store.set("/b", value("after")).await.unwrap();
    assert_eq!(store.get("/k/4").await.unwrap().unwrap().value, value(184));
    let again = local.purge().await.unwrap();
    assert!(again.after <= again.before);
}

/// The files of a store.
fn files(path: &Path) -> Vec<u8> {
    let folder = std::fs::read_dir(path.parent().unwrap()).unwrap();
    folder.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

fn has(files: &[u8], canary: &[u8]) -> bool {
    files.windows(canary.len()).any(|bytes| bytes == canary)
}

/// A value that nobody else has: sixteen random bytes, repeated up to a length.
fn canary(random: &Seeded, bytes: usize) -> Vec<u8> {
    let once: Vec<u8> = (0..2).flat_map(|_| random.next().to_le_bytes()).collect();
    once.iter().copied().cycle().take(bytes).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_dropped_is_in_a_file_after_a_purge() {
    let seed = seed();
    let random = Seeded::from(seed);
    let folder = folder();
    let path = folder.path().join("state.db");
    let subject = Subject::open(options(), &path).await;
    let (store, local) = (subject.shared(), subject.local.opened());
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    for round in 0..300_u64 {
        let size = [16, 40, 400, 5_000, 20_000][usize::try_from(random.below(5)).unwrap()];
        let value = canary(&random, size);
        let key = format!(
            "/{}/{}",
            ["thinned", "erased", "compacted", "live"][usize::try_from(round % 4).unwrap()],
            random.below(5)
        );
        // What it had before is superseded.
        if let Some(before) = store.get(&key).await.unwrap() {
            if key.starts_with("/live/") { left.push(before.value) } else { gone.push(before.value) }
        }
        store.set(&key, value).await.unwrap();
    }
    for n in 0..5 {
        let key = format!("/erased/{n}");
        gone.extend(store.get(&key).await.unwrap().map(|entry| entry.value));
        store.delete(&key).await.unwrap();
    }
    let at = store.head().await.unwrap();
    local.thin(Thin::at(at, "/thinned/*".parse().unwrap())).await.unwrap();
    local.erase(Erase::of("/erased/*".parse().unwrap())).await.unwrap();
    local.compact(Compact::before(at).keep("/live/*".parse().unwrap()).force()).await.unwrap();
    for key in store.list("/").await.unwrap() {
        left.push(store.get(&key).await.unwrap().unwrap().value);
    }
    let purged = local.purge().await.unwrap();
    assert!(purged.after <= purged.before, "{purged:?}");
    let files = files(&path);
    for canary in &gone {
        assert!(!has(&files, &canary[..16]), "a dropped value is in a file, seed {seed}");
    }
    let found = left.iter().filter(|canary| canary.len() >= 16 && has(&files, &canary[..16])).count();
    assert!(found >= 70, "the search finds what is there: {found}, seed {seed}");
    subject.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_an_old_state_is_in_the_way_of_the_log_and_not_of_the_file() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let subject = Subject::open(options(), &path).await;
    let store = subject.shared();
    for n in 0..2_000 {
        store.set(&format!("/k/{}", n % 10), vec![9; 500]).await.unwrap();
    }
    let local = subject.local.opened();
    local.compact(Compact::before(store.head().await.unwrap()).force()).await.unwrap();
    // Another program reads one state, and keeps it.
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = |reader: &rusqlite::Connection| {
        reader.query_row("SELECT count(*) FROM kv_store", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let before = count(&reader);
    match local.purge().await {
        Err(StateError::Busy(why)) => assert!(why.contains("rebuilt") && why.contains("call purge"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(count(&reader), before, "it reads its state still");
    store.set("/b", value(1)).await.unwrap();
    reader.execute_batch("COMMIT").unwrap();
    let purged = local.purge().await.unwrap();
    assert!(purged.after < 100_000, "{purged:?}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), purged.after);
    assert_eq!(std::fs::metadata(path.with_file_name("state.db-wal")).unwrap().len(), 0);
    subject.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_openings_go_on_beside_a_purge() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let one = Subject::open(options().unshared(), &path).await;
    let two = Subject::open(options().unshared(), &path).await;
    let (first, second, local) = (one.shared(), two.shared(), one.local.opened());
    let mut watch = second.watch("/k/*").unwrap();
    for round in 0..20_u64 {
        let write = second.set("/k/a", value(round));
        let (purged, written) = tokio::join!(local.purge(), write);
        written.unwrap();
        purged.unwrap();
        assert_eq!(first.get("/k/a").await.unwrap().unwrap().value, value(round));
        assert_eq!(watch.next().await.unwrap().new_value.unwrap(), value(round));
        assert_eq!(second.list("/k/").await.unwrap().len(), 1);
    }
    one.audit().await;
    two.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_by_another_writer_or_only_read_is_not_purged() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let patience = std::time::Duration::from_millis(50);
    let subject = Subject::open(options().busy_timeout(patience), &path).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    let writer = rusqlite::Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(subject.local.opened().purge().await, Err(StateError::Busy(_))));
    writer.execute_batch("COMMIT").unwrap();
    assert!(subject.local.opened().purge().await.is_ok());
    let reader = options().read_only(true).open(&path).await.unwrap();
    assert_eq!(reader.purge().await, Err(StateError::ReadOnly));
    let memory = MemoryStore::new().purge().await.unwrap();
    assert_eq!((memory.before, memory.after), (0, 0));
    let _: Purged = memory;
    subject.audit().await;
}
