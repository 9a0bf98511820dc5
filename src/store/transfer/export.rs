//! What to export, and what was exported.

use std::fmt;
use std::sync::Arc;

use crate::audit::{Form, Progress};
use crate::failpoint::failpoint;
use crate::log::{Head, StoreId};
use crate::pattern::Pattern;
use crate::store::history::Point;

/// What to export, and in which format. By default it is the whole log, as a file that can be imported.
///
/// An export proves what it shows: its hashes lead to the head of the log even if parts are left out. For a
/// change that is withheld it has the hash of the header, for a value that is redacted the hash of the value.
/// An export with withheld changes, or one that begins after a point, can be read with
/// [`Archive`](crate::archive::Archive) but not imported.
///
/// ```
/// use univrs_state::archive::Export;
/// use univrs_state::{MemoryStore, Seq, LocalStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("billing.log");
/// let store = MemoryStore::new();
/// store.set("/billing/rate", b"7".to_vec()).await?;
/// store.set("/billing/key", b"hunter2".to_vec()).await?;
/// store.set("/other", b"x".to_vec()).await?;
///
/// let export = Export::new().only("/billing/*".parse()?).redact("/billing/key".parse()?);
/// let exported = store.export_to(export, &path).await?;
/// assert_eq!((exported.changes, exported.withheld, exported.redacted), (2, 1, 1));
/// assert_eq!(exported.head, store.head().await?);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "an export does nothing until it is given to a store"]
pub struct Export {
    pub(super) only: Vec<Pattern>,
    pub(super) redact: Vec<Pattern>,
    pub(super) after: Option<Point>,
    pub(super) with_base: bool,
    pub(super) to: Point,
    pub(super) form: Form,
    pub(super) progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

/// The result of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The store whose log it is.
    pub store: StoreId,
    /// The head that the export begins after: position 0, unless the log was compacted, or the export restricted by
    /// [`Export::after`].
    pub floor: Head,
    /// How many changes at or before the floor the export has beside the log: the base, which is the state there.
    pub base: u64,
    /// The head that the export ends with.
    pub head: Head,
    /// How many changes are in the export.
    pub changes: u64,
    /// How many changes are withheld: only the hashes of their headers are in the export.
    pub withheld: u64,
    /// How many values were redacted.
    pub redacted: u64,
}

impl Export {
    /// Exports the whole log. If it was compacted, that is its base, and all changes after its floor.
    pub fn new() -> Self {
        Self::default()
    }

    /// Exports only changes of keys that match this pattern, and withholds the others. If called several times, a key
    /// must match one of the patterns.
    pub fn only(mut self, pattern: Pattern) -> Self {
        self.only.push(pattern);
        self
    }

    /// Leaves out the values, and their salts, of keys that match this pattern.
    pub fn redact(mut self, pattern: Pattern) -> Self {
        self.redact.push(pattern);
        self
    }

    /// Exports only changes after this point. Such an export cannot be imported, unless it has its [base](Self::with_base).
    pub fn after(mut self, point: impl Into<Point>) -> Self {
        self.after = Some(point.into());
        self
    }

    /// Adds the state at the point that the export begins after: the last change of each key up to there. Such an export can
    /// be imported, and its archive answers for every key.
    pub fn with_base(mut self) -> Self {
        self.with_base = true;
        self
    }

    /// Exports only changes up to this point.
    pub fn to(mut self, point: impl Into<Point>) -> Self {
        self.to = point.into();
        self
    }

    /// Sets the format.
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Sets a function that a thread of the store calls from time to time with the number of changes read so far.
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("only", &self.only)
            .field("redact", &self.redact)
            .field("after", &self.after)
            .field("with_base", &self.with_base)
            .field("to", &self.to)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

impl Export {
    pub(super) fn withholds(&self, key: &str) -> bool {
        !self.only.is_empty() && !self.only.iter().any(|pattern| pattern.matches(key))
    }

    pub(super) fn redacts(&self, key: &str) -> bool {
        self.redact.iter().any(|pattern| pattern.matches(key)) && !failpoint("redaction_forgotten")
    }
}
