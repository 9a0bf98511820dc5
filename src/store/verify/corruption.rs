//! Corruption is a finding of a verification, and not its failure.

use crate::error::{Result, StateError};

/// The message of a corruption.
pub(super) fn corruption(read: Result<()>) -> Result<Option<String>> {
    match read {
        Ok(()) => Ok(None),
        Err(StateError::Corrupted(what)) => Ok(Some(what)),
        Err(error) => Err(error),
    }
}
