//! The floor that a connection read last.

use std::cell::RefCell;

use crate::state::Floor;

/// The rows of `meta` that say the floor, as they were read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct FloorRows {
    pub(super) floor: Option<Vec<u8>>,
    pub(super) compacting: Option<Vec<u8>>,
}

/// The floor that was read last, with the rows that said it. Each read of the log asks for the floor; while the rows are the
/// same, the record of the compaction need not be read again, because whatever changes it writes them anew.
#[derive(Debug, Default)]
pub(super) struct KnownFloor(RefCell<Option<(FloorRows, Floor)>>);

impl KnownFloor {
    /// The floor, if these rows said it.
    pub(super) fn said_by(&self, rows: &FloorRows) -> Option<Floor> {
        self.0.borrow().as_ref().filter(|(known, _)| known == rows).map(|(_, floor)| floor.clone())
    }

    /// The floor that was read last.
    pub(super) fn last(&self) -> Option<Floor> {
        self.0.borrow().as_ref().map(|(_, floor)| floor.clone())
    }

    pub(super) fn keep(&self, rows: FloorRows, floor: Floor) {
        *self.0.borrow_mut() = Some((rows, floor));
    }

    pub(super) fn forget(&self) {
        *self.0.borrow_mut() = None;
    }
}
