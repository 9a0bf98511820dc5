//! A verification that meets corruption reports it, and does not fail.

use crate::error::{Result, StateError};

/// The message, if the read met corruption; other errors stay errors.
pub(super) fn corruption(read: Result<()>) -> Result<Option<String>> {
    match read {
        Ok(()) => Ok(None),
        Err(StateError::Corrupted(what)) => Ok(Some(what)),
        Err(error) => Err(error),
    }
}
