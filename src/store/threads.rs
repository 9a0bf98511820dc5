//! The threads of a store.

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::Result;
use crate::store::foreign::{broken, no_thread};

/// How many batches may wait between the two threads.
const WAITING: usize = 4;

fn named(name: &str) -> Builder {
    Builder::new().name(name.into())
}

/// Starts a thread.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    named(name).spawn(run).map_err(no_thread)
}

/// What a future holds while it waits for a long operation, so that the operation ends when the future is dropped.
pub(crate) struct Waiter(Arc<()>);

/// What a long operation asks from time to time.
#[derive(Clone)]
pub(crate) struct Awaited(Weak<()>);

impl Waiter {
    pub(crate) fn new() -> Self {
        Self(Arc::new(()))
    }

    pub(crate) fn awaited(&self) -> Awaited {
        Awaited(Arc::downgrade(&self.0))
    }
}

impl Awaited {
    /// Whether nobody waits any more.
    pub(crate) fn is_in_vain(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Waits for some time, on a thread of its own, so that it blocks no runtime.
pub(crate) async fn pause(time: Duration) -> Result<()> {
    let (over, waiting) = oneshot::channel();
    let wait = move || {
        thread::sleep(time);
        let _ = over.send(());
    };
    spawn("univrs-state pause", wait)?;
    let _: Result<(), _> = waiting.await;
    Ok(())
}

/// Runs a long operation on a thread of its own, so that it blocks no runtime.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    spawn("univrs-state import", move || drop(reply.send(run())))?;
    answer.await.unwrap_or_else(|_| Err(broken()))
}

/// Runs `take` on a thread of its own, with the batches that `give` sends from this thread. Sending returns a
/// batch that was used, to be filled again, or `None` if `take` has ended.
pub(crate) fn alongside<T: Send + Default, R: Send>(
    give: impl FnOnce(&mut dyn FnMut(T) -> Option<T>) -> Result<()>,
    take: impl FnOnce(&mut Taken<T>) -> Result<R> + Send,
) -> Result<R> {
    let (sender, receiver) = sync_channel(WAITING);
    let (empty, emptied) = channel();
    thread::scope(|scope| {
        let taking = move || take(&mut Taken { receiver, empty, current: None, whole: false });
        let thread = named("univrs-state beside").spawn_scoped(scope, taking).map_err(no_thread)?;
        let given = give(&mut |batch| {
            let sent = sender.send(Message::Batch(batch)).is_ok();
            sent.then(|| emptied.try_recv().unwrap_or_default())
        });
        if given.is_ok() {
            let _ = sender.send(Message::End);
        }
        drop(sender);
        let taken = thread.join().unwrap_or_else(|_| Err(broken()));
        // If `give` fails, `take` ends with an error as well, which says less.
        given.and(taken)
    })
}

enum Message<T> {
    Batch(T),
    End,
}

/// The receiving end.
pub(crate) struct Taken<T> {
    receiver: Receiver<Message<T>>,
    empty: Sender<T>,
    current: Option<T>,
    whole: bool,
}

impl<T> Taken<T> {
    /// The next batch; returns the one before to the sender. `None` at the end.
    pub(crate) fn next(&mut self) -> Option<&T> {
        if let Some(done) = self.current.take() {
            let _ = self.empty.send(done);
        }
        match self.receiver.recv() {
            Ok(Message::Batch(batch)) => self.current = Some(batch),
            Ok(Message::End) => self.whole = true,
            Err(_) => {}
        }
        self.current.as_ref()
    }

    /// Whether everything was received, because the sender did not fail.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }
}
