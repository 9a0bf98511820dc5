//! Up to where a policy drops, in one state of the store.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::time::Duration;

use super::report::HoldBack;
use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::key::{COMPACTION_KEY, CONSUMERS_PREFIX, MARKS_PREFIX, RETENTION_KEY, THINNED_PREFIX};
use crate::log::{Change, Head, Timestamp};
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::state::{Hold, Policy, Thinning, ValueRule};
use crate::store::history::{Mark, Point, point};
use crate::store::stats::WatcherStats;

/// A run on a schedule that has dropped something waits until this part of the age has passed before it drops more. Each
/// compaction writes its base anew and records two changes.
const PART: u32 = 16;
/// How many changes are read from one state.
const CHANGES: usize = 65_536;

/// Where something was dropped up to, and from when on more may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) seq: Seq,
    /// The time of the commit there, if it is known.
    pub(super) at: Option<Timestamp>,
    /// The time of the first commit after it; `None` if there is none.
    pub(super) next: Option<Timestamp>,
}

impl Reached {
    /// What lies before the floor has left.
    fn read(snapshot: &dyn Snapshot, reached: Seq) -> Result<Self> {
        let floor = snapshot.floor()?;
        let time = |seq: Seq| snapshot.link(seq).map(|link| link.map(|link| link.at));
        let at = match reached.cmp(&floor.seq()) {
            Ordering::Less => None,
            Ordering::Equal => floor.at,
            Ordering::Greater => time(reached)?,
        };
        let seq = reached.max(floor.seq());
        Ok(Self { seq, at, next: time(seq.next())? })
    }

    /// Up to where the log was compacted.
    pub(super) fn floor(snapshot: &dyn Snapshot) -> Result<Self> {
        Self::read(snapshot, snapshot.floor()?.seq())
    }

    /// Up to where values of a rule were dropped.
    pub(super) fn thinned(snapshot: &dyn Snapshot, rule: &ValueRule) -> Result<Self> {
        let mut reached = Seq::ZERO;
        snapshot.entries(THINNED_PREFIX, &mut |entry| {
            let thinning = Thinning::decode(&entry.key, &entry.value, entry.seq)?;
            if thinning.pattern == rule.pattern && thinning.keep == rule.keep {
                reached = reached.max(thinning.at);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Self::read(snapshot, reached)
    }
}

/// How far a run goes, and what keeps it from going further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aim {
    /// The end of a commit; `None` if nothing is due.
    pub(super) to: Option<Head>,
    pub(super) held_back: Vec<HoldBack>,
}

/// What a run goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    /// What the clock shows.
    pub(super) now: Timestamp,
    /// The time up to where a run on a schedule may go.
    pub(super) limit: Option<Timestamp>,
}

impl Aim {
    /// Where what has an age ends, of what is left after a position; held back by whoever needs it.
    pub(super) fn find(
        snapshot: &dyn Snapshot,
        (reached, age): (Reached, Duration),
        course: Course,
        holders: &[HoldBack],
    ) -> Result<Self> {
        let due = course.now.minus(age);
        let Some(wanted) = at_time(snapshot, due, reached.seq)? else {
            return Ok(Self { to: None, held_back: Vec::new() });
        };
        let (mut to, mut held_back) = (Some(wanted), Vec::new());
        if let Some(limit) = course.limit.filter(|limit| *limit < due) {
            to = at_time(snapshot, limit, reached.seq)?;
            held_back.extend((to != Some(wanted)).then_some(HoldBack::Pace { to: limit }));
        }
        for holder in holders {
            let Some(at) = holder.position().filter(|at| *at < wanted.seq) else { continue };
            held_back.push(holder.clone());
            if to.is_some_and(|to| at < to.seq) {
                to = (at > reached.seq).then(|| snapshot.commit_end(at)).transpose()?;
                to = to.filter(|to| to.seq > reached.seq);
            }
        }
        if course.limit.is_some()
            && let Some(found) = to
            && let Some(last) = reached.at
            && Reached::read(snapshot, found.seq)?.at.is_some_and(|at| at.since(last) < age / PART)
        {
            to = None;
        }
        Ok(Self { to, held_back })
    }
}

/// The last commit at or before a time, if it is after a position.
fn at_time(snapshot: &dyn Snapshot, time: Timestamp, after: Seq) -> Result<Option<Head>> {
    match point::find(snapshot, Point::Time(time)) {
        Ok((head, _)) => Ok(Some(head).filter(|head| head.seq > after)),
        // Nothing is so old.
        Err(StateError::InvalidArgument(_) | StateError::Compacted { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl HoldBack {
    fn position(&self) -> Option<Seq> {
        match self {
            Self::Consumer { at, .. } | Self::Mark { at, .. } | Self::Watch { at, .. } => Some(*at),
            _ => None,
        }
    }
}

/// Who needs something of the log: consumers that hold it, watches of this process, and marks if the policy spares them.
pub(super) fn holders(
    snapshot: &dyn Snapshot,
    policy: &Policy,
    now: Timestamp,
    watches: &[WatcherStats],
) -> Result<Vec<HoldBack>> {
    let mut holders = Vec::new();
    snapshot.entries(CONSUMERS_PREFIX, &mut |entry| {
        let hold = Hold::of(&entry)?;
        if hold.lasts(now) {
            holders.push(HoldBack::Consumer { at: hold.record.cursor.seq(), name: hold.name });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let watch = |watch: &WatcherStats| HoldBack::Watch { pattern: watch.pattern.clone(), at: watch.position };
    holders.extend(watches.iter().map(watch));
    if policy.spare_marks {
        snapshot.entries(MARKS_PREFIX, &mut |entry| {
            let mark = Mark::decode(&entry.key, &entry.value)?;
            holders.push(HoldBack::Mark { at: mark.head.seq, name: mark.name });
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(holders)
}

/// Looks for a change that a compaction would drop something for, after one position and up to another.
pub(super) struct Droppable {
    after: Seq,
    to: Seq,
    keep: Vec<Pattern>,
}

impl Droppable {
    pub(super) fn between(after: Seq, to: Seq, keep: Vec<Pattern>) -> Self {
        Self { after, to, keep }
    }

    /// Whether there is one; `None` if more has to be read.
    pub(super) fn look(&mut self, snapshot: &dyn Snapshot) -> Result<Option<bool>> {
        let (mut read, mut found, mut reached) = (0, false, self.to);
        snapshot.linked(self.after, self.to, &mut |linked| {
            read += 1;
            found = self.drops(&linked.change);
            reached = linked.change.seq;
            Ok(if found || read == CHANGES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        self.after = reached;
        Ok(if found { Some(true) } else { (read < CHANGES || reached == self.to).then_some(false) })
    }

    /// IMPORTANT: the records of retention itself do not count. It would else drop them, record that, and so find something
    /// to drop for ever.
    fn drops(&self, change: &Change) -> bool {
        let of_retention = *change.key == *COMPACTION_KEY
            || *change.key == *RETENTION_KEY
            || change.key.starts_with(THINNED_PREFIX);
        change.prev > Seq::ZERO && !of_retention && !self.keep.iter().any(|kept| kept.matches(&change.key))
    }
}
