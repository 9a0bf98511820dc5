//! Which values to erase, and what became of it.

use std::fmt;
use std::sync::Arc;

use super::compact::Told;
use crate::audit::Progress;
use crate::error::{Result, StateError};
use crate::key::RESERVED_PREFIX;
use crate::log::Head;
use crate::pattern::Pattern;

/// Of which keys to erase the values. Passed to [`Retention::erase`](crate::retain::Retention::erase).
///
/// Values go that nothing refers to any more: those that another change of the same key replaced, and all those of keys that
/// were deleted. That a key changed, when, by whom and why stays in the log, with the hash of the value, which without its
/// salt tells nobody whether a guess was right. What is left is verified as before. Reading an earlier state is
/// [`StateError::Erased`](crate::StateError::Erased) where its value is gone, for everybody and for ever.
///
/// The value of a key that exists stays, because it is the state: an erasure of such a key is refused unless it is to
/// [leave](Self::leave_live) those values. Delete the keys first.
///
/// # What it cannot reach
/// - **Key names and metadata** stay in the log, and so do the labels, the reason and the actor. Delete the keys and
///   [compact](crate::retain::Compact) with [`forget`](crate::retain::Compact::forget): that drops both.
/// - **Exports, backups, and copies of the file** that were made before have the values. An import drops what its own log
///   names as erased, but an older export does not know of a later erasure.
/// - **Other machines**: each copy of the log erases for itself.
/// - **Programs** have what they read before, and so has memory that they freed, and swap space.
/// - **The free space within the pages of the file** may have copies that SQLite left when it moved rows. Who reads the store
///   never sees them; who searches the bytes of the file may. Blocks that the file gave back belong to the file system, which
///   may keep what was on them.
///
/// ```
/// use univrs_state::retain::{Erase, Retention};
/// use univrs_state::{LocalStore, MemoryStore, Seq, StateError, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/users/7/mail", "a@example.org".into()).await?;
/// store.set("/users/7/mail", "b@example.org".into()).await?;
/// let user = || Erase::of("/users/7/*".parse().unwrap());
/// assert!(matches!(store.erase(user()).await, Err(StateError::Held(_)))); // the key exists
///
/// store.delete("/users/7/mail").await?;
/// let erasure = store.erase(user()).await?;
/// assert_eq!((erasure.values, erasure.bytes), (2, 26));
/// let gone = store.at(Seq::new(2).into()).await?.get("/users/7/mail").await;
/// assert!(matches!(gone, Err(StateError::Erased(_))));
/// assert!(store.verify().await?.is_intact());
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "an erasure does nothing until it is given to a store"]
pub struct Erase {
    pub(super) pattern: Pattern,
    pub(super) leave_live: bool,
    pub(super) beside_readers: bool,
    pub(super) progress: Option<Told>,
}

impl Erase {
    /// Erases values of the keys that match the pattern. Keys of the store itself, below `/.univrs/`, keep theirs.
    pub fn of(pattern: Pattern) -> Self {
        Self { pattern, leave_live: false, beside_readers: false, progress: None }
    }

    /// Leaves the values that keys have now, and erases those that these keys had before. Without this, an erasure of keys
    /// that exist is refused.
    pub fn leave_live(self) -> Self {
        Self { leave_live: true, ..self }
    }

    /// Returns, too, if a reader keeps the values in the write-ahead log: [`Erasure::swept`] is then false. Without this, that
    /// is [`StateError::Busy`](crate::StateError::Busy).
    pub fn beside_readers(self) -> Self {
        Self { beside_readers: true, ..self }
    }

    /// Sets a function that a thread of the store calls from time to time with the progress. Each change of the log counts
    /// twice, because the log is looked through before anything is erased.
    pub fn progress(self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { progress: Some(Arc::new(progress)), ..self }
    }

    /// Refuses a pattern of keys that keep their values.
    pub(super) fn check(&self) -> Result<()> {
        let pattern = self.pattern.as_str();
        if !pattern.starts_with(RESERVED_PREFIX) {
            return Ok(());
        }
        Err(StateError::InvalidArgument(format!(
            "the pattern {pattern:?} is of keys of the store itself, which keep their values: name other keys"
        )))
    }

    /// Whether it is of a key. Reserved keys keep their values, because the meaning of the log depends on them.
    pub(super) fn takes(&self, key: &str) -> bool {
        self.pattern.matches(key) && !key.starts_with(RESERVED_PREFIX)
    }
}

impl fmt::Debug for Erase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Erase")
            .field("pattern", &self.pattern)
            .field("leave_live", &self.leave_live)
            .field("beside_readers", &self.beside_readers)
            .finish_non_exhaustive()
    }
}

/// The result of an erasure. [`Erase`] says what it cannot reach.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Erasure {
    /// The end of the log when it was judged which values go. What was written after it is left.
    pub at: Head,
    /// How many values this call erased.
    pub values: u64,
    /// How many bytes these values had.
    pub bytes: u64,
    /// Whether the free pages were given back and the write-ahead log was emptied after that, so that the log has none of the
    /// values. It is false only if a reader was in the way, and the erasure was to [pass it by](Erase::beside_readers):
    /// [`resume_erasure`](crate::retain::Retention::resume_erasure) empties the log later.
    pub swept: bool,
}

/// What an erasure would do. Made by [`Retention::plan_erasure`](crate::retain::Retention::plan_erasure).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErasurePlan {
    /// The end of the log when it was judged which values would go.
    pub at: Head,
    /// How many values would go.
    pub values: u64,
    /// How many bytes these values have.
    pub bytes: u64,
    /// How many of the keys exist, whose values would stay. An erasure that is not to [leave](Erase::leave_live) them is
    /// refused if there are any.
    pub live: u64,
    /// The first of these keys in the order of keys, at most 20.
    pub live_keys: Vec<String>,
}
