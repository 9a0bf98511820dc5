//! Judging an erasure: which values go, and which keys are in its way.

use std::ops::ControlFlow;

use super::erase::Erase;
use super::holds::{NAMED, list};
use crate::backend::{Snapshot, Valued};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::log::Head;
use crate::seq::Seq;
use crate::state::{ErasureRecord, SeqRanges, Superseded};
use crate::store::read::superseded::superseded;

/// How many positions are looked at in one state.
const POSITIONS: u64 = 65_536;

/// Which values an erasure takes. It is judged on the state at the end of the log, and then read from many states.
///
/// IMPORTANT: what holds in that state holds in every later one, and so in the commit that records it. A change that was
/// superseded stays superseded: its key may be set or deleted again, but at a later position. What is written meanwhile is
/// beyond the end that was judged, and is left.
pub(crate) struct Judgement {
    erase: Erase,
    at: Head,
    superseded: Superseded,
    reached: Seq,
    pub(crate) ranges: SeqRanges,
    pub(super) values: u64,
    pub(super) bytes: u64,
    pub(super) live: Live,
}

/// The keys that exist.
#[derive(Debug, Clone, Default)]
pub(super) struct Live {
    pub(super) count: u64,
    /// The first of them.
    pub(super) keys: Vec<String>,
}

impl Judgement {
    /// Judges the state at the end of the log. Where the values are is looked for by [`go_on`](Self::go_on).
    pub(crate) fn of(snapshot: &dyn Snapshot, erase: Erase) -> Result<Self> {
        if !snapshot.is_whole() {
            return Err(StateError::Unsupported("from a part of a log nothing is erased".into()));
        }
        let (at, mut live) = (snapshot.head()?, Live::default());
        snapshot.keys(&KeyRange::prefix(erase.pattern.prefix()), &mut |key| {
            if erase.takes(key) {
                live.count += 1;
                if live.keys.len() < NAMED {
                    live.keys.push(key.to_owned());
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Self {
            erase,
            at,
            superseded: superseded(snapshot, at.seq, 1)?,
            reached: Seq::ZERO,
            ranges: SeqRanges::default(),
            values: 0,
            bytes: 0,
            live,
        })
    }

    /// The end of the log that was judged.
    pub(super) fn at(&self) -> Head {
        self.at
    }

    /// The position up to where values were looked for.
    pub(super) fn reached(&self) -> Seq {
        self.reached
    }

    /// Refuses an erasure of keys that exist.
    pub(super) fn check_live(&self) -> Result<()> {
        if self.live.count == 0 || self.erase.leave_live {
            return Ok(());
        }
        let keys: Vec<&str> = self.live.keys.iter().map(String::as_str).collect();
        let names = list(&keys, self.live.count);
        Err(StateError::Held(format!(
            "the values of keys that exist are not erased: {names}; delete these keys first, or leave their values"
        )))
    }

    /// Goes on; false once it is at the end.
    pub(crate) fn go_on(&mut self, snapshot: &dyn Snapshot) -> Result<bool> {
        let to = Seq::new(self.reached.as_u64() + POSITIONS).min(self.at.seq);
        let Self { erase, superseded, ranges, values, bytes, .. } = self;
        snapshot.valued(self.reached, to, &mut |Valued { seq, key, bytes: length }| {
            if superseded.has(seq) && erase.takes(&key) {
                // A log that contradicts itself is noticed before it is recorded that the value goes.
                if snapshot.key_version(&key)?.is_some_and(|last| last.seq == seq) {
                    return Err(ErasureRecord::names_too_much(seq));
                }
                ranges.push(seq);
                *values += 1;
                *bytes += length;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.reached = to;
        Ok(to < self.at.seq)
    }
}
