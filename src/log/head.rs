//! The end of a log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Hash, StoreId, Timestamp, hash};
use crate::error::StateError;
use crate::seq::Seq;

/// The end of a log: the last position and the chain hash there. Two logs with the same head have the
/// same changes up to it. Prints and parses as `4711:9f2c…` (64 hexadecimal digits).
///
/// ```
/// use univrs_state::{Head, MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// let printed = store.head().await?.to_string();
/// assert!(printed.starts_with("1:"));
/// assert_eq!(printed.parse::<Head>()?, store.head().await?);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// The position of the last change; zero in an empty store.
    pub seq: Seq,
    /// The chain hash of that change.
    pub hash: Hash,
}

impl Head {
    /// The head of a store without changes.
    pub fn genesis(store: StoreId) -> Self {
        Self { seq: Seq::ZERO, hash: hash::genesis(store) }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Head {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        let wrong =
            || StateError::InvalidArgument("a head looks like 4711:9f2c… with 64 hexadecimal digits".into());
        let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self { seq: seq.parse().map_err(|_| wrong())?, hash: hash.parse().map_err(|_| wrong())? })
    }
}

/// The end of the log that the next change is sealed onto: the head and its commit time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) head: Head,
    pub(crate) at: Timestamp,
}

impl Tip {
    /// The tip of a store without changes.
    pub(crate) fn genesis(store: StoreId) -> Self {
        Self { head: Head::genesis(store), at: Timestamp::EPOCH }
    }
}
