//! Who is told how far a verification is.

use std::ops::ControlFlow;

use crate::audit::Progress;
use crate::error::{Result, StateError};
use crate::store::foreign::tell;

/// Who is told how far it is, and who may end it.
pub(super) struct Observer<'a> {
    pub(super) total: u64,
    pub(super) progress: Option<&'a (dyn Fn(Progress) + Send + Sync)>,
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

impl Observer<'_> {
    /// Tells how many changes are done; an error if it is to end.
    pub(super) fn at(&self, done: u64) -> Result<ControlFlow<()>> {
        if (self.cancelled)() {
            return Err(StateError::Closed);
        }
        tell(self.progress, done, self.total.max(done))?;
        Ok(ControlFlow::Continue(()))
    }
}
