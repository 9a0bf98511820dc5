//! A borrowed row of the projection.

use crate::log::{Timestamp, Until};
use crate::seq::Seq;

/// A row of the projection, borrowed from the storage.
#[derive(Clone, Copy)]
pub(crate) struct RowView<'a> {
    pub(crate) key: &'a str,
    pub(crate) version: u64,
    pub(crate) seq: Seq,
    /// `created_at` and `updated_at`; `None` if the key was deleted.
    pub(crate) times: Option<(Timestamp, Timestamp)>,
    /// When the entry ends by itself; `None` if it does not, or the key was deleted.
    pub(crate) until: Option<Until>,
    /// The value; `None` if the key was deleted, or the value was erased.
    pub(crate) value: Option<&'a [u8]>,
}
