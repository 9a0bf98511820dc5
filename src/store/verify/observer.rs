//! Reporting the progress of a verification, and cancelling it.

use std::ops::ControlFlow;

use crate::audit::Progress;
use crate::error::{Result, StateError};
use crate::store::foreign::tell;

/// Reports the progress of a verification, and says whether it was cancelled.
pub(super) struct Observer<'a> {
    pub(super) total: u64,
    pub(super) progress: Option<&'a (dyn Fn(Progress) + Send + Sync)>,
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

impl Observer<'_> {
    /// Reports how many changes are done; an error if the verification was cancelled.
    pub(super) fn at(&self, done: u64) -> Result<ControlFlow<()>> {
        if (self.cancelled)() {
            return Err(StateError::Closed);
        }
        tell(self.progress, done, self.total.max(done))?;
        Ok(ControlFlow::Continue(()))
    }
}
