//! Watches where few changes match, and watches that go from task to task. Both once lost what they should have shown, or
//! slept over it, and no test noticed.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_stream::Stream;
use univrs_state::log::Change;
use univrs_state::{Batch, Seq, StateStore, WatchEvent};

use crate::support::{Store, Subject, on_every_backend, value};

on_every_backend!(
    a_page_that_large_changes_fill_is_followed_by_the_rest,
    a_page_that_many_changes_fill_is_followed_by_the_rest,
    a_stream_wakes_the_task_that_polled_it_last,
);

/// Commits of this many changes each, of which the last one is rare.
async fn write_rare(store: &impl StateStore, commits: u32, others: u32, rare: impl Fn(u32) -> Vec<u8>) {
    for n in 0..commits {
        let batch = (0..others).fold(Batch::new(), |batch, other| batch.set(format!("/many/{other}"), "x"));
        store.commit(batch.set(format!("/few/{}", n % 3), rare(n))).await.unwrap();
    }
}

/// What a watch of the rare keys shows is what the log has of them.
async fn shows_all(store: &impl StateStore) {
    let (mut log, mut after): (Vec<Change>, _) = (Vec::new(), Seq::ZERO);
    loop {
        let page = store.changes(after, 1_000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.last;
        log.extend(page.into_iter().flat_map(|commit| commit.changes));
    }
    let due: Vec<&Change> = log.iter().filter(|change| change.key.starts_with("/few/")).collect();
    let mut watch = store.watch_after("/few/*", Seq::ZERO.into()).unwrap();
    let shown = |event: &WatchEvent| (event.seq, event.new_value.as_ref().map(Vec::len));
    for change in &due {
        let event = tokio::time::timeout(Duration::from_secs(20), watch.try_next()).await;
        let event = event.unwrap_or_else(|_| panic!("change {} does not come", change.seq)).unwrap().unwrap();
        assert_eq!(shown(&event), (change.seq, change.value.as_ref().map(|value| value.len())));
        assert_eq!(event.old_value.is_some(), change.version > 1);
    }
    assert!(due.len() > 40, "the premise");
}

async fn a_page_that_large_changes_fill_is_followed_by_the_rest<S: Store>(store: S, _: &Subject) {
    // The first page says that few changes match. The rest of the log has more bytes of them than a page.
    write_rare(&store, 90, 30, |n| vec![b'x'; 90_000 + n as usize]).await;
    shows_all(&store).await;
}

async fn a_page_that_many_changes_fill_is_followed_by_the_rest<S: Store>(store: S, _: &Subject) {
    // More of them than a page has changes.
    for n in 0..12_u32 {
        let batch = (0..1_000_u32).fold(Batch::new(), |batch, m| match m % 9 {
            0 => batch.set(format!("/few/{n}-{m}"), "x"),
            _ => batch.set(format!("/many/{}", m % 50), "x"),
        });
        store.commit(batch).await.unwrap();
    }
    shows_all(&store).await;
}

async fn a_stream_wakes_the_task_that_polled_it_last<S: Store>(store: S, _: &Subject) {
    let mut watch = store.watch("/a").unwrap();
    let mut commits = store.watch("/a").unwrap().commits();
    let mut snapshot = store.watch_with_snapshot("/a").unwrap();
    assert!(snapshot.try_next().await.unwrap().is_some(), "the end of the snapshot");
    // One task polls each of them, and gives it up.
    let mut nobody = Context::from_waker(Waker::noop());
    assert!(pin!(&mut watch).poll_next(&mut nobody).is_pending());
    assert!(pin!(&mut commits).poll_next(&mut nobody).is_pending());
    assert!(pin!(&mut snapshot).poll_next(&mut nobody).is_pending());
    let waiting = [
        handed_over(watch, |event| event.key).await,
        handed_over(commits, |events| events[0].key.clone()).await,
        handed_over(snapshot, |event| format!("{event:?}")).await,
    ];
    store.set("/a", value(1)).await.unwrap();
    for waiting in waiting {
        let shown = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(shown.expect("nobody woke the second task").unwrap().contains("/a"));
    }
}

/// Another task that waits for the next item, and has polled for it once.
async fn handed_over<S>(mut stream: S, shown: fn(S::Item) -> String) -> tokio::task::JoinHandle<String>
where
    S: Stream + Unpin + Send + 'static,
    S::Item: Send,
{
    let (polled, waits) = oneshot::channel();
    let mut polled = Some(polled);
    let task = tokio::spawn(async move {
        let next = poll_fn(|context| {
            let next = Pin::new(&mut stream).poll_next(context);
            if let (Poll::Pending, Some(polled)) = (&next, polled.take()) {
                polled.send(()).unwrap();
            }
            next
        });
        shown(next.await.expect("the stream goes on"))
    });
    waits.await.unwrap();
    task
}
