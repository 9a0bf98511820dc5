//! A row of the projection that lies elsewhere.

use crate::log::Timestamp;
use crate::seq::Seq;

/// A row of the projection, where it lies.
#[derive(Clone, Copy)]
pub(crate) struct RowView<'a> {
    pub(crate) key: &'a str,
    pub(crate) version: u64,
    pub(crate) seq: Seq,
    /// `created_at` and `updated_at`; none if the key was deleted.
    pub(crate) times: Option<(Timestamp, Timestamp)>,
    /// None if the key was deleted, or the value is gone.
    pub(crate) value: Option<&'a [u8]>,
}
