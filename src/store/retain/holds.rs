//! Who still needs what a compaction or a thinning would drop.

use std::ops::ControlFlow;

use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::key::{CONSUMERS_PREFIX, MARKS_PREFIX};
use crate::log::Timestamp;
use crate::seq::Seq;
use crate::state::Hold;
use crate::store::consumer::ConsumerInfo;
use crate::store::history::Mark;

/// The most names that an error or a record has.
pub(super) const NAMED: usize = 20;

/// Who still needs what lies before a floor, in one state.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Consumers that are not done with it.
    pub(super) consumers: Vec<ConsumerInfo>,
    /// Marks of points before it.
    pub(super) marks: Vec<Mark>,
    /// The end of the log in this state.
    pub(super) head: Seq,
}

impl Holds {
    pub(super) fn read(snapshot: &dyn Snapshot, floor: Seq, now: Timestamp) -> Result<Self> {
        let mut holds = Self { head: snapshot.head()?.seq, ..Self::default() };
        let head = holds.head;
        snapshot.entries(CONSUMERS_PREFIX, &mut |entry| {
            let hold = Hold::of(&entry)?;
            if hold.record.cursor.seq() < floor {
                holds.consumers.push(ConsumerInfo::new(hold, head, now));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        snapshot.entries(MARKS_PREFIX, &mut |entry| {
            let mark = Mark::decode(&entry.key, &entry.value)?;
            if mark.head.seq < floor {
                holds.marks.push(mark);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(holds)
    }

    /// Refuses what somebody is in the way of. `what` says it, in words before the floor.
    pub(super) fn check(&self, what: &str, floor: Seq, force: bool, spare_marks: bool) -> Result<()> {
        let held: Vec<&str> = self.named(true).collect();
        if !held.is_empty() && !force {
            let names = list(&held, held.len() as u64);
            return Err(StateError::Held(format!(
                "the log cannot be {what} {floor}, because consumers are not done with what lies before it: {names}; \
                 name an earlier position, wait for them, remove those that nobody needs, or force it"
            )));
        }
        if spare_marks && !self.marks.is_empty() {
            let names = list(
                &self.marks.iter().map(|mark| mark.name.as_str()).collect::<Vec<_>>(),
                self.marks.len() as u64,
            );
            return Err(StateError::Held(format!(
                "the log cannot be {what} {floor}, because marks name points before it: {names}; name an earlier \
                 position, or remove them"
            )));
        }
        Ok(())
    }

    /// The consumers that lose their place: those that hold it first.
    pub(super) fn lost(&self) -> Vec<String> {
        self.named(true).chain(self.named(false)).take(NAMED).map(str::to_owned).collect()
    }

    /// The keys of consumers that lose their place wherever they move to. Without force none does: one whose hold has passed
    /// holds again when it moves.
    pub(super) fn lost_anyway(&self, force: bool) -> Vec<String> {
        let all = self.consumers.iter().filter(|_| force);
        all.map(|consumer| format!("{CONSUMERS_PREFIX}{}", consumer.name)).collect()
    }

    /// The names of the consumers that hold what they are not done with, or of those whose hold has passed.
    fn named(&self, holds: bool) -> impl Iterator<Item = &str> {
        let found = self.consumers.iter().filter(move |consumer| consumer.holds == holds);
        found.map(|consumer| consumer.name.as_str())
    }
}

/// Some names of so many, and how many more there are.
pub(super) fn list(names: &[&str], count: u64) -> String {
    let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>();
    let (shown, more) = (shown.join(", "), count.saturating_sub(shown.len() as u64));
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
