//! Which values to thin, and what became of it.

use std::fmt;
use std::sync::Arc;

use super::compact::Told;
use crate::audit::Progress;
use crate::error::{Result, StateError};
use crate::key::RESERVED_PREFIX;
use crate::log::Head;
use crate::pattern::Pattern;
use crate::store::consumer::ConsumerInfo;
use crate::store::history::Point;

/// Of which keys and up to where to drop values that are out of date. Passed to
/// [`Retention::thin`](crate::retain::Retention::thin).
///
/// Values go that were *superseded* at the point: another change at or before it replaced them. That a key changed, when, by
/// whom and why stays in the log, with the hash of the value. So the state at the point and at every later position stays as
/// it is, and what is left is verified as before. Reading an earlier state is
/// [`StateError::Erased`](crate::StateError::Erased) where its value is gone, for everybody and for ever.
///
/// This is for the room that values take. It is no erasure: an export or a backup that was made before has them still, and
/// so may free space of the file.
///
/// ```
/// use univrs_state::retain::{Retention, Thin};
/// use univrs_state::{LocalStore, MemoryStore, Seq, StateError, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// for value in ["1", "2", "3", "4"] {
///     store.set("/a", value.into()).await?;
/// }
/// let thinned = store.thin(Thin::at(Seq::new(3), "/a".parse()?).keep(2)).await?;
/// assert_eq!((thinned.values, thinned.bytes), (1, 1)); // of 3 and 2 the values stay, that of 1 is gone
///
/// assert_eq!(store.at(Seq::new(2).into()).await?.get("/a").await?.unwrap().value, b"2");
/// let gone = store.at(Seq::new(1).into()).await?.get("/a").await;
/// assert!(matches!(gone, Err(StateError::Erased(_))));
/// assert_eq!(store.history("/a", None, 10).await?.len(), 4);
/// assert!(store.verify().await?.is_intact());
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a thinning does nothing until it is given to a store"]
pub struct Thin {
    pub(super) at: Point,
    pub(super) pattern: Pattern,
    pub(super) keep: u64,
    pub(super) force: bool,
    pub(super) progress: Option<Told>,
}

impl Thin {
    /// Drops the values that were superseded at a point, of the keys that match the pattern. Keys of the store itself, below
    /// `/.univrs/`, keep theirs.
    pub fn at(point: impl Into<Point>, pattern: Pattern) -> Self {
        Self { at: point.into(), pattern, keep: 1, force: false, progress: None }
    }

    /// Keeps so many versions of each key, counted back from the newest one at the point; a deletion is one, too. The newest
    /// one stays in any case, so 0 and 1, which is the default, are the same.
    pub fn keep(self, versions: u64) -> Self {
        Self { keep: versions, ..self }
    }

    /// Drops values, too, that a consumer holds which is not done with them. The record names such consumers.
    pub fn force(self) -> Self {
        Self { force: true, ..self }
    }

    /// Sets a function that a thread of the store calls from time to time with the progress, in changes up to the point.
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
}

impl fmt::Debug for Thin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thin")
            .field("at", &self.at)
            .field("pattern", &self.pattern)
            .field("keep", &self.keep)
            .field("force", &self.force)
            .finish_non_exhaustive()
    }
}

/// The result of a thinning.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thinned {
    /// The point.
    pub at: Head,
    /// How many values this call dropped.
    pub values: u64,
    /// How many bytes these values had.
    pub bytes: u64,
}

/// What a thinning would do, and who would be in its way. Made by
/// [`Retention::plan_thinning`](crate::retain::Retention::plan_thinning).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThinningPlan {
    /// The point.
    pub at: Head,
    /// How many values would go.
    pub values: u64,
    /// How many bytes these values have.
    pub bytes: u64,
    /// Consumers that are not done with what lies before the point, in the order of their names. Those that
    /// [hold](ConsumerInfo::holds) it are in the way unless the thinning is [forced](Thin::force); all of them may
    /// read changes without values.
    pub consumers: Vec<ConsumerInfo>,
}
