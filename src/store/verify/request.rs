//! What to verify.

use std::fmt;
use std::sync::Arc;

use crate::audit::{Level, Progress};
use crate::log::Anchor;

/// What to verify. Passed to `verify_with`, which returns a [`VerifyReport`](crate::verify::VerifyReport).
///
/// ```
/// use univrs_state::verify::{Level, Verify};
/// use univrs_state::{MemoryStore, LocalStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// let kept = store.anchor().await?; // in another place than the store
/// store.set("/a", b"2".to_vec()).await?;
///
/// let report = store.verify_with(Verify::level(Level::Chain).anchors([kept])).await?;
/// assert!(report.is_intact());
/// let open = report.not_provable[0].to_string();
/// assert_eq!(open, "1 change after the newest anchor (1) could have been cut off or rewritten");
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "a verification does nothing until it is given to a store"]
pub struct Verify {
    pub(super) level: Level,
    pub(super) anchors: Vec<Anchor>,
    pub(super) progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl Verify {
    pub(super) fn is_full(&self) -> bool {
        self.level == Level::Full
    }

    /// Verifies everything, as [`Level::Full`].
    pub fn full() -> Self {
        Self::default()
    }

    /// Verifies as much as the level says.
    pub fn level(level: Level) -> Self {
        Self { level, ..Self::default() }
    }

    /// Also checks that the log leads to these anchors. An anchor before or behind an
    /// [`Archive`](crate::archive::Archive) is
    /// [not provable](crate::verify::NotProvable::OutsideExport); one beyond the end of a store contradicts it.
    pub fn anchors(mut self, anchors: impl IntoIterator<Item = Anchor>) -> Self {
        self.anchors.extend(anchors);
        self
    }

    /// Sets a function that a thread of the store calls from time to time with the progress.
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }
}

impl fmt::Debug for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify")
            .field("level", &self.level)
            .field("anchors", &self.anchors)
            .finish_non_exhaustive()
    }
}
