//! What a consumer gets, and what comes of it.

use crate::log::Cursor;
use crate::store::receipt::Receipt;
use crate::store::watch::WatchEvent;

/// A commit, as a consumer gets it. `Debug` does not show values.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Consumed {
    /// The matching changes of the commit, in order; never empty. Changes that the pattern does not match are left out.
    pub events: Vec<WatchEvent>,
    /// The position at the end of the commit: to acknowledge it, and everything before it.
    pub cursor: Cursor,
}

impl From<&Consumed> for Cursor {
    fn from(commit: &Consumed) -> Self {
        commit.cursor
    }
}

/// What [`Consumer::process`](super::Consumer::process) did with a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Processed {
    /// The position at the end of the commit.
    pub cursor: Cursor,
    /// The receipt of the effects. The last of its versions is that of the consumer's own key. `None` if there were no
    /// effects, so nothing was recorded.
    pub receipt: Option<Receipt>,
}
