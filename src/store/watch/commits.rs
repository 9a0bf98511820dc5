//! A watch by whole commits.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio_stream::Stream;

use super::event::WatchEvent;
use super::pending::event;
use super::stream::{WatchStream, proceed};
use crate::error::{Result, StateError};
use crate::log::Cursor;

/// A watch by whole commits: each item has the matching events of one commit, in order.
#[derive(Debug)]
pub struct Commits(WatchStream);

impl WatchStream {
    /// The same stream by whole commits: the matching events of each, in order. A commit is then
    /// in memory as a whole, with the values before it.
    pub fn commits(self) -> Commits {
        Commits(self)
    }
}

impl Commits {
    /// The next commit's events, waiting for them; none after the stream has ended.
    pub async fn next(&mut self) -> Option<Vec<WatchEvent>> {
        self.try_next().await.ok().flatten()
    }

    /// The next commit's events, waiting for them.
    ///
    /// # Errors
    /// As those of [`WatchStream::try_next`].
    pub async fn try_next(&mut self) -> Result<Option<Vec<WatchEvent>>> {
        poll_fn(|context| self.poll_commit(context)).await.transpose()
    }

    /// Where to resume: after the last commit that was delivered or passed over.
    pub fn cursor(&self) -> Cursor {
        self.0.cursor()
    }

    /// Why the stream ended; none while it has not.
    pub fn error(&self) -> Option<&StateError> {
        self.0.error()
    }

    fn poll_commit(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Vec<WatchEvent>>>> {
        ready!(proceed(context));
        let Some(pending) = ready!(self.0.poll_commit(context, true)) else {
            return Poll::Ready(self.0.tell());
        };
        let events = std::mem::take(&mut pending.changes).into_iter().map(event).collect();
        self.0.delivered();
        Poll::Ready(Some(Ok(events)))
    }
}

impl Stream for Commits {
    type Item = Vec<WatchEvent>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Vec<WatchEvent>>> {
        self.get_mut().poll_commit(context).map(|commit| commit.and_then(Result::ok))
    }
}
