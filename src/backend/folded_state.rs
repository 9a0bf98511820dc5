//! One state in memory: a projection, and the head of the log that it is the fold of.

use std::ops::ControlFlow;

use super::{Row, View, Visit, VisitKey};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::log::{Change, Head, StoreId};
use crate::seq::Seq;
use crate::state::{Entry, KeyState, KeyVersion, Projection};

/// The fold of a log up to a head. A copy is cheap, because it shares the tree.
#[derive(Debug, Clone)]
pub(crate) struct FoldedState {
    pub(crate) store: StoreId,
    pub(crate) head: Head,
    pub(crate) projection: Projection,
    pub(crate) missing: Missing,
}

/// What the folded log lacks: the changes before its floor, and changes that are withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Missing {
    pub(crate) floor: Seq,
    pub(crate) withheld: u64,
}

impl Missing {
    pub(crate) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl FoldedState {
    pub(crate) fn genesis(store: StoreId) -> Self {
        let (head, projection) = (Head::genesis(store), Projection::default());
        Self { store, head, projection, missing: Missing::default() }
    }

    /// Folds in the next change.
    pub(crate) fn fold(&mut self, change: &Change) {
        self.head = change.head();
        self.projection.fold(change);
    }

    /// The last change of the key; an error if the key may have a change that the log lacks.
    fn last(&self, key: &str) -> Result<Option<&KeyState>> {
        let last = self.projection.last(key);
        if last.is_some() || self.missing.is_nothing() {
            return Ok(last.map(|last| &**last));
        }
        Err(StateError::Erased(match self.missing {
            Missing { floor, withheld: 0 } => {
                format!(
                    "the log begins after change {floor} and has no change of {key}, which may have been set before"
                )
            }
            Missing { withheld, .. } => {
                format!("{withheld} changes are withheld, and {key} may be among them")
            }
        }))
    }
}

/// The row of a key, made from its last change.
fn row(last: &KeyState) -> Result<Row> {
    let key = || last.key.as_ref().to_owned();
    let KeyVersion { version, seq, .. } = last.key_version;
    Ok(match (last.key_version.created_at(), &last.value) {
        (None, _) => Row::Deleted { key: key(), version, seq },
        (Some(created_at), None) => {
            let (updated_at, until) = (last.at, last.until);
            Row::Erased { key: key(), version, created_at, updated_at, seq, until }
        }
        (Some(_), Some(_)) => match last.entry()? {
            Some(entry) => Row::Live(entry),
            None => Row::Deleted { key: key(), version, seq },
        },
    })
}

impl View for FoldedState {
    fn store_id(&self) -> StoreId {
        self.store
    }

    fn head(&self) -> Result<Head> {
        Ok(self.head)
    }

    fn entry(&self, key: &str) -> Result<Option<Entry>> {
        self.last(key)?.map_or(Ok(None), KeyState::entry)
    }

    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>> {
        Ok(self.last(key)?.map(|last| last.key_version))
    }

    fn rows(
        &self,
        range: &KeyRange,
        after: Option<&str>,
        deleted: bool,
        visit: &mut Visit<'_, Row>,
    ) -> Result<()> {
        for last in self.projection.range(range, after) {
            if (deleted || last.key_version.is_live()) && visit(row(last)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn keys(&self, range: &KeyRange, visit: &mut VisitKey<'_>) -> Result<()> {
        for last in self.projection.range(range, None) {
            if last.key_version.is_live() && visit(&last.key)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}
