//! The current state in memory: it is what the file says, whoever writes it and however large it is.

use univrs_state::stats::Residency;
use univrs_state::{Batch, LocalStore, Scan, SqliteStore, StateStore};

use crate::support::{PATIENCE, Subject, folder, options, resident, value};

async fn residency(store: &SqliteStore) -> Residency {
    store.stats().await.unwrap().residency
}

async fn settled(store: &SqliteStore) -> Residency {
    loop {
        match residency(store).await {
            Residency::Loading => tokio::task::yield_now().await,
            settled => return settled,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_file_is_in_memory_soon_after_it_was_opened() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let store = options().open(&path).await.unwrap();
    for start in 0..20 {
        let keys = (0..500).map(|n| format!("/k/{:05}", start * 500 + n));
        store.commit(keys.fold(Batch::new(), |batch, key| batch.set(key.clone(), key))).await.unwrap();
    }
    store.delete("/k/00007").await.unwrap();
    store.close().await.unwrap();
    let store = options().open(&path).await.unwrap();
    assert_eq!(settled(&store).await, Residency::Whole);
    let stats = store.stats().await.unwrap();
    assert!((1_000_000..10_000_000).contains(&stats.resident_bytes), "{}", stats.resident_bytes);
    assert_eq!(store.list("/k/").await.unwrap().len(), 9_999);
    assert_eq!(store.get("/k/09999").await.unwrap().unwrap().value, b"/k/09999");
    assert_eq!(store.get("/k/00007").await.unwrap(), None);
    assert_eq!(store.create_if_not_exists("/k/00007", value(1)).await.unwrap(), 3, "its versions go on");
    assert!(store.verify().await.unwrap().is_intact());
}

// Below its budget the state is whole in memory, above it is not, and comes back when it has shrunk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_outgrows_its_budget_is_read_from_the_file_and_comes_back_when_it_fits() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let store = options().resident_bytes(100_000).open(&path).await.unwrap();
    resident(&store).await;
    for n in 0..300 {
        store.set(&format!("/large/{n}"), vec![b'x'; 1_000]).await.unwrap();
        assert_eq!(store.get(&format!("/large/{n}")).await.unwrap().unwrap().value.len(), 1_000);
    }
    assert_ne!(residency(&store).await, Residency::Whole);
    assert!(store.stats().await.unwrap().resident_bytes <= 100_000);
    assert_eq!(store.list("/large/").await.unwrap().len(), 300);
    let page = store.scan(Scan::prefix("/large/")).await.unwrap();
    assert_eq!(page.entries.len(), 300);
    // What was read is kept, and follows what is written.
    for round in 0..5 {
        store.set("/large/7", value(round)).await.unwrap();
        assert_eq!(store.get("/large/7").await.unwrap().unwrap().value, value(round));
        assert_eq!(store.version("/large/7").await.unwrap(), round + 2);
    }
    store.delete("/large/7").await.unwrap();
    assert_eq!(store.get("/large/7").await.unwrap(), None);
    assert!(!store.exists("/large/7").await.unwrap());
    for n in 0..300 {
        store.set(&format!("/large/{n}"), vec![]).await.unwrap();
    }
    store.close().await.unwrap();
    let store = options().resident_bytes(100_000).open(&path).await.unwrap();
    assert_eq!(settled(&store).await, Residency::Whole);
    assert!(store.verify().await.unwrap().is_intact());
}

// What another process acknowledged is read at once, whatever is in memory here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_handle_acknowledged_is_read_at_once() {
    for bytes in [64 << 20, 2_000, 0] {
        let folder = folder();
        let path = folder.path().join("state.db");
        let one = Subject::open(options().unshared().resident_bytes(bytes), &path).await;
        let two = Subject::open(options().unshared().resident_bytes(bytes), &path).await;
        let (first, second) = (one.shared(), two.shared());
        for n in 1..=500_u64 {
            let (writer, reader) = if n % 3 == 0 { (&first, &second) } else { (&second, &first) };
            assert_eq!(writer.set("/a", value(n)).await.unwrap(), n);
            assert_eq!(reader.version("/a").await.unwrap(), n);
            assert_eq!(reader.get("/a").await.unwrap().unwrap().value, value(n));
            assert_eq!(reader.head().await.unwrap().seq, n.into());
            assert_eq!(reader.list("/").await.unwrap().len(), 1);
        }
        one.audit().await;
    }
}

// A reader that is always ready must let others run.
#[tokio::test]
async fn a_task_that_only_reads_lets_others_run() {
    let subject = Subject::disk().await;
    let store = subject.shared();
    store.set("/a", value(0)).await.unwrap();
    let reader = store.clone();
    let reads = tokio::spawn(async move {
        while reader.version("/a").await.unwrap() < 2 {
            reader.get("/a").await.unwrap();
        }
    });
    tokio::task::yield_now().await;
    store.set("/a", value(1)).await.unwrap();
    tokio::time::timeout(PATIENCE, reads).await.unwrap().unwrap();
    subject.audit().await;
}

// All pages of a scan are the state of the first, though it is in memory that writers change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_scan_stay_of_one_state_while_it_is_written() {
    for subject in Subject::each().await {
        let store = subject.shared();
        for n in 0..10 {
            store.set(&format!("/k/{n}"), value(0)).await.unwrap();
        }
        let mut page = store.scan(Scan::prefix("/k/").limit(3)).await.unwrap();
        let (cursor, mut entries) = (page.cursor, page.entries);
        while let Some(next) = page.next {
            store.set("/k/0", value(1)).await.unwrap();
            store.delete("/k/9").await.unwrap();
            store.set("/k/95", value(1)).await.unwrap();
            page = store.scan(next).await.unwrap();
            assert_eq!(page.cursor, cursor);
            entries.extend(page.entries);
        }
        assert_eq!(entries.len(), 10);
        assert!(entries.iter().all(|entry| entry.value == value(0)));
        subject.audit().await;
    }
}
