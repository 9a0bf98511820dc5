//! What to compact, and what became of it.

use std::fmt;
use std::sync::Arc;

use crate::audit::Progress;
use crate::log::{Hash, Head};
use crate::pattern::Pattern;
use crate::store::consumer::ConsumerInfo;
use crate::store::history::{Mark, Point};

/// Up to where to compact the log, and what to keep. Passed to [`Retention::compact`](crate::retain::Retention::compact).
///
/// The log then begins after the point, its *floor*. Of the changes at or before the floor only the *base* is left: the last
/// one of each key up to there. So the state at the floor, at every later position, and every change after the floor stay
/// as they are. What lies before the floor is [`StateError::Compacted`](crate::StateError::Compacted) from then on, for
/// everybody.
///
/// ```
/// use univrs_state::retain::{Compact, Retention};
/// use univrs_state::{LocalStore, MemoryStore, Seq, StateError, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// for value in ["1", "2", "3"] {
///     store.set("/a", value.into()).await?;
/// }
/// let compacted = store.compact(Compact::before(Seq::new(2)).force()).await?;
/// assert_eq!((compacted.dropped, compacted.left), (1, 1)); // the change 1 is gone, 2 is the base
///
/// assert_eq!(store.at(Seq::new(2).into()).await?.get("/a").await?.unwrap().value, b"2");
/// let gone = store.at(Seq::new(1).into()).await;
/// assert!(matches!(gone, Err(StateError::Compacted { .. })));
/// assert!(store.verify().await?.is_intact());
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a compaction does nothing until it is given to a store"]
pub struct Compact {
    pub(super) before: Point,
    pub(super) keep: Vec<Pattern>,
    pub(super) forget: bool,
    pub(super) force: bool,
    pub(super) spare_marks: bool,
    pub(super) progress: Option<Told>,
}

/// A function that is told the progress.
pub(super) type Told = Arc<dyn Fn(Progress) + Send + Sync>;

impl Compact {
    /// Drops what was superseded at a point: the changes at or before it that another change at or before it replaced.
    pub fn before(point: impl Into<Point>) -> Self {
        let before = point.into();
        Self { before, keep: Vec::new(), forget: false, force: false, spare_marks: false, progress: None }
    }

    /// Keeps all changes of the keys that match the pattern, besides those of earlier patterns. Their
    /// [`history`](crate::StateStore::history) goes on before the floor.
    pub fn keep(mut self, pattern: Pattern) -> Self {
        self.keep.push(pattern);
        self
    }

    /// Forgets the keys that were deleted before the floor and have not been set since, but for those that are kept. They
    /// count as never written, and leave nothing behind. A key without any change then begins at a version above all
    /// forgotten ones, and so does a new one: no version comes twice. Without this, each key that ever was takes a row for
    /// ever.
    ///
    /// A condition [`expect_unchanged_since`](crate::Batch::expect_unchanged_since) of a position before the floor fails
    /// from then on, because what was deleted after it may be forgotten.
    pub fn forget(self) -> Self {
        Self { forget: true, ..self }
    }

    /// Takes a floor that is younger than ten minutes, too, or beyond a consumer that holds what lies before it. Open scans,
    /// watches and retries by commit id may still need that: they get
    /// [`StateError::Compacted`](crate::StateError::Compacted), and an id counts as never used. Consumers that lose their
    /// place are named in the record.
    pub fn force(self) -> Self {
        Self { force: true, ..self }
    }

    /// Refuses a floor beyond a point that has a [mark](crate::history::Mark). Without this, such a mark stays, but what it
    /// names is gone.
    pub fn spare_marks(self) -> Self {
        Self { spare_marks: true, ..self }
    }

    /// Sets a function that a thread of the store calls from time to time with the progress. Each change up to the floor
    /// counts twice, because it is checked before anything is dropped, and again when its slice is.
    pub fn progress(self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { progress: Some(Arc::new(progress)), ..self }
    }
}

impl fmt::Debug for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compact")
            .field("before", &self.before)
            .field("keep", &self.keep)
            .field("forget", &self.forget)
            .field("force", &self.force)
            .field("spare_marks", &self.spare_marks)
            .finish_non_exhaustive()
    }
}

/// The result of a compaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// The position that the log begins after now, and the chain hash there.
    pub floor: Head,
    /// How many changes this call dropped.
    pub dropped: u64,
    /// How many changes are left at or before the floor: the base.
    pub left: u64,
    /// The digest of the base, which the log names.
    pub digest: Hash,
}

/// What a compaction would do, and who would be in its way. Made by
/// [`Retention::plan_compaction`](crate::retain::Retention::plan_compaction).
///
/// The bytes are those of the keys, the values and the metadata; a file has some more for each change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionPlan {
    /// The position that the log begins after now, and the chain hash there.
    pub before: Head,
    /// The position that it would begin after, and the chain hash there.
    pub floor: Head,
    /// How many changes would go.
    pub dropped: u64,
    /// How many bytes these have.
    pub dropped_bytes: u64,
    /// How many changes would be left at or before the floor: the base.
    pub left: u64,
    /// How many bytes these have.
    pub left_bytes: u64,
    /// How many deleted keys would be forgotten. Their last changes are among those that would go.
    pub forgotten: u64,
    /// Consumers that are not done with what lies before the floor, in the order of their names. Those that
    /// [hold](ConsumerInfo::holds) it are in the way unless the compaction is [forced](Compact::force); all of
    /// them would lose their place.
    pub consumers: Vec<ConsumerInfo>,
    /// Marks of points before the floor, in the order of their names. They would stay, but what they name would be gone. They
    /// are in the way if the compaction [spares them](Compact::spare_marks).
    pub marks: Vec<Mark>,
}
