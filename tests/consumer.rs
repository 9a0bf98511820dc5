//! A consumer gets every matching commit, goes on where it was, and has effects and position recorded together.

use std::sync::Arc;

use univrs_state::archive::Export;
use univrs_state::consumer::{Consumed, Consumer};
use univrs_state::history::Point;
use univrs_state::log::Change;
use univrs_state::{
    Batch, Cursor, LocalStore, MemoryStore, Meta, Options, Result, Seq, SqliteStore, StateError, StateStore,
    WithMeta,
};

use crate::support::{Store, Subject, folder, log_of, on_every_backend, seq, value};

on_every_backend!(
    a_consumer_gets_the_matching_changes_of_whole_commits_and_goes_on_where_it_was,
    a_new_consumer_starts_where_it_is_told_and_an_old_one_where_it_was,
    effects_and_position_are_one_commit,
    a_commit_whose_effects_are_refused_comes_again,
    a_batch_without_writes_moves_the_position_in_memory_and_its_conditions_are_judged,
    who_is_taken_over_is_fenced,
    who_is_reset_or_removed_is_fenced,
    what_is_delivered_and_not_acknowledged_comes_again,
    a_commit_that_is_processed_must_be_the_next_one,
    effects_that_are_given_up_at_any_moment_are_there_once_and_in_order,
    a_commit_id_makes_no_commit_without_a_position,
    consumers_are_listed_with_how_far_they_are,
    a_position_is_in_the_log_with_who_opened_the_consumer,
    no_consumer_gets_positions_of_consumers,
    consumers_go_with_an_export_and_a_replay,
);

pub(crate) const KEY: &str = "/.univrs/consumers/c";

pub(crate) async fn open(store: &Arc<dyn LocalStore>, pattern: &str) -> Consumer {
    store.consumer("c").pattern(pattern).open().await.unwrap()
}

/// The next commit, which is there.
pub(crate) async fn next(consumer: &mut Consumer) -> Consumed {
    consumer.next().await.unwrap().unwrap()
}

pub(crate) fn keys(commit: &Consumed) -> Vec<&str> {
    commit.events.iter().map(|event| event.key.as_str()).collect()
}

/// Says at which position each commit ended.
pub(crate) fn noting(commit: &Consumed) -> Batch {
    Batch::new().set("/out", commit.cursor.seq().to_string())
}

/// What was noted, in order.
pub(crate) fn noted(log: &[Change]) -> Vec<u64> {
    let notes = log.iter().filter(|change| &*change.key == "/out");
    let text = |change: &Change| String::from_utf8(change.value.as_ref().unwrap().to_vec()).unwrap();
    notes.map(|change| text(change).parse().unwrap()).collect()
}

/// Where the commits with a key below `/in/` end.
pub(crate) fn due(log: &[Change]) -> Vec<u64> {
    let due = log.iter().filter(|change| change.key.starts_with("/in/"));
    let mut due: Vec<u64> = due.map(|change| change.commit_seq.as_u64()).collect();
    due.dedup();
    due
}

async fn recorded(store: &impl StateStore) -> u64 {
    let entry = store.get_json::<serde_json::Value>(KEY).await.unwrap().unwrap();
    entry["cursor"].as_str().unwrap().parse::<Cursor>().unwrap().seq().as_u64()
}

async fn a_consumer_gets_the_matching_changes_of_whole_commits_and_goes_on_where_it_was<S: Store>(
    store: S,
    subject: &Subject,
) {
    let local = subject.local.opened();
    store.commit(Batch::new().set("/a/1", "").set("/out", "").set("/a/2", "x")).await.unwrap();
    store.set("/out", value(1)).await.unwrap();
    store.delete("/a/2").await.unwrap();
    let mut consumer = open(&local, "/a/*").await;
    let first = next(&mut consumer).await;
    assert_eq!((keys(&first), first.cursor.seq()), (vec!["/a/1", "/a/2"], seq(3)));
    assert_eq!(first.cursor.head(), Some(store.changes(seq(0), 1).await.unwrap()[0].changes[2].head()));
    consumer.ack(&first).await.unwrap();
    let second = next(&mut consumer).await;
    assert_eq!((keys(&second), second.cursor.seq()), (vec!["/a/2"], seq(5)));
    assert_eq!(second.events[0].old_value.as_deref(), Some(&b"x"[..]));
    consumer.close().await.unwrap();

    // The second one was not acknowledged.
    let mut consumer = open(&local, "/a/*").await;
    assert_eq!((consumer.name(), consumer.pattern(), consumer.generation()), ("c", "/a/*", 2));
    let again = next(&mut consumer).await;
    assert_eq!(again, second);
    consumer.ack(again.cursor).await.unwrap();
    consumer.ack(again.cursor).await.unwrap();
    consumer.close().await.unwrap();
    let mut consumer = local.consumer("c").open().await.unwrap();
    let waiting = tokio::spawn(async move { next(&mut consumer).await });
    store.set("/a/3", value(1)).await.unwrap();
    assert_eq!(keys(&waiting.await.unwrap()), ["/a/3"]);
}

async fn a_new_consumer_starts_where_it_is_told_and_an_old_one_where_it_was<S: Store>(
    store: S,
    subject: &Subject,
) {
    let local = subject.local.opened();
    let mut heads = Vec::new();
    for n in 1..=4 {
        store.set("/a", value(n)).await.unwrap();
        heads.push(store.head().await.unwrap());
    }
    let mark = local.mark("m", seq(3).into()).await.unwrap();
    let time = store.at(seq(2).into()).await.unwrap().at().unwrap();
    let points: [(Point, Option<u64>); 7] = [
        (Point::Seq(Seq::ZERO), Some(1)),
        (seq(1).into(), Some(2)),
        (Cursor::new(subject.local.store_id(), heads[1]).into(), Some(3)),
        (heads[1].into(), Some(3)),
        (time.into(), Some(3)),
        ((&mark).into(), Some(4)),
        (Point::Head, None),
    ];
    for (n, (point, first)) in points.into_iter().enumerate() {
        let name = format!("c{n}");
        let request = || local.consumer(&name).pattern("/a").start(point);
        let mut consumer = request().open().await.unwrap();
        if let Some(first) = first {
            assert_eq!(next(&mut consumer).await.cursor.seq(), seq(first), "{point:?}");
        } else {
            store.set("/a", value("now")).await.unwrap();
            assert_eq!(next(&mut consumer).await.events[0].new_value, Some(value("now")));
        }
        // It goes on, wherever a new one would start.
        consumer.process(noting).await.unwrap_err();
        let mut again = local.consumer(&name).start(Point::Head).open().await.unwrap();
        if let Some(first) = first {
            assert_eq!(next(&mut again).await.cursor.seq(), seq(first), "{point:?}");
        }
    }
    let mut default = open(&local, "/a").await;
    assert_eq!(next(&mut default).await.cursor.seq(), seq(1));
}

async fn effects_and_position_are_one_commit<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    for n in 0..20 {
        let batch = Batch::new().set("/in/a", value(n)).set("/other", "");
        store.commit(if n % 3 == 0 { batch.set("/in/b", "") } else { batch }).await.unwrap();
        store.set("/other", value(n)).await.unwrap();
    }
    let mut consumer = open(&local, "/in/*").await;
    for n in 0..20 {
        if n % 7 == 6 {
            consumer = open(&local, "/in/*").await;
        }
        let processed = consumer.process(noting).await.unwrap().unwrap();
        let receipt = processed.receipt.unwrap();
        assert_eq!((consumer.cursor().seq() >= processed.cursor.seq(), receipt.versions.len()), (true, 2));
        assert_eq!(store.version(KEY).await.unwrap(), receipt.versions[1]);
        assert_eq!(seq(recorded(&store).await), processed.cursor.seq());
    }
    let log = log_of(&store).await;
    assert_eq!(noted(&log), due(&log));
    for change in log.iter().filter(|change| &*change.key == "/out") {
        let position = &log[usize::try_from(change.seq.as_u64()).unwrap()];
        assert_eq!((&*position.key, position.commit_seq), (KEY, change.commit_seq));
    }
}

/// Effects that are refused, and by which error.
type Refusal = (fn(&StateError) -> bool, Box<dyn Fn() -> Batch + Send>);

async fn a_commit_whose_effects_are_refused_comes_again<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    store.set("/in/a", value(1)).await.unwrap();
    store.set("/in/a", value(2)).await.unwrap();
    let mut consumer = open(&local, "/in/*").await;
    let head = store.head().await.unwrap();
    let large = vec![0; 2 << 20];
    let refused: [Refusal; 7] = [
        (
            |e| matches!(e, StateError::Rejected(_)),
            Box::new(|| Batch::new().expect("/in/a", 7).set("/out", "x")),
        ),
        (|e| matches!(e, StateError::Rejected(_)), Box::new(|| Batch::new().expect(KEY, 7).set("/out", "x"))),
        (
            |e| matches!(e, StateError::InvalidKey(_)),
            Box::new(|| Batch::new().set("/out", "x").set(KEY, "{}")),
        ),
        (
            |e| matches!(e, StateError::InvalidKey(_)),
            Box::new(|| Batch::new().delete("/.univrs/consumers/other")),
        ),
        (|e| matches!(e, StateError::InvalidKey(_)), Box::new(|| Batch::new().set("/.univrs/marks/m", "{}"))),
        (
            |e| matches!(e, StateError::LimitExceeded(_)),
            Box::new(move || Batch::new().set("/out", large.clone())),
        ),
        (
            |e| matches!(e, StateError::LimitExceeded(_)),
            // With the position it is one too many.
            Box::new(|| (0..10_000).fold(Batch::new(), |batch, _| batch.set("/out", "x"))),
        ),
    ];
    for (is_right, batch) in &refused {
        let error = consumer.process(|_| batch()).await.unwrap_err();
        assert!(is_right(&error), "{error}");
        assert_eq!((store.head().await.unwrap(), consumer.cursor().seq()), (head, seq(0)));
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let error = consumer.process(|_| panic!("it is in the plan")).await.unwrap_err();
    std::panic::set_hook(hook);
    assert!(matches!(error, StateError::Panicked(whose) if whose.contains("consumer")), "{error}");
    assert_eq!(store.head().await.unwrap(), head);

    assert_eq!(consumer.process(noting).await.unwrap().unwrap().cursor.seq(), seq(1));
    // What was refused can be passed over: it is delivered by `next`, too.
    consumer.process(|_| Batch::new().set(KEY, "")).await.unwrap_err();
    let commit = next(&mut consumer).await;
    assert_eq!(commit.cursor.seq(), seq(2));
    consumer.ack(&commit).await.unwrap();
}

async fn a_batch_without_writes_moves_the_position_in_memory_and_its_conditions_are_judged<S: Store>(
    store: S,
    subject: &Subject,
) {
    let local = subject.local.opened();
    for n in 1..=3 {
        store.set("/in/a", value(n)).await.unwrap();
    }
    let mut consumer = open(&local, "/in/*").await;
    let head = store.head().await.unwrap();
    let processed = consumer.process(|_| Batch::new()).await.unwrap().unwrap();
    assert_eq!((processed.cursor.seq(), processed.receipt), (seq(1), None));
    let unmet = consumer.process(|_| Batch::new().expect_absent("/in/a")).await.unwrap_err();
    assert!(matches!(unmet, StateError::Rejected(_)), "{unmet}");
    let processed = consumer.process(|_| Batch::new().expect("/in/a", 3)).await.unwrap().unwrap();
    assert_eq!((processed.cursor.seq(), processed.receipt), (seq(2), None));
    assert_eq!((store.head().await.unwrap(), consumer.cursor().seq()), (head, seq(2)));
    drop(consumer);
    let mut consumer = open(&local, "/in/*").await;
    consumer.process(|_| Batch::new()).await.unwrap();
    consumer.process(|_| Batch::new()).await.unwrap();
    assert_eq!(consumer.process(noting).await.unwrap().unwrap().cursor.seq(), seq(3));
    assert_eq!(recorded(&store).await, 3, "with the next effects");
}

async fn who_is_taken_over_is_fenced<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    for n in 1..=5 {
        store.set("/in/a", value(n)).await.unwrap();
    }
    let mut first = open(&local, "/in/*").await;
    first.process(noting).await.unwrap();
    let commit = next(&mut first).await;
    let before = store.head().await.unwrap();
    let mut second = open(&local, "/in/*").await;
    assert_eq!((first.generation(), second.generation()), (1, 2));
    assert_eq!(store.head().await.unwrap().seq, before.seq.next(), "one change takes it over");
    let head = store.head().await.unwrap();
    let fenced = first.ack(&commit).await.unwrap_err();
    assert!(matches!(&fenced, StateError::Fenced(why) if why.contains(KEY)), "{fenced}");
    assert!(fenced.to_string().contains("generation is 2") && !fenced.is_retryable());
    drop(first);

    let mut third = open(&local, "/in/*").await;
    assert_eq!(second.process(noting).await.unwrap_err().code(), "fenced");
    assert_eq!(second.process(|_| Batch::new()).await.unwrap_err().code(), "fenced");
    assert_eq!(second.process(|_| Batch::new().expect("/in/a", 5)).await.unwrap_err().code(), "fenced");
    assert_eq!(store.head().await.unwrap().seq, head.seq.next());
    let commit = next(&mut third).await;
    assert_eq!(commit.cursor.seq(), seq(2));
    third.ack(&commit).await.unwrap();
    let fourth = open(&local, "/in/*").await;
    assert_eq!(third.close().await.unwrap_err().code(), "fenced");
    fourth.close().await.unwrap();
}

async fn who_is_reset_or_removed_is_fenced<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    for n in 1..=5 {
        store.set("/in/a", value(n)).await.unwrap();
    }
    let mut consumer = open(&local, "/in/*").await;
    let cursor = local.reset_consumer("c", seq(3).into()).await.unwrap();
    assert_eq!(cursor.seq(), seq(3));
    assert_eq!(consumer.process(noting).await.unwrap_err().code(), "fenced");
    let mut consumer = open(&local, "/in/*").await;
    assert_eq!((consumer.cursor(), consumer.generation()), (cursor, 3));
    assert_eq!(consumer.process(noting).await.unwrap().unwrap().cursor.seq(), seq(4));
    // Back, too.
    local.reset_consumer("c", Seq::ZERO.into()).await.unwrap();
    let mut consumer = open(&local, "/in/*").await;
    assert_eq!(next(&mut consumer).await.cursor.seq(), seq(1));
    assert!(local.remove_consumer("c").await.unwrap());
    assert!(!local.remove_consumer("c").await.unwrap());
    assert_eq!(consumer.ack(seq(1)).await.unwrap_err().code(), "fenced");
    // Who comes after it under the same name is somebody else, whatever its generation is.
    let mut consumer = local.consumer("c").pattern("/in/*").start(Point::Head).open().await.unwrap();
    assert!(local.remove_consumer("c").await.unwrap());
    let new = open(&local, "/in/*").await;
    assert_eq!((consumer.generation(), new.generation()), (1, 1));
    store.set("/in/a", value(6)).await.unwrap();
    let error = consumer.process(noting).await.unwrap_err();
    assert_eq!(error.code(), "fenced", "{error}");
}

async fn what_is_delivered_and_not_acknowledged_comes_again<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    for n in 1..=9 {
        store.set("/in/a", value(n)).await.unwrap();
    }
    let mut consumer = open(&local, "/in/*").await;
    let mut commits = Vec::new();
    for _ in 0..6 {
        commits.push(next(&mut consumer).await);
    }
    assert_eq!(consumer.cursor().seq(), seq(0));
    consumer.ack(&commits[1]).await.unwrap();
    consumer.ack(commits[3].cursor.seq()).await.unwrap();
    assert_eq!(consumer.cursor(), commits[3].cursor);
    assert_eq!(recorded(&store).await, 0, "it is recorded later");
    consumer.close().await.unwrap();
    assert_eq!(recorded(&store).await, 4);
    let mut consumer = open(&local, "/in/*").await;
    assert_eq!(next(&mut consumer).await, commits[4]);
    consumer.ack(&commits[4]).await.unwrap();
    drop(consumer); // As in a crash, nothing is recorded.
    let mut consumer = open(&local, "/in/*").await;
    assert_eq!(next(&mut consumer).await, commits[4]);
}

async fn a_commit_that_is_processed_must_be_the_next_one<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    for n in 1..=3 {
        store.set("/in/a", value(n)).await.unwrap();
    }
    let mut consumer = open(&local, "/in/*").await;
    let commit = next(&mut consumer).await;
    let error = consumer.process(noting).await.unwrap_err();
    assert!(error.to_string().contains("up to 1 was delivered and is not acknowledged"), "{error}");
    consumer.ack(&commit).await.unwrap();
    consumer.process(noting).await.unwrap();
    assert_eq!((noted(&log_of(&store).await), recorded(&store).await), (vec![2], 2));
}

/// Polls a future so many times and gives it up, if it is not ready by then.
async fn given_up<T>(future: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        let poll =
            std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await;
        if let std::task::Poll::Ready(ready) = poll {
            return Some(ready);
        }
        tokio::task::yield_now().await;
    }
    None
}

async fn effects_that_are_given_up_at_any_moment_are_there_once_and_in_order<S: Store>(
    store: S,
    subject: &Subject,
) {
    let local = subject.local.opened();
    let mut consumer = open(&local, "/in/*").await;
    for n in 0..150_u32 {
        let batch = Batch::new().set("/in/a", value(n)).set("/other", "");
        store.commit(if n % 5 == 0 { batch.set("/in/b", "") } else { batch }).await.unwrap();
        let effects = |commit: &Consumed| match commit.cursor.seq().as_u64() % 4 {
            0 => noting(commit).commit_id(commit.cursor.seq().to_string()),
            _ => noting(commit).expect("/in/a", u64::from(n) + 1),
        };
        if let Some(processed) = given_up(consumer.process(effects), n % 6).await {
            processed.unwrap().unwrap();
        }
        if n % 40 == 39 {
            consumer = open(&local, "/in/*").await;
        }
    }
    let last = store.commit(Batch::new().set("/in/a", "last")).await.unwrap().last;
    while consumer.process(noting).await.unwrap().unwrap().cursor.seq() < last {}
    let log = log_of(&store).await;
    assert_eq!(noted(&log), due(&log));
}

async fn a_commit_id_makes_no_commit_without_a_position<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    for n in 1..=3 {
        store.set("/in/a", value(n)).await.unwrap();
    }
    let mut consumer = open(&local, "/in/*").await;
    consumer.process(|commit| noting(commit).commit_id("x")).await.unwrap();
    let reused = consumer.process(|commit| noting(commit).commit_id("x")).await.unwrap_err();
    assert_eq!(reused, StateError::CommitIdReused("x".into()));
    assert_eq!((recorded(&store).await, consumer.cursor().seq()), (1, seq(1)));
    store.commit(Batch::new().set("/out", "4").commit_id("y")).await.unwrap();
    let reused = consumer.process(|commit| noting(commit).commit_id("y")).await.unwrap_err();
    assert_eq!(reused, StateError::CommitIdReused("y".into()));
    consumer.process(|commit| noting(commit).commit_id("z")).await.unwrap();
    assert_eq!(recorded(&store).await, 2);
}

async fn consumers_are_listed_with_how_far_they_are<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    assert_eq!(local.consumers().await.unwrap(), []);
    for n in 1..=3 {
        store.set("/in/a", value(n)).await.unwrap();
    }
    let week = std::time::Duration::from_secs(7 * 86_400);
    for name in ["b", "a"] {
        local.consumer(name).pattern("/in/*").start(seq(1)).open().await.unwrap();
    }
    let day = week / 7;
    local.consumer("a").hold(day).open().await.unwrap().process(noting).await.unwrap();
    local.consumer("a").open().await.unwrap();
    let listed = local.consumers().await.unwrap();
    let shown: Vec<_> = listed
        .iter()
        .map(|c| {
            (
                c.name.as_str(),
                c.pattern.as_str(),
                c.cursor.seq().as_u64(),
                c.generation,
                c.hold,
                c.lag,
                c.holds,
            )
        })
        .collect();
    assert_eq!(shown, [("a", "/in/*", 2, 3, day, 7, true), ("b", "/in/*", 1, 1, week, 8, true)]);
    let entry = store.get("/.univrs/consumers/a").await.unwrap().unwrap();
    assert_eq!(std::time::SystemTime::from(listed[0].recorded), entry.updated_at);
}

async fn a_position_is_in_the_log_with_who_opened_the_consumer<S: Store>(store: S, subject: &Subject) {
    let alice = WithMeta::new(subject.local.opened(), Meta::new().actor("alice"));
    let mut watch = store.watch("/**").unwrap();
    store.set("/in/a", value(1)).await.unwrap();
    store.set("/in/a", value(2)).await.unwrap();
    let mut consumer = alice.consumer("c").pattern("/in/*").open().await.unwrap();
    consumer.process(|commit| noting(commit).meta(Meta::new().reason("counted"))).await.unwrap();
    let commit = next(&mut consumer).await;
    consumer.ack(&commit).await.unwrap();
    consumer.close().await.unwrap();
    alice.reset_consumer("c", Seq::ZERO.into()).await.unwrap();
    alice.remove_consumer("c").await.unwrap();
    let history = store.history(KEY, None, 9).await.unwrap();
    assert_eq!(history.len(), 5);
    assert!(history.iter().all(|change| change.meta.as_ref().unwrap().actor.as_deref() == Some("alice")));
    assert_eq!(history[3].meta.as_ref().unwrap().reason.as_deref(), Some("counted"));
    // No pattern shows it but those that name it.
    for due in ["/in/a", "/in/a", "/out"] {
        assert_eq!(watch.try_next().await.unwrap().unwrap().key, due);
    }
    assert_eq!(store.list("").await.unwrap(), ["/in/a", "/out"]);
}

async fn no_consumer_gets_positions_of_consumers<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    store.set("/in/a", value(1)).await.unwrap();
    let mut all = open(&local, "/.univrs/**").await;
    let mut other = local.consumer("other").pattern("/**").open().await.unwrap();
    other.process(noting).await.unwrap();
    local.mark("m", Point::Head).await.unwrap();
    let commit = next(&mut all).await;
    assert_eq!(keys(&commit), ["/.univrs/marks/m"]);
    all.ack(&commit).await.unwrap();
    let head = store.head().await.unwrap();
    all.close().await.unwrap();
    assert_eq!(store.head().await.unwrap().seq, head.seq.next());
}

async fn consumers_go_with_an_export_and_a_replay<S: Store>(store: S, subject: &Subject) {
    let local = subject.local.opened();
    for n in 1..=3 {
        store.set("/in/a", value(n)).await.unwrap();
    }
    open(&local, "/in/*").await.process(noting).await.unwrap();
    let listed = local.consumers().await.unwrap();
    let bytes = subject.local.export(Export::new()).await.unwrap();
    let folder = folder();
    let imported: SqliteStore =
        Options::new().import(std::io::Cursor::new(bytes), folder.path().join("copy.db")).await.unwrap();
    let replayed = MemoryStore::replay(local.store_id(), log_of(&store).await).unwrap();
    let copies: [Arc<dyn LocalStore>; 2] = [Arc::new(imported), Arc::new(replayed)];
    for copy in copies {
        let fields =
            |c: &univrs_state::consumer::ConsumerInfo| (c.name.clone(), c.cursor, c.generation, c.recorded);
        assert!(copy.consumers().await.unwrap().iter().map(fields).eq(listed.iter().map(fields)));
        let mut consumer = open(&copy, "/in/*").await;
        assert_eq!(next(&mut consumer).await.cursor.seq(), seq(2));
        assert!(copy.verify().await.unwrap().is_intact());
    }
}

#[tokio::test]
async fn a_handle_that_only_reads_lists_consumers_and_opens_none() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.set("/in/a", value(1)).await.unwrap();
    store.consumer("c").pattern("/in/*").open().await.unwrap();
    let reader = Options::new().read_only(true).open(&path).await.unwrap();
    assert_eq!(reader.consumers().await.unwrap().len(), 1);
    let refused: [Result<()>; 4] = [
        reader.consumer("c").open().await.map(drop),
        reader.consumer("d").pattern("/a").open().await.map(drop),
        reader.reset_consumer("c", Point::Head).await.map(drop),
        reader.remove_consumer("c").await.map(drop),
    ];
    assert!(refused.iter().all(|refused| *refused == Err(StateError::ReadOnly)), "{refused:?}");
}

#[tokio::test]
async fn a_consumer_of_a_store_that_closes_ends_with_that() {
    for subject in Subject::each().await {
        let local = subject.local.opened();
        let mut consumer = open(&local, "/in/*").await;
        let mut other = local.consumer("other").pattern("/in/*").open().await.unwrap();
        let waiting = tokio::spawn(async move { other.next().await });
        local.close().await.unwrap();
        assert_eq!(consumer.next().await, Err(StateError::Closed));
        assert_eq!(consumer.next().await, Ok(None));
        assert_eq!(consumer.process(noting).await, Ok(None));
        assert_eq!(waiting.await.unwrap(), Err(StateError::Closed));
    }
}
