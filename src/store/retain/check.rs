//! The check of a log before it is compacted.

use std::ops::ControlFlow;

use crate::backend::{Linked, Snapshot};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{
    Break, Change, ChangeKind, Follow, FollowBase, Head, LastMeta, StoreId, Timestamp, header_hash,
};
use crate::seq::Seq;
use crate::state::{BaseSeal, Floor};

/// How many changes, and about how many bytes of them, are read from one state. A longer read would keep the write-ahead log
/// from starting over.
const CHANGES: u64 = 4_096;
const BYTES: usize = 4 << 20;

/// Checks everything up to a new floor, so that a log that contradicts itself is refused before anything changes.
pub(crate) struct Check {
    /// The floor before, and the seal of its base, if the log names it.
    old: (Floor, Option<BaseSeal>),
    base: FollowBase,
    in_base: u64,
    /// Checks the changes after the floor before.
    ///
    /// IMPORTANT: none of them may be missing. Behind a gap the chain before a change proves nothing of what lies before the
    /// gap.
    rest: Follow,
    /// The floor to be.
    floor: Floor,
    reached: Seq,
    /// The largest version of a deleted key.
    deleted: u64,
}

impl Check {
    pub(crate) fn new(store: StoreId, old: Floor, seal: Option<BaseSeal>, floor: Floor) -> Self {
        let base = FollowBase::new(store, old.head, old.at);
        let rest = Follow::from_floor(store, old.head, old.at);
        Self { old: (old, seal), base, in_base: 0, rest, floor, reached: Seq::ZERO, deleted: 0 }
    }

    /// The position up to where everything was checked.
    pub(crate) fn reached(&self) -> Seq {
        self.reached
    }

    /// The floor to be, and its time.
    pub(crate) fn floor(&self) -> (Head, Timestamp) {
        (self.floor.head, self.floor.at.unwrap_or(Timestamp::EPOCH))
    }

    /// The largest version that a deleted key has at or below the floor.
    pub(crate) fn deleted(&self) -> u64 {
        self.deleted
    }

    /// Goes on, and calls `visit` with each change that is right and the bytes of its metadata; false once it is at the
    /// floor.
    pub(crate) fn go_on(
        &mut self,
        snapshot: &dyn Snapshot,
        visit: &mut dyn FnMut(&Change, usize),
    ) -> Result<bool> {
        if snapshot.floor()?.head != self.old.0.head {
            return Err(StateError::Busy("another compaction began meanwhile".into()));
        }
        let (mut taken, mut bytes, mut meta) = (0, 0, LastMeta::default());
        let floor = self.floor.seq();
        let mut to = floor;
        snapshot.linked(self.reached, floor, &mut |linked| {
            taken += 1;
            bytes += linked.change.size();
            to = linked.change.seq;
            let meta = self.take(&linked, &mut meta)?;
            visit(&linked.change, meta);
            let full = taken == CHANGES || bytes >= BYTES;
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let before = std::mem::replace(&mut self.reached, if taken == 0 { floor } else { to });
        if before <= self.old.0.seq() && self.reached >= self.old.0.seq() {
            self.check_base()?;
        }
        if self.reached == floor && (self.rest.head() != self.floor.head || !self.rest.is_whole()) {
            return Err(StateError::Corrupted(format!(
                "the log up to {floor} does not lead to the hash there; nothing was dropped"
            )));
        }
        Ok(self.reached < floor)
    }

    /// Takes the next change; returns how many bytes its metadata has.
    fn take(&mut self, Linked { change, before }: &Linked, meta: &mut LastMeta) -> Result<usize> {
        let view = change.view(change.meta.as_ref().map(|known| meta.encode(known)));
        let header = header_hash(&view.header());
        let contradicts = |error: Break| StateError::Corrupted(format!("{error}; nothing was dropped"));
        if change.seq <= self.old.0.seq() {
            self.base.check_hashed(Some(*before), &view, header).map_err(contradicts)?;
            self.in_base += 1;
        } else {
            self.rest.check_hashed(&view, header).map_err(contradicts)?;
        }
        if change.kind == ChangeKind::Deleted {
            self.deleted = self.deleted.max(change.version);
        }
        Ok(view.meta.map_or(0, <[u8]>::len))
    }

    /// Compares the base of the floor before with its seal.
    fn check_base(&self) -> Result<()> {
        let found = BaseSeal { count: self.in_base, digest: self.base.digest() };
        let (old, seal) = &self.old;
        if seal.is_none_or(|seal| seal == found) || failpoint("digest_unchecked") {
            return Ok(());
        }
        let what =
            format!("the base at {} has another digest than the log names; nothing was dropped", old.seq());
        Err(StateError::Corrupted(what))
    }
}
