//! A watch is complete and in order, resumes from any position, or ends with its cause.

use std::sync::Arc;
use std::time::Duration;

use tokio_stream::StreamExt;
use univrs_state::log::{Change, ChangeKind, Hash};
use univrs_state::watch::SnapshotEvent;
use univrs_state::{
    Batch, Cursor, LocalStore, MemoryStore, Meta, Result, Seq, StateError, StateStore, WatchEvent,
    WatchStream,
};

use crate::support::audit::fold;
use crate::support::child::Child;
use crate::support::{
    PATIENCE, STORE, Store, Subject, Ticks, audit, folder, log_of, on_every_backend, options, seq, value,
};

on_every_backend!(
    an_event_says_what_happened,
    a_watch_starts_now,
    a_watch_resumes_from_a_printed_cursor_after_a_restart,
    the_position_advances_while_nothing_matches,
    the_cursor_stands_behind_whole_commits,
    commits_come_whole_and_without_what_does_not_match,
    a_watch_that_waits_is_woken,
    a_reader_that_never_reads_blocks_nobody,
    a_watch_that_is_dropped_is_forgotten,
    a_watch_from_inside_a_commit_delivers_all_of_it,
    waiting_may_be_given_up_at_any_time,
    every_watch_is_a_stream,
    every_watch_is_a_stream_of_results,
    a_combinator_passes_on_the_cause_of_the_end,
    what_is_rare_in_a_long_log_is_delivered_whole_and_with_what_it_replaced,
);

/// All events up to the head.
async fn drain(watch: &mut WatchStream, store: &impl StateStore) -> Vec<WatchEvent> {
    let end = store.head().await.unwrap().seq;
    let mut events = Vec::new();
    while watch.cursor().seq() < end {
        // Where nothing matches any more, only the cursor moves; it shows at the next look.
        match tokio::time::timeout(Duration::from_millis(1), watch.try_next()).await {
            Ok(event) => events.push(event.unwrap().unwrap()),
            Err(_) => tokio::task::yield_now().await,
        }
    }
    events
}

// Where few changes match, the storage looks for them instead of handing out all.
async fn what_is_rare_in_a_long_log_is_delivered_whole_and_with_what_it_replaced<S: Store>(
    store: S,
    _: &Subject,
) {
    for n in 0..400_u64 {
        let mut batch = Batch::new();
        for other in 0..10 {
            batch = batch.set(format!("/many/{other}"), value(n));
        }
        if n % 3 == 0 {
            batch = batch.set(format!("/few/{}", n % 7), value(n));
        }
        if n % 30 == 0 {
            batch = batch.delete("/few/0").set("/few/last", value(n)).set("/few/last", "again");
        }
        store.commit(batch.set("/many/end", value(n))).await.unwrap();
    }
    store.set("/many/end", value("end")).await.unwrap();
    let log = log_of(&store).await;
    for pattern in ["/few/*", "/few/last", "/*/last", "/none/*"] {
        let mut watch = store.watch_after(pattern, Seq::ZERO.into()).unwrap();
        let events = drain(&mut watch, &store).await;
        let matches: univrs_state::pattern::Pattern = pattern.parse().unwrap();
        let due: Vec<&Change> = log.iter().filter(|change| matches.matches(&change.key)).collect();
        assert_eq!(events.len(), due.len(), "{pattern}");
        for (event, change) in events.iter().zip(due) {
            assert_eq!(
                (event.seq, event.commit_seq, &*event.key),
                (change.seq, change.commit_seq, &*change.key)
            );
            let before =
                (change.prev > Seq::ZERO).then(|| &log[usize::try_from(change.prev.as_u64()).unwrap() - 1]);
            assert_eq!(event.old_value.as_deref(), before.and_then(|before| before.value.as_deref()));
        }
        assert_eq!(watch.cursor().head(), Some(store.head().await.unwrap()), "{pattern}");
    }
}

async fn an_event_says_what_happened<S: Store>(store: S, _: &Subject) {
    let mut watch = store.watch("/a").unwrap();
    assert_eq!(watch.pattern(), "/a");
    store.set("/a", value(1)).await.unwrap();
    let meta = Meta::new().actor("me");
    store.commit(Batch::new().set("/b", "x").set("/a", "2").delete("/a").meta(meta.clone())).await.unwrap();
    store.set("/a", value(3)).await.unwrap();
    let [created, updated, deleted, again] = [
        watch.next().await.unwrap(),
        watch.next().await.unwrap(),
        watch.next().await.unwrap(),
        watch.next().await.unwrap(),
    ];
    let shown = |event: &WatchEvent| {
        let text = |value: &Option<Vec<u8>>| value.clone().map(|value| String::from_utf8(value).unwrap());
        (
            event.event_type,
            text(&event.old_value),
            text(&event.new_value),
            event.new_version,
            event.seq.as_u64(),
        )
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(shown(&created), (ChangeKind::Created, None, text("1"), 1, 1));
    assert_eq!(shown(&updated), (ChangeKind::Updated, text("1"), text("2"), 2, 3));
    assert_eq!(shown(&deleted), (ChangeKind::Deleted, text("2"), None, 0, 4));
    assert_eq!(shown(&again), (ChangeKind::Created, None, text("3"), 4, 5));
    assert_eq!((updated.commit_seq, updated.meta.as_deref()), (seq(4), Some(&meta)));
    assert!(updated.at > created.at && updated.at == deleted.at);
    assert!([&created, &updated, &deleted, &again].iter().all(|event| !event.erased && event.key == "/a"));
    assert!(!format!("{:?}", store.get("/a").await).contains("[51]"), "Debug shows no value");
}

async fn a_watch_starts_now<S: Store>(store: S, _: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    let mut watch = store.watch("/*").unwrap();
    assert_eq!(watch.cursor().head(), Some(store.head().await.unwrap()));
    store.set("/a", value(2)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().seq, seq(2));
}

async fn a_watch_resumes_from_a_printed_cursor_after_a_restart<S: Store>(store: S, subject: &Subject) {
    let mut watch = store.watch("/a/*").unwrap();
    for n in 0..10 {
        store.commit(Batch::new().set(format!("/a/{}", n % 3), value(n)).set("/b", value(n))).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(watch.next().await.unwrap());
    }
    let printed = watch.cursor().to_string();
    drop(watch);
    let again = subject.reopened().await;
    let cursor: Cursor = printed.parse().unwrap();
    let mut watch = again.shared().watch_after("/a/*", cursor).unwrap();
    again.shared().delete("/a/0").await.unwrap();
    seen.extend(drain(&mut watch, &again.shared()).await);
    let expected: Vec<u64> = (0..10).map(|n| 2 * n + 1).chain([21]).collect();
    assert_eq!(seen.iter().map(|event| event.seq.as_u64()).collect::<Vec<_>>(), expected);
    assert_eq!(seen.last().unwrap().old_value.as_deref(), Some(&b"9"[..]));
    again.audit().await;
}

async fn the_position_advances_while_nothing_matches<S: Store>(store: S, subject: &Subject) {
    let mut watch = store.watch("/none/*").unwrap();
    for n in 0..50 {
        store.set("/a", value(n)).await.unwrap();
    }
    assert_eq!(drain(&mut watch, &store).await, []);
    assert_eq!(watch.cursor().head(), Some(store.head().await.unwrap()));
    let stats = subject.local.stats().await.unwrap();
    assert_eq!((stats.watchers[0].position, stats.watchers[0].lag), (seq(50), 0));
}

async fn the_cursor_stands_behind_whole_commits<S: Store>(store: S, _: &Subject) {
    let mut watch = store.watch("/a/*").unwrap();
    store.set("/out", value(1)).await.unwrap();
    store.commit(Batch::new().set("/a/1", "").set("/out", "").set("/a/2", "").set("/out", "")).await.unwrap();
    store.commit(Batch::new().set("/out", "").set("/a/3", "")).await.unwrap();
    store.set("/out", value(2)).await.unwrap();
    let mut cursors = Vec::new();
    for _ in 0..3 {
        watch.next().await.unwrap();
        cursors.push(watch.cursor().seq().as_u64());
    }
    assert_eq!(cursors[0], 0, "half a commit is none: resuming delivers it again");
    assert_eq!(cursors[1], 5);
    assert!(cursors[2] >= 7);
    let mut resumed = store.watch_after("/a/*", seq(cursors[0]).into()).unwrap();
    assert_eq!(resumed.next().await.unwrap().key, "/a/1");
}

async fn commits_come_whole_and_without_what_does_not_match<S: Store>(store: S, _: &Subject) {
    let mut commits = store.watch("/a/*").unwrap().commits();
    store.commit(Batch::new().set("/a/1", "").set("/out", "").set("/a/2", "")).await.unwrap();
    store.set("/out", value(1)).await.unwrap();
    store.set("/a/3", value(1)).await.unwrap();
    let keys = |events: Vec<WatchEvent>| events.into_iter().map(|event| event.key).collect::<Vec<_>>();
    assert_eq!(keys(commits.try_next().await.unwrap().unwrap()), ["/a/1", "/a/2"]);
    assert!(commits.cursor().seq() >= seq(3));
    assert_eq!(keys(commits.next().await.unwrap()), ["/a/3"]);
    assert_eq!(commits.error(), None);
}

#[tokio::test]
async fn the_commits_of_a_watch_that_ended_say_why() {
    let store = MemoryStore::new();
    let mut commits = store.watch("/a").unwrap().commits();
    LocalStore::close(&store).await.unwrap();
    let cause = commits.try_next().await.unwrap_err();
    assert_eq!((commits.error(), &cause), (Some(&cause), &StateError::Closed));
}

async fn a_watch_that_waits_is_woken<S: Store>(store: S, _: &Subject) {
    let waiting: Vec<_> = (0..20)
        .map(|n| {
            let mut watch = store.watch(if n % 2 == 0 { "/a" } else { "/**/b" }).unwrap();
            tokio::spawn(async move { watch.try_next().await.unwrap().unwrap() })
        })
        .collect();
    store.set("/other", value(1)).await.unwrap();
    store.commit(Batch::new().set("/a", "1").set("/x/b", "1")).await.unwrap();
    for waiting in waiting {
        let event = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        assert!(event.seq >= seq(2));
    }
}

async fn a_reader_that_never_reads_blocks_nobody<S: Store>(store: S, _: &Subject) {
    let mut slow = store.watch("/*").unwrap();
    let mut started = store.watch("/*").unwrap();
    store.set("/a", value(0)).await.unwrap();
    started.next().await.unwrap();
    for n in 1..2_500 {
        store.set("/a", value(n)).await.unwrap();
    }
    for (watch, first) in [(&mut slow, 1), (&mut started, 2)] {
        let events = drain(watch, &store).await;
        assert!(events.iter().map(|event| event.seq.as_u64()).eq(first..=2_500), "every one, in order");
        assert!(events.iter().skip(1).all(|event| event.old_value.is_some()));
    }
}

async fn a_watch_that_is_dropped_is_forgotten<S: Store>(store: S, subject: &Subject) {
    let watching = async || subject.local.stats().await.unwrap().watchers.len();
    let (one, two) = (store.watch("/a").unwrap(), store.watch("/b").unwrap().commits());
    assert_eq!(watching().await, 2);
    drop(one);
    assert_eq!(watching().await, 1);
    drop(two);
    assert_eq!(watching().await, 0);
    let mut ended = store.watch_after("/a", seq(99).into()).unwrap();
    ended.try_next().await.unwrap_err();
    drop(ended);
    assert_eq!(watching().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_does_not_keep_the_store_open() {
    for subject in Subject::each().await {
        let store = subject.shared();
        let mut watch = store.watch("/none").unwrap();
        let waiting = tokio::spawn(async move { (watch.try_next().await, watch.cursor()) });
        store.set("/a", value(1)).await.unwrap();
        let mut unread = store.watch("/*").unwrap();
        drop(store);
        drop(subject);
        let (end, cursor) = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        assert_eq!(end, Err(StateError::Closed));
        assert!(cursor.seq() <= seq(1));
        assert_eq!(unread.try_next().await, Err(StateError::Closed));
        assert_eq!(unread.error(), Some(&StateError::Closed));
        assert_eq!(unread.try_next().await, Ok(None));
    }
}

async fn a_watch_from_inside_a_commit_delivers_all_of_it<S: Store>(store: S, _: &Subject) {
    store.commit(Batch::new().set("/a", "1").set("/b", "1").set("/c", "1")).await.unwrap();
    let mut watch = store.watch_after("/*", seq(2).into()).unwrap();
    assert_eq!(drain(&mut watch, &store).await.len(), 3);
    let mut watch = store.watch_after("/c", "1".parse::<Cursor>().unwrap()).unwrap();
    assert_eq!(drain(&mut watch, &store).await.len(), 1);
}

async fn waiting_may_be_given_up_at_any_time<S: Store>(store: S, _: &Subject) {
    let mut watch = store.watch("/*").unwrap();
    let mut seen = Vec::new();
    for n in 0..300 {
        store.set("/a", value(n)).await.unwrap();
        // Polled once and given up, ready or not.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let next = Box::pin(watch.try_next());
        if let std::task::Poll::Ready(event) = { next }.as_mut().poll(&mut context) {
            seen.push(event.unwrap().unwrap().seq.as_u64());
        }
    }
    seen.extend(drain(&mut watch, &store).await.iter().map(|event| event.seq.as_u64()));
    assert!(seen.into_iter().eq(1..=300));
}

async fn every_watch_is_a_stream<S: Store>(store: S, _: &Subject) {
    for n in 0..5 {
        store.commit(Batch::new().set("/a", value(n)).set("/b", value(n))).await.unwrap();
    }
    let watch = store.watch_after("/*", Seq::ZERO.into()).unwrap();
    let seqs: Vec<u64> = StreamExt::map(watch, |event| event.seq.as_u64()).take(10).collect().await;
    assert!(seqs.into_iter().eq(1..=10));
    let commits = store.watch_after("/*", Seq::ZERO.into()).unwrap().commits();
    let sizes: Vec<usize> = StreamExt::map(commits, |events| events.len()).take(5).collect().await;
    assert_eq!(sizes, [2; 5]);
}

async fn every_watch_is_a_stream_of_results<S: Store>(store: S, subject: &Subject) {
    let mut due = Vec::new();
    for n in 0..5 {
        store.commit(Batch::new().set("/a", value(n)).set("/b", value(n))).await.unwrap();
        due.push([seq(2 * n + 1), seq(2 * n + 2)]);
    }
    let start = Seq::ZERO.into();
    let events = store.watch_after("/*", start).unwrap().results().map(|event| event.map(|event| event.seq));
    let seqs: Result<Vec<Seq>> = StreamExt::take(events, 10).collect().await;
    assert_eq!(seqs.unwrap(), due.concat());
    let commits = store.watch_after("/*", start).unwrap().commits().results();
    let commits: Result<Vec<Vec<WatchEvent>>> = StreamExt::take(commits, 5).collect().await;
    let seqs = commits.unwrap().into_iter().map(|events| events.iter().map(|e| e.seq).collect::<Vec<_>>());
    assert!(seqs.eq(due));
    let mut snapshot = store.watch_with_snapshot("/*").unwrap().results();
    let kind = |item| match item {
        Some(Ok(SnapshotEvent::Entry(entry))) => entry.key,
        Some(Ok(SnapshotEvent::End(cursor))) => cursor.seq().to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!([snapshot.next().await, snapshot.next().await].map(kind), ["/a", "/b"]);
    assert_eq!(kind(snapshot.next().await), "10");
    assert_eq!((snapshot.watch().pattern(), snapshot.watch().cursor().unwrap().seq()), ("/*", seq(10)));

    let mut waiting = store.watch("/*").unwrap().results();
    store.set("/c", value(1)).await.unwrap();
    assert_eq!(waiting.next().await.unwrap().unwrap().key, "/c");
    let waiting =
        tokio::spawn(async move { (waiting.next().await, waiting.next().await, waiting.into_watch()) });
    subject.local.close().await.unwrap();
    let (cause, end, watch) = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    assert_eq!((cause, end), (Some(Err(StateError::Closed)), None), "the cause, and then the end");
    assert_eq!((watch.error(), watch.cursor().seq()), (Some(&StateError::Closed), seq(11)));
    assert_eq!(snapshot.next().await.unwrap().map(|item| format!("{item:?}")), Err(StateError::Closed));
    assert_eq!(snapshot.next().await, None);
}

// A program that maps the bare events sees no cause, however a watch ends.
async fn a_combinator_passes_on_the_cause_of_the_end<S: Store>(store: S, _: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    let beyond = || store.watch_after("/*", seq(7).into()).unwrap();
    let mut bare = StreamExt::map(beyond(), |event| event.key);
    assert_eq!(bare.next().await, None, "the shape of older programs");
    let is_told = |error: &StateError| matches!(error, StateError::CursorDiverged(_));
    let mut keys = beyond().results().map(|event| event.map(|event| event.key));
    assert!(keys.next().await.unwrap().is_err_and(|error| is_told(&error)));
    assert_eq!(keys.next().await, None);
    let mut sizes = beyond().commits().results().map(|events| events.map(|events| events.len()));
    assert!(sizes.next().await.unwrap().is_err_and(|error| is_told(&error)));
    assert_eq!(sizes.next().await, None);
    let all: Result<Vec<WatchEvent>> = beyond().results().collect().await;
    assert!(all.is_err_and(|error| is_told(&error)), "a collection of results is an error");
}

#[tokio::test]
async fn a_copy_that_went_on_from_an_older_state_diverges() {
    let folder = folder();
    let (path, copy) = (folder.path().join("state.db"), folder.path().join("copy.db"));
    let subject = Subject::open(options(), &path).await;
    subject.shared().set("/a", value(1)).await.unwrap();
    let early = subject.shared().watch("/*").unwrap().cursor();
    subject.local.close().await.unwrap();
    std::fs::copy(&path, &copy).unwrap();
    let subject = Subject::open(options(), &path).await;
    subject.shared().set("/a", value(2)).await.unwrap();
    let late = subject.shared().watch("/*").unwrap().cursor();
    subject.local.close().await.unwrap();

    let restored = Subject::open(options().clock(Ticks::from(crate::support::START * 2)), &copy).await;
    let error = restored.shared().watch_after("/*", late).unwrap().try_next().await.unwrap_err();
    assert!(matches!(error, StateError::CursorDiverged(_)), "not there yet: {error}");
    restored.shared().set("/a", value("other")).await.unwrap();
    restored.shared().set("/a", value("other")).await.unwrap();
    let error = restored.shared().watch_after("/*", late).unwrap().try_next().await.unwrap_err();
    assert!(matches!(error, StateError::CursorDiverged(_)), "another history: {error}");
    let mut watch = restored.shared().watch_after("/*", early).unwrap();
    assert_eq!(drain(&mut watch, &restored.shared()).await.len(), 2, "at the fork resuming is right");
    restored.audit().await;
}

#[tokio::test]
async fn wildcards_pass_over_reserved_keys_unless_they_name_them() {
    // Programs cannot write such keys, so a log that has one is replayed.
    let source = Subject::memory();
    source.shared().commit(Batch::new().set("/a", "1").set("/b", "1").set("/.univrsal", "1")).await.unwrap();
    let mut log = log_of(&source.shared()).await;
    let mut hash = univrs_state::Head::genesis(STORE).hash;
    for change in &mut log {
        if &*change.key == "/b" {
            // Its value is gone: its hash cannot be made here.
            *change = Change { key: "/.univrs/c".into(), value: None, salt: None, ..change.clone() };
        }
        change.hash = change.chained_onto(hash);
        hash = change.hash;
    }
    let store = MemoryStore::replay(STORE, log).unwrap();
    let seen = async |pattern: &str| -> Vec<String> {
        let mut watch = store.watch_after(pattern, Seq::ZERO.into()).unwrap();
        drain(&mut watch, &store).await.into_iter().map(|event| event.key).collect()
    };
    for pattern in ["/*", "/**", "/.*", "/**/c", "/*/c"] {
        assert!(!seen(pattern).await.contains(&"/.univrs/c".to_owned()), "{pattern}");
    }
    assert_eq!(seen("/*").await, ["/a", "/.univrsal"]);
    for pattern in ["/.univrs/*", "/.univrs/c", "/.univrs/**"] {
        assert_eq!(seen(pattern).await, ["/.univrs/c"], "{pattern}");
    }
    assert_eq!(store.list("/").await.unwrap(), ["/.univrsal", "/a"]);
    assert_eq!(store.list("/.univrs/").await.unwrap(), ["/.univrs/c"]);
    let mut watch = store.watch_after("/.univrs/c", Seq::ZERO.into()).unwrap();
    assert!(watch.next().await.unwrap().erased);
}

#[tokio::test]
async fn a_log_that_contradicts_itself_is_no_store() {
    type Alter<'a> = &'a dyn Fn(&mut Vec<Change>);
    let source = Subject::memory();
    source.shared().commit(Batch::new().set("/a", "1").set("/b", "1")).await.unwrap();
    source.shared().set("/a", value(2)).await.unwrap();
    let log = log_of(&source.shared()).await;
    assert_eq!(fold(&log).len(), 2);
    let altered = |alter: Alter| {
        let mut log = log.clone();
        alter(&mut log);
        MemoryStore::replay(STORE, log)
    };
    assert!(altered(&|_| ()).is_ok());
    let alterations: [Alter; 7] = [
        &|log| log[0].value = Some(Arc::from(&b"x"[..])),
        &|log| log[1].key = "/c".into(),
        &|log| log[2].hash = Hash::from_bytes([0; 32]),
        &|log| drop(log.remove(0)),
        &|log| log.swap(0, 1),
        &|log| log.truncate(1),
        &|log| log[2].meta = Some(Arc::new(Meta::new().actor("somebody else"))),
    ];
    for (n, alter) in alterations.iter().enumerate() {
        assert!(matches!(altered(alter), Err(StateError::Corrupted(_))), "alteration {n}");
    }
    let other = univrs_state::log::StoreId::from_bytes([1; 16]);
    assert!(MemoryStore::replay(other, log.clone()).is_err(), "the log of another store");
    let copy = MemoryStore::replay(STORE, log).unwrap();
    assert_eq!(audit(&crate::support::Local::Memory(copy)).await, source.audit().await);
}

// A page of a watch carries the values before, which its bytes once left out of account: deleting
// many large values cost a watcher all of them at once.
#[tokio::test]
async fn the_memory_of_a_watch_is_bounded_also_for_old_values() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let subject = Subject::open(options(), &path).await;
    let store = subject.shared();
    for n in 0..100 {
        store.set(&format!("/{n}"), vec![7; 1 << 20]).await.unwrap();
    }
    for n in 0..50 {
        store.delete(&format!("/{n}")).await.unwrap();
    }
    let at_once = (50..100).fold(Batch::new(), |batch, n| batch.delete(format!("/{n}")));
    store.commit(at_once).await.unwrap();
    let mut child = Child::start();
    child.ask(&format!("open\t{}", path.display())).unwrap();
    let peak: u64 = child.ask("memory of a watch").unwrap().parse().unwrap();
    assert!(peak < 64 << 10, "{peak} KiB for a page of 4 MiB");
    child.kill();
    subject.audit().await;
}
