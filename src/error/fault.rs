//! What failed, and what caused it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// What failed, in words, and the error that caused it, if there is one.
///
/// The cause is the [`source`](Error::source) of the [`StateError`](crate::StateError) that has the fault.
/// Two faults are equal if their words are equal; causes are not compared.
///
/// ```
/// use std::error::Error;
/// use univrs_state::StateError;
///
/// let error = StateError::from(std::io::Error::other("the cable is out"));
/// let cause = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
/// assert_eq!(cause.kind(), std::io::ErrorKind::Other);
/// ```
#[derive(Debug, Clone)]
pub struct Fault {
    what: String,
    cause: Option<Cause>,
}

impl Fault {
    /// What failed, in words.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// A fault with its cause. The words should already name the cause.
    pub(crate) fn caused(what: impl Into<String>, cause: impl Error + Send + Sync + 'static) -> Self {
        Self { what: what.into(), cause: Some(Cause(Arc::new(cause))) }
    }

    /// The error that caused it.
    pub(super) fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|Cause(error)| &**error as &(dyn Error + 'static))
    }

    /// A fault with the same cause and other words.
    pub(crate) fn reworded(self, word: impl FnOnce(&str) -> String) -> Self {
        Self { what: word(&self.what), cause: self.cause }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl PartialEq for Fault {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what
    }
}

impl Eq for Fault {}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self { what, cause: None }
    }
}

impl From<&str> for Fault {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}

/// An error that caused another one.
#[derive(Clone)]
struct Cause(Arc<dyn Error + Send + Sync>);

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
