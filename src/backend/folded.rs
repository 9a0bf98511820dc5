//! One state in memory: a projection and where in the log it is of.

use std::ops::ControlFlow;

use super::{Row, View, Visit, VisitKey};
use crate::error::Result;
use crate::key::KeyRange;
use crate::log::{Change, Head, StoreId};
use crate::state::{Entry, Projection, Slot, Slots};

/// The fold of a log up to a head. A copy is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Folded {
    pub(crate) store: StoreId,
    pub(crate) head: Head,
    pub(crate) projection: Projection,
}

impl Folded {
    pub(crate) fn genesis(store: StoreId) -> Self {
        Self { store, head: Head::genesis(store), projection: Projection::default() }
    }

    /// Folds in the next change.
    pub(crate) fn fold(&mut self, change: &Change) {
        self.head = Head { seq: change.seq, hash: change.hash };
        self.projection.fold(change);
    }
}

impl View for Folded {
    fn store_id(&self) -> StoreId {
        self.store
    }

    fn head(&self) -> Result<Head> {
        Ok(self.head)
    }

    fn entry(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.projection.last(key).and_then(|last| last.entry()))
    }

    fn slot(&self, key: &str) -> Result<Option<Slot>> {
        Ok(self.projection.slot(key))
    }

    fn rows(
        &self,
        range: &KeyRange,
        after: Option<&str>,
        deleted: bool,
        visit: &mut Visit<'_, Row>,
    ) -> Result<()> {
        for last in self.projection.range(range, after) {
            let row = match last.entry() {
                Some(entry) => Row::Live(entry),
                None if deleted => {
                    let Slot { version, seq, .. } = last.slot;
                    Row::Deleted { key: last.key.as_ref().to_owned(), version, seq }
                }
                None => continue,
            };
            if visit(row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn keys(&self, range: &KeyRange, visit: &mut VisitKey<'_>) -> Result<()> {
        for last in self.projection.range(range, None) {
            if last.slot.is_live() && visit(&last.key)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}
