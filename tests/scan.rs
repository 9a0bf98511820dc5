//! A scan in pages is one state, whatever is written between its pages.

use univrs_state::{Batch, Entry, Limits, Scan, StateError, StateStore};

use crate::support::audit::{entries, fold};
use crate::support::{Seeded, Store, Subject, on_every_backend, options, seq, value};

on_every_backend!(
    pages_are_as_long_as_asked_and_end_where_the_entries_end,
    a_scan_starts_after_a_key,
    the_pages_of_a_scan_are_one_state_while_writes_go_on,
    any_writes_between_pages_leave_the_scan_as_it_was,
    a_watch_from_the_cursor_of_a_page_misses_nothing,
    a_page_of_large_values_ends_early,
    a_page_of_nothing_or_of_too_much_is_refused,
);

fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

async fn fill(store: &impl StateStore, count: usize) {
    let batch = (0..count).fold(Batch::new(), |batch, n| batch.set(format!("/k/{n:04}"), format!("v{n}")));
    store.commit(batch.set("/j", "before").set("/k", "before").set("/k0", "after")).await.unwrap();
}

async fn pages_are_as_long_as_asked_and_end_where_the_entries_end<S: Store>(store: S, _: &Subject) {
    fill(&store, 7).await;
    for limit in 1..=9 {
        let mut next = Some(Scan::prefix("/k/").limit(limit));
        let mut sizes = Vec::new();
        while let Some(scan) = next {
            let page = store.scan(scan).await.unwrap();
            assert_eq!(page.cursor.head(), Some(store.head().await.unwrap()));
            sizes.push(page.entries.len());
            next = page.next;
        }
        assert_eq!(sizes.iter().sum::<usize>(), 7, "limit {limit}");
        assert_eq!(sizes.len(), 7_usize.div_ceil(limit), "no page is empty: {sizes:?}");
    }
    assert!(store.scan(Scan::prefix("/none/")).await.unwrap().next.is_none());
}

async fn a_scan_starts_after_a_key<S: Store>(store: S, _: &Subject) {
    fill(&store, 4).await;
    let scan = async |after: &str| {
        keys(&store.scan(Scan::prefix("/k/").after(after)).await.unwrap().entries).join(" ")
    };
    assert_eq!(scan("/k/0001").await, "/k/0002 /k/0003");
    assert_eq!(scan("/k/00015").await, "/k/0002 /k/0003", "a key that does not exist");
    assert_eq!(scan("").await, "/k/0000 /k/0001 /k/0002 /k/0003");
    assert_eq!(scan("/j").await, "/k/0000 /k/0001 /k/0002 /k/0003", "before the prefix");
    for after in ["/k/0003", "/k0", "/z", "\u{10FFFF}"] {
        assert_eq!(scan(after).await, "", "{after}");
    }
}

async fn the_pages_of_a_scan_are_one_state_while_writes_go_on<S: Store>(store: S, _: &Subject) {
    fill(&store, 10).await;
    let before = entries(&store, "/k/").await;
    let first = store.scan(Scan::prefix("/k/").limit(3)).await.unwrap();
    store.delete("/k/0004").await.unwrap();
    store.set("/k/0005", value("changed")).await.unwrap();
    store.set("/k/0005", value("changed twice")).await.unwrap();
    store.set("/k/00055", value("created")).await.unwrap();
    store.commit(Batch::new().delete("/k/0006").set("/k/0006", "a second life")).await.unwrap();
    store.commit(Batch::new().set("/k/brief", "x").delete("/k/brief")).await.unwrap();
    store.delete("/k/0009").await.unwrap();
    let mut pages = vec![first];
    while let Some(scan) = pages.last().unwrap().next.clone() {
        pages.push(store.scan(scan).await.unwrap());
    }
    assert!(pages.iter().all(|page| page.cursor == pages[0].cursor), "all pages are of one position");
    let scanned: Vec<Entry> = pages.into_iter().flat_map(|page| page.entries).collect();
    assert_eq!(scanned, before);
    let now = entries(&store, "/k/").await;
    assert_eq!(keys(&now).len(), 9);
}

async fn any_writes_between_pages_leave_the_scan_as_it_was<S: Store>(store: S, _: &Subject) {
    let seed = 11;
    let random = Seeded::from(seed);
    for round in 0..12 {
        for _ in 0..20 {
            write_something(&store, &random).await;
        }
        let before = entries(&store, "/r/").await;
        let mut next = Some(Scan::prefix("/r/").limit(2));
        let mut scanned = Vec::new();
        while let Some(scan) = next {
            let page = store.scan(scan).await.unwrap();
            scanned.extend(page.entries);
            next = page.next;
            write_something(&store, &random).await;
        }
        assert_eq!(scanned, before, "round {round} of seed {seed}");
    }
}

async fn write_something(store: &impl StateStore, random: &Seeded) {
    let key = format!("/r/{}", random.below(16));
    match random.below(5) {
        0 | 1 => store.delete(&key).await.unwrap(),
        2 => drop(store.commit(Batch::new().delete(&key).set(&key, "x").set("/r/x", "y")).await.unwrap()),
        _ => drop(store.set(&key, value(random.below(100))).await.unwrap()),
    }
}

async fn a_watch_from_the_cursor_of_a_page_misses_nothing<S: Store>(store: S, subject: &Subject) {
    fill(&store, 5).await;
    let page = store.scan(Scan::prefix("/k/").limit(2)).await.unwrap();
    store.delete("/k/0003").await.unwrap();
    store.set("/k/0009", value(9)).await.unwrap();
    let mut watch = store.watch_after("/k/*", page.cursor).unwrap();
    let events = [watch.try_next().await.unwrap().unwrap(), watch.try_next().await.unwrap().unwrap()];
    assert_eq!((events[0].seq, events[1].seq), (seq(9), seq(10)));
    assert_eq!(events[0].old_value.as_deref(), Some(&b"v3"[..]));
    let log = subject.audit().await;
    assert_eq!(fold(&log[..8]).len(), 8, "the page's state is the fold up to its cursor");
}

async fn a_page_of_large_values_ends_early<S: Store>(store: S, _: &Subject) {
    for n in 0..6 {
        store.set(&format!("/big/{n}"), vec![1; 1 << 20]).await.unwrap();
    }
    let page = store.scan(Scan::prefix("/big/")).await.unwrap();
    assert_eq!(page.entries.len(), 3, "4 MiB, keys counted");
    let page = store.scan(page.next.unwrap()).await.unwrap();
    assert_eq!((page.entries.len(), page.next), (3, None));
}

async fn a_page_of_nothing_or_of_too_much_is_refused<S: Store>(store: S, _: &Subject) {
    fill(&store, 2).await;
    let error = store.scan(Scan::prefix("/").limit(0)).await.unwrap_err();
    assert!(matches!(error, StateError::InvalidArgument(_)), "{error}");
    let most = Limits::default().page_entries;
    assert_eq!(store.scan(Scan::prefix("/").limit(most)).await.unwrap().entries.len(), 5);
    let error = store.scan(Scan::prefix("/").limit(most + 1)).await.unwrap_err();
    let StateError::LimitExceeded(exceeded) = &error else { panic!("{error}") };
    assert_eq!((exceeded.limit, exceeded.actual, exceeded.unit), (most, most + 1, "entries"));
}

#[tokio::test]
async fn a_page_ends_at_the_limit_of_the_store() {
    let mut limits = Limits::default();
    limits.page_entries = 3;
    for subject in Subject::each_with(|| options().limits(limits.clone())).await {
        let store = subject.shared();
        fill(&store, 7).await;
        let page = store.scan(Scan::prefix("/k/")).await.unwrap();
        assert_eq!(keys(&page.entries), ["/k/0000", "/k/0001", "/k/0002"]);
        assert_eq!(entries(&store, "/k/").await.len(), 7);
        subject.audit().await;
    }
}

#[tokio::test]
async fn a_scan_of_another_store_or_of_a_lost_future_is_refused() {
    let [one, two, _] = Subject::each().await;
    fill(&one.shared(), 5).await;
    let page = one.shared().scan(Scan::prefix("/k/").limit(2)).await.unwrap();
    let error = two.shared().scan(page.next.clone().unwrap()).await.unwrap_err();
    assert!(matches!(error, StateError::CursorDiverged(_)), "the same id, but no such position: {error}");
    let other = Subject::memory_with(univrs_state::Options::new());
    fill(&other.shared(), 9).await;
    let error = other.shared().scan(page.next.unwrap()).await.unwrap_err();
    assert!(matches!(error, StateError::CursorDiverged(_)) && error.to_string().contains("store"), "{error}");
    one.audit().await;
    other.audit().await;
}
