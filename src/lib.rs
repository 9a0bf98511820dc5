//! `univrs-state`: an embedded key-value store whose truth is a log.
//!
//! Every mutation is a [`Change`] with a global, gapless [`Seq`], hashed onto the one before.
//! What you read is a projection: the fold of that log. So watches resume from any position and
//! miss nothing, every key has its history with who and why, and tampering shows.
//!
//! ```
//! use univrs_state::{MemoryStore, StateStore};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
//! let store = MemoryStore::new(); // or SqliteStore::open("./state.db").await?
//! let mut watch = store.watch("/workloads/*")?;
//!
//! let version = store.set("/workloads/api", b"3 replicas".to_vec()).await?;
//! store.compare_and_set("/workloads/api", version, b"5 replicas".to_vec()).await?;
//!
//! let event = watch.try_next().await?.unwrap();
//! assert_eq!(event.new_value.unwrap(), b"3 replicas");
//! # Ok(()) }
//! ```
//!
//! # A map
//! - **Reach a store**: [`StateStore`] is the trait to depend on; [`SqliteStore`] and
//!   [`MemoryStore`] implement it; [`Options`] opens them.
//! - **Write**: [`Batch`] asks, [`Receipt`] answers; [`Meta`] says who and why.
//! - **Read**: [`Entry`], [`Scan`] and [`Page`]; [`Commit`] and [`Change`] for the log.
//! - **Look back**: [`Point`] names a moment, [`Past`] reads as of then, [`Diff`] compares two,
//!   [`Restore`] brings one back.
//! - **Watch**: [`WatchStream`] delivers [`WatchEvent`]s after a [`Cursor`]; [`SnapshotWatch`] what
//!   there is, first.
//! - **Prove**: [`Head`] is the end of a log, [`Follow`] checks a chain, [`VerifyReport`] a store.
//! - **Fail**: [`StateError`], sorted by [`ErrorKind`].

// Parts that only the store on disk needs.
#![cfg_attr(not(feature = "sqlite"), allow(dead_code))]

mod audit;
mod backend;
mod error;
mod key;
mod limits;
mod log;
mod pattern;
mod planted;
mod seq;
mod state;
mod store;
mod sync;

pub use audit::{Finding, Form, Level, NotProvable, Progress, Proved, VerifyReport};
#[cfg(feature = "sqlite")]
pub use backend::sqlite::Durability;
pub use error::{ErrorKind, FailedCondition, Rejection, Result, StateError};
pub use key::{RESERVED_PREFIX, validate_key};
pub use limits::{Exceeded, Limits, MAX_COMMIT_ID_LENGTH, MAX_CONDITIONS, MAX_KEY_LENGTH};
pub use log::{
    Anchor, Break, Change, ChangeKind, ChangeKind as EventType, Commit, Cursor, Follow, Hash, Head, Meta,
    SALT_BYTES, StoreId, Timestamp,
};
pub use pattern::Pattern;
pub use seq::Seq;
pub use state::{Batch, Entry, TransactionOp};
#[cfg(feature = "sqlite")]
pub use store::SqliteStore;
pub use store::{
    Archive, Clock, Commits, DeletedKey, Diff, DiffPage, Difference, Entropy, Export, Exported, MemoryStore,
    Options, OsEntropy, Page, Past, Point, Receipt, Residency, Restore, Scan, SnapshotEvent, SnapshotWatch,
    StateStore, Stats, SystemClock, Verify, WatchEvent, WatchStream, WatcherStats, WithMeta,
};

/// What most programs import.
pub mod prelude {
    #[cfg(feature = "sqlite")]
    pub use crate::SqliteStore;
    pub use crate::{
        Batch, Cursor, Entry, EventType, Head, MemoryStore, Meta, Result, Scan, Seq, StateError, StateStore,
        TransactionOp, WatchEvent, WatchStream,
    };
}

/// The snippets of the README, run as tests.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
