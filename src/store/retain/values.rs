//! Slices of values: which ones each drops.

use std::ops::ControlFlow;

use crate::backend::Snapshot;
use crate::error::Result;
use crate::seq::Seq;

/// The most values of a slice, and about the most bytes of them. The batches that wait behind a slice wait for its transaction.
/// Measured with `benches/retention.rs`, 16 tasks: with 2,000 values a slice the slowest hundredth of commits took nine times as
/// long as undisturbed, with 500 twice.
const VALUES: usize = 500;
const BYTES: u64 = 1 << 20;
/// How many changes, and about how many bytes of them, are read from one state.
const CHANGES: u64 = 8_192;
const READ: usize = 4 << 20;

/// Makes the slices that drop values up to a position, in order.
pub(super) struct Values {
    to: Seq,
    takes: Box<Takes>,
    reached: Seq,
}

/// Whether the value of the change at a position, of a key, goes.
type Takes = dyn Fn(Seq, &str) -> bool + Send;

/// What a slice drops.
#[derive(Debug, Default)]
pub(crate) struct ValueSlice {
    pub(crate) seqs: Vec<Seq>,
    pub(crate) bytes: u64,
}

impl Values {
    /// Before the first change.
    pub(super) fn new(to: Seq, takes: impl Fn(Seq, &str) -> bool + Send + 'static) -> Self {
        Self { to, takes: Box::new(takes), reached: Seq::ZERO }
    }

    /// The position up to where slices were made.
    pub(super) fn reached(&self) -> Seq {
        self.reached
    }

    /// The next slice, which may be empty; `None` at the end.
    pub(super) fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<ValueSlice>> {
        if self.reached == self.to {
            return Ok(None);
        }
        let (mut slice, mut to) = (ValueSlice::default(), self.to);
        let (mut taken, mut read) = (0, 0);
        snapshot.linked(self.reached, self.to, &mut |linked| {
            let change = linked.change;
            taken += 1;
            read += change.size();
            if let Some(value) = &change.value
                && (self.takes)(change.seq, &change.key)
            {
                slice.seqs.push(change.seq);
                slice.bytes += value.len() as u64;
            }
            let full = taken == CHANGES || read >= READ || slice.seqs.len() == VALUES || slice.bytes >= BYTES;
            if full {
                to = change.seq;
            }
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        self.reached = to;
        Ok(Some(slice))
    }
}
