//! Who judges a store that is in doubt.

use std::fmt;
use std::sync::Arc;

use crate::backend::Snapshot;
use crate::error::Result;

/// Verifies a whole store; says what contradicts, if anything does.
type Verification = dyn Fn(&dyn Snapshot) -> Result<Option<String>> + Send + Sync;

/// Who judges a store that is in doubt. The store above verifies; this backend cannot.
#[derive(Clone)]
pub(crate) struct Judge(Arc<Verification>);

impl Judge {
    pub(crate) fn new(
        verify: impl Fn(&dyn Snapshot) -> Result<Option<String>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(verify))
    }

    /// What contradicts in a store, if anything does.
    pub(crate) fn judge(&self, snapshot: &dyn Snapshot) -> Result<Option<String>> {
        (self.0)(snapshot)
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}
