//! A watch as a stream of results, for combinators.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_stream::Stream;

use super::commits::Commits;
use super::event::WatchEvent;
use super::snapshot_watch::{SnapshotEvent, SnapshotWatch};
use super::stream::WatchStream;
use crate::error::Result;

/// A watch as a stream of results: each item is `Ok` with what the watch delivers, or `Err` with the cause of its end.
/// After an error the stream has ended. Made by [`WatchStream::results`], [`Commits::results`] and
/// [`SnapshotWatch::results`].
///
/// Use it where a watch is passed on as a stream: through the combinators of `StreamExt` and `TryStreamExt`, with
/// other streams in a `select`, or to a function that takes a `Stream` or a `TryStream`. The cause of the end then goes
/// the way of the events, and no combinator can drop it unseen.
///
/// ```
/// use tokio_stream::StreamExt;
/// use univrs_state::{MemoryStore, Seq, StateError, StateStore, LocalStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/nodes/n1", b"up".to_vec()).await?;
/// let watch = store.watch_after("/nodes/*", Seq::ZERO.into())?;
/// let mut keys = watch.results().map(|event| event.map(|event| event.key));
/// assert_eq!(keys.next().await, Some(Ok("/nodes/n1".to_owned())));
///
/// store.close().await?;
/// assert_eq!(keys.next().await, Some(Err(StateError::Closed)));
/// assert_eq!(keys.next().await, None);
/// # Ok(()) }
/// ```
pub struct Results<W>(W);

impl<W> Results<W> {
    /// The watch, for its cursor, its pattern and its error.
    pub fn watch(&self) -> &W {
        &self.0
    }

    /// The watch, for its own methods.
    pub fn into_watch(self) -> W {
        self.0
    }
}

impl<W: fmt::Debug> fmt::Debug for Results<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Results").field(&self.0).finish()
    }
}

/// Makes a watch a stream of results.
macro_rules! results {
    ($watch:ident delivers $item:ty, by $poll:ident) => {
        impl $watch {
            /// Turns this watch into a stream of results, for combinators: `Ok` with what it delivers, and `Err` with
            /// the cause of its end, after which the stream has ended.
            pub fn results(self) -> Results<Self> {
                Results(self)
            }
        }

        impl Results<$watch> {
            /// Waits for the next item: `Ok` with what the watch delivers, `Err` with the cause of its end, once;
            /// after that `None`. Cancel safe.
            pub async fn next(&mut self) -> Option<Result<$item>> {
                poll_fn(|context| self.0.$poll(context)).await
            }
        }

        impl Stream for Results<$watch> {
            type Item = Result<$item>;

            fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                self.0.$poll(context)
            }
        }
    };
}

results!(WatchStream delivers WatchEvent, by poll_event);
results!(Commits delivers Vec<WatchEvent>, by poll_events);
results!(SnapshotWatch delivers SnapshotEvent, by poll_item);
