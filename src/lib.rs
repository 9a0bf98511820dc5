//! `univrs-state`: an embedded key-value store whose source of truth is a log.
//!
//! Every mutation is a [`Change`] with a global, gapless [`Seq`], hashed onto the one before. What you
//! read is a projection: the fold of that log. Therefore a watch can resume from any position without
//! missing a change, every key has a history of who changed it and why, and tampering shows.
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
//! Programs depend on the trait [`StateStore`]; its *Contract* says what they may rely on.
//! [`SqliteStore`] keeps a store in one file, [`MemoryStore`] in memory, and [`Archive`] reads an
//! exported log. All are cheap handles: clone them.
//!
//! What programs name daily stands at the root of the crate, and most of it in the [`prelude`]. The rest
//! has modules by subject: [`archive`], [`consumer`], [`error`], [`history`], [`key`], [`limits`], [`log`], [`options`],
//! [`pattern`], [`stats`], [`verify`] and [`watch`]. Import `*` from the prelude alone: the root has modules
//! such as `log` and `error`, which other crates have, too.
//!
//! # Write
//! | call | effect |
//! |---|---|
//! | [`commit`](StateStore::commit) | records a [`Batch`] of conditions, writes and [`Meta`] as a whole, or refuses it as a whole; returns a [`Receipt`] |
//! | [`set`](StateStore::set), [`delete`](StateStore::delete) | write one key; deleting an absent key is no error and records nothing |
//! | [`compare_and_set`](StateStore::compare_and_set) | writes the key if it has this version; 0 means absent |
//! | [`create_if_not_exists`](StateStore::create_if_not_exists) | writes the key if it is absent |
//! | [`transaction`](StateStore::transaction) | records several [`TransactionOp`]s together: the simple form of `commit` |
//! | [`set_json`](StateStore::set_json), [`compare_and_set_json`](StateStore::compare_and_set_json), [`set_cbor`](StateStore::set_cbor) | write a value of your type; CBOR is smaller |
//! | [`update_json`](StateStore::update_json), [`try_update_json`](StateStore::try_update_json) | read a value, then set it, delete it or leave it alone, and start over if somebody else wrote it meanwhile; the second one has your results and your errors |
//! | [`with_meta`](StateStore::with_meta) | a handle that says who writes and why in every batch |
//!
//! A batch may require versions ([`expect`](Batch::expect), [`expect_absent`](Batch::expect_absent)) or
//! that nothing below a prefix has changed ([`expect_unchanged_since`](Batch::expect_unchanged_since)).
//! Conditions are judged on the state before the batch, and a refusal lists every condition that
//! failed. With a [`commit_id`](Batch::commit_id) a retry is safe: if the batch was recorded before,
//! the store returns the first receipt and writes nothing.
//!
//! # Read
//! | call | result |
//! |---|---|
//! | [`get`](StateStore::get), [`exists`](StateStore::exists), [`version`](StateStore::version) | one key; the version of an absent key is 0 |
//! | [`get_many`](StateStore::get_many) | several keys of one state |
//! | [`scan`](StateStore::scan) | the entries below a prefix, in pages that are all of one state |
//! | [`list`](StateStore::list) | the keys below a prefix |
//! | [`get_json`](StateStore::get_json), [`get_json_versioned`](StateStore::get_json_versioned), [`get_cbor`](StateStore::get_cbor) | a value of your type |
//!
//! A prefix is bytes: `/a` covers `/ab`. A key starts with `/`, has no empty segment, no control
//! character and no `*`, and is at most [`MAX_KEY_LENGTH`] bytes long. See [`validate_key`].
//!
//! # Watch
//! | call | result |
//! |---|---|
//! | [`watch`](StateStore::watch) | the changes of matching keys from now on, as a [`WatchStream`] |
//! | [`watch_after`](StateStore::watch_after) | the changes after a [`Cursor`]: resumes a watch |
//! | [`watch_with_snapshot`](StateStore::watch_with_snapshot) | the matching entries of one state, an end marker, then every change after them |
//! | [`try_next`](WatchStream::try_next) | the next change of a watch, or the cause of its end as an error |
//! | [`results`](WatchStream::results) | the watch as a stream of results, for combinators: its last item is the cause of the end |
//! | [`commits`](WatchStream::commits) | the watch by whole commits |
//!
//! A pattern is a key; or `PREFIX*`, which matches everything below the prefix; or has whole segments
//! `*` (one segment) and `**` (any number of segments), as in `/nodes/*/status`. See [`Pattern`]. The
//! states of a watch, and what to do when one ends, are described at [`WatchStream`].
//!
//! # Consume
//! | call | result |
//! |---|---|
//! | [`consumer`](LocalStore::consumer) | a [`Consumer`]: a reader whose position the store keeps under a name, and that goes on where it was |
//! | [`process`](consumer::Consumer::process) | records what comes of the next commit together with the position: exactly once |
//! | [`next`](consumer::Consumer::next), [`ack`](consumer::Consumer::ack) | the next commit, and that its work is done: at least once |
//! | [`consumers`](LocalStore::consumers), [`reset_consumer`](LocalStore::reset_consumer), [`remove_consumer`](LocalStore::remove_consumer) | how far each is; moves one to a point; removes one |
//!
//! # Look back
//! | call | result |
//! |---|---|
//! | [`history`](StateStore::history) | the changes of a key, newest first, with who wrote them and why |
//! | [`list_deleted`](StateStore::list_deleted) | the keys that are deleted |
//! | [`at`](StateStore::at) | the store as it was at a [`Point`], for reading: [`Past`] |
//! | [`diff`](StateStore::diff) | what differs between two points, key by key |
//! | [`restore`](StateStore::restore) | brings keys or a prefix back to a point, as new changes |
//! | [`mark`](LocalStore::mark), [`marks`](LocalStore::marks), [`unmark`](LocalStore::unmark) | names for points: each is a [`Mark`](history::Mark) |
//! | [`changes`](StateStore::changes), [`replay`](StateStore::replay) | the log itself, commit by commit |
//!
//! # Prove
//! | call | result |
//! |---|---|
//! | [`head`](StateStore::head) | the end of the log: its last position and the hash of everything up to it |
//! | [`anchor`](LocalStore::anchor) | the head and the store id as one line, to keep in another place |
//! | [`verify`](LocalStore::verify), [`verify_with`](LocalStore::verify_with) | what is proved, what contradicts, and what no log can prove: [`VerifyReport`] |
//! | [`export`](LocalStore::export), [`export_to`](LocalStore::export_to) | the log as a file that proves itself; some keys or values may be left out |
//! | [`MemoryStore::import`], [`MemoryStore::replay`], [`Archive::open`] | a store made from an export or from changes, each of which is checked |
//!
//! [`SqliteStore::import`] makes a store at a path from an export. [`Follow`] checks a chain of changes
//! from anywhere. Whether the log still contains a head that you kept:
//!
//! ```
//! use univrs_state::{Head, MemoryStore, LocalStore, StateStore};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
//! let store = MemoryStore::new();
//! store.set("/billing/rate", b"7".to_vec()).await?;
//! let kept: String = store.head().await?.to_string(); // in another place than the store
//! store.set("/billing/rate", b"8".to_vec()).await?;
//!
//! let kept: Head = kept.parse()?;
//! let commits = store.changes(kept.seq.previous(), 1).await?;
//! let mut changes = commits.iter().flat_map(|commit| &commit.changes);
//! assert!(changes.any(|change| change.seq == kept.seq && change.hash == kept.hash));
//! assert!(store.verify().await?.is_intact()); // and no change before or after it contradicts its hash
//! # Ok(()) }
//! ```
//!
//! # Operate
//! | call | effect |
//! |---|---|
//! | [`SqliteStore::open`], [`SqliteStore::in_memory`], [`MemoryStore::new`] | open a store with the defaults |
//! | [`SqliteStore::options`], [`MemoryStore::options`] | open one with [`Options`]: limits, durability, read-only, memory for reads, … |
//! | [`stats`](LocalStore::stats) | batches and the storage transactions that they shared, the write-ahead log, what is in memory, how far each watch lags |
//! | [`close`](LocalStore::close) | ends the store in an orderly way; watches end with [`StateError::Closed`] |
//!
//! # Errors
//! [`StateError::kind`] sorts errors by what to do next, see [`ErrorKind`].
//! [`StateError::is_retryable`] says whether reading again and retrying may succeed. [`StateError::code`] is a
//! stable name for machines. Messages name keys and positions, never values.
//!
//! ```
//! use univrs_state::{Batch, ErrorKind, MemoryStore, StateStore};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
//! let store = MemoryStore::new();
//! store.set("/leases/build", b"n7".to_vec()).await?;
//! let batch = Batch::new().expect_absent("/leases/build").expect("/nodes/n8", 3).set("/leases/build", "n8");
//! let error = store.commit(batch).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Refused);
//! assert_eq!(
//!     error.to_string(),
//!     "batch refused: /leases/build was expected to be absent, found version 1; \
//!      /nodes/n8 was expected at version 3, found none"
//! );
//! # Ok(()) }
//! ```
//!
//! [`Archive`]: archive::Archive
//! [`Archive::open`]: archive::Archive::open
//! [`Change`]: log::Change
//! [`Consumer`]: consumer::Consumer
//! [`Follow`]: log::Follow
//! [`Past`]: history::Past
//! [`Pattern`]: pattern::Pattern
//! [`Point`]: history::Point
//! [`validate_key`]: key::validate_key
//! [`VerifyReport`]: verify::VerifyReport

// Parts that only the store on disk needs.
#![cfg_attr(not(feature = "sqlite"), allow(dead_code))]

mod audit;
mod backend;
pub mod error;
mod failpoint;
pub mod key;
pub mod limits;
pub mod log;
pub mod pattern;
mod seq;
mod state;
mod store;
mod sync;

#[doc(inline)]
pub use error::{ErrorKind, Result, StateError};
#[doc(inline)]
pub use limits::{Limits, MAX_KEY_LENGTH};
#[doc(inline)]
pub use log::{ChangeKind as EventType, Cursor, Head, Meta};
pub use seq::Seq;
pub use state::{Batch, Entry, TransactionOp};
#[cfg(feature = "sqlite")]
pub use store::SqliteStore;
pub use store::{
    LocalStore, MemoryStore, Options, Page, Receipt, Scan, StateStore, Update, WatchEvent, WatchStream,
    WithMeta,
};

/// A log elsewhere: exports, and reading them as stores.
pub mod archive {
    pub use crate::audit::{Form, Progress};
    pub use crate::store::{Archive, Export, Exported};
}

/// Consumers: readers of the log whose position the store keeps.
pub mod consumer {
    pub use crate::store::{Consumed, Consumer, ConsumerInfo, ConsumerRequest, Processed};
}

/// The past: reads of a moment, differences between two, and ways to bring one back.
pub mod history {
    pub use crate::store::{DeletedKey, Diff, DiffPage, Difference, Mark, Past, Point, Restore};
}

/// What [`Options`] takes: where times and randomness come from, and when a commit is acknowledged.
pub mod options {
    #[cfg(feature = "sqlite")]
    pub use crate::backend::sqlite::Durability;
    pub use crate::store::{Clock, Entropy, OsEntropy, SystemClock};
}

/// What leaves the log, and what stays.
pub mod retain {
    pub use crate::audit::Progress;
    pub use crate::state::{Policy, ValueRule};
    pub use crate::store::{
        Compact, Compacted, CompactionPlan, Erase, Erasure, ErasurePlan, HoldBack, Purged, Retained,
        Retention, RetentionPlan, Scheduled, Thin, Thinned, ThinningPlan,
    };
}

/// What a store has been doing, and how far its watches are.
pub mod stats {
    pub use crate::store::{About, Residency, Stats, WalReader, Warning, WatcherStats};
}

/// Checking a store against its hashes, and reports of what was proved.
pub mod verify {
    pub use crate::audit::{Finding, Level, NotProvable, Progress, Proved, VerifyReport};
    pub use crate::store::Verify;
}

/// Streams beside [`WatchStream`]: by whole commits, beginning with what there is, and of results for combinators.
pub mod watch {
    pub use crate::store::{Commits, Results, SnapshotEvent, SnapshotWatch};
}

/// What most programs import.
pub mod prelude {
    #[cfg(feature = "sqlite")]
    pub use crate::SqliteStore;
    pub use crate::{
        Batch, Cursor, Entry, EventType, Head, LocalStore, MemoryStore, Meta, Result, Scan, Seq, StateError,
        StateStore, TransactionOp, Update, WatchEvent, WatchStream,
    };
}

/// The snippets of the README, run as tests.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
