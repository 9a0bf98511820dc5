//! Panics in code that a program gave to the store.

use std::io;

/// A panic of a program's reader or writer, as the `io::Error` that carries it; says whose code panicked.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{0} panicked")]
pub(crate) struct Panicked(pub(crate) &'static str);

impl Panicked {
    /// The panic that an error carries, if it carries one.
    pub(super) fn within(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).copied()
    }
}

impl From<Panicked> for io::Error {
    fn from(panicked: Panicked) -> Self {
        Self::other(panicked)
    }
}
