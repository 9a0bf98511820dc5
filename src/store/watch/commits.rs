//! A watch that delivers whole commits.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_stream::Stream;

use super::event::WatchEvent;
use super::pending::Deliveries;
use super::stream::WatchStream;
use crate::error::{Result, StateError};
use crate::log::{Cursor, Head};

/// A watch that delivers whole commits: each item has the matching events of one commit, in order. Made by
/// [`WatchStream::commits`].
#[derive(Debug)]
pub struct Commits(WatchStream);

/// The matching events of a commit, and the head after it.
pub(crate) type WholeCommit = (Vec<WatchEvent>, Head);

impl WatchStream {
    /// Turns this stream into one that delivers whole commits: the matching events of each, in order. Each commit
    /// is then in memory as a whole, with its old values.
    pub fn commits(mut self) -> Commits {
        self.make_whole();
        Commits(self)
    }
}

impl Commits {
    /// This stream as that of a consumer, whose position is recorded.
    pub(crate) fn of_consumer(self) -> Self {
        self.0.pages.watcher.set_recorded();
        self
    }

    /// Waits for the events of the next commit; `None` after the end, which only [`error`](Self::error) explains.
    /// [`try_next`](Self::try_next) returns the cause instead.
    pub async fn next(&mut self) -> Option<Vec<WatchEvent>> {
        self.try_next().await.ok().flatten()
    }

    /// Waits for the events of the next commit.
    ///
    /// # Errors
    /// Those of [`WatchStream::try_next`].
    pub async fn try_next(&mut self) -> Result<Option<Vec<WatchEvent>>> {
        poll_fn(|context| self.poll_events(context)).await.transpose()
    }

    /// Where to resume: after the last commit that was delivered, or that has no matching change.
    pub fn cursor(&self) -> Cursor {
        self.0.cursor()
    }

    /// The cause of the end; `None` if the stream has not ended.
    pub fn error(&self) -> Option<&StateError> {
        self.0.error()
    }

    pub(crate) fn poll_commit(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<WholeCommit>>> {
        self.0.poll_delivery(context, Deliveries::next_commit_and_head)
    }

    pub(super) fn poll_events(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Vec<WatchEvent>>>> {
        self.0.poll_delivery(context, Deliveries::next_commit)
    }
}

/// The shape of older programs: the stream just ends, and only [`Commits::error`] says why. [`Commits::results`] is a
/// stream that tells.
impl Stream for Commits {
    type Item = Vec<WatchEvent>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Vec<WatchEvent>>> {
        self.get_mut().poll_events(context).map(|commit| commit.and_then(Result::ok))
    }
}
