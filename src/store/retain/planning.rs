//! Planning a compaction: the reads of one, without what it writes.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::check::Check;
use super::compact::{Compact, CompactionPlan};
use super::plan::Record;
use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::log::{Change, Timestamp};
use crate::seq::Seq;
use crate::state::{Fate, Floor, Leaving, Unfinished};
use crate::store::foreign::tell;
use crate::store::history::point;
use crate::store::open_store::OpenStore;

/// How many positions are read from one state.
const POSITIONS: u64 = 65_536;

impl OpenStore {
    /// Says what a compaction would do. It reads from many states: what is written meanwhile is above the floor.
    pub(crate) async fn plan_compaction(&self, compact: Compact) -> Result<CompactionPlan> {
        let before = compact.before;
        let (record, (head, at)) = self
            .read_snapshot(move |snapshot| {
                if !snapshot.is_whole() {
                    return Err(StateError::Unsupported("a part of a log is not compacted".into()));
                }
                Ok((Record::read(snapshot)?, point::find(snapshot, before)?))
            })
            .await?;
        let at = at.unwrap_or(Timestamp::EPOCH);
        record.check(head, at, (!compact.force).then_some(self.engine.clock().shown()?))?;
        let floor = Floor::at(head, Some(at));
        let leaving = self.leaving(&record, &compact, floor.clone()).await?;
        let check = Check::new(self.shared.store, record.floor.clone(), record.seal(), floor);
        let mut plan = Planning { check, leaving, amounts: Amounts::default() };
        loop {
            let (gone_on, more) = self
                .read_snapshot(move |snapshot| {
                    let more = plan.go_on(snapshot)?;
                    Ok((plan, more))
                })
                .await?;
            plan = gone_on;
            self.shared.check_open()?;
            tell(compact.progress.as_deref(), plan.check.reached().as_u64(), head.seq.as_u64())?;
            if !more {
                break;
            }
        }
        let holds = self.holds_before(head.seq).await?;
        let Amounts { dropped, dropped_bytes, left, left_bytes, forgotten } = plan.amounts;
        Ok(CompactionPlan {
            before: record.floor.head,
            floor: head,
            dropped,
            dropped_bytes,
            left,
            left_bytes,
            forgotten,
            consumers: holds.consumers,
            marks: holds.marks,
        })
    }

    /// Which changes a compaction would drop.
    async fn leaving(&self, record: &Record, compact: &Compact, floor: Floor) -> Result<Leaving> {
        let to = floor.seq();
        // From which version on forgotten keys would begin, does not matter here.
        let forgotten = record.forgotten(compact, to, 0);
        let unfinished = Some(Arc::new(Unfinished { reached: Seq::ZERO, keep: compact.keep.clone() }));
        let mut leaving = Leaving::below(&Floor { forgotten, unfinished, ..floor });
        let to =
            if leaving.forgets() { self.read_snapshot(|snapshot| snapshot.head()).await?.seq } else { to };
        let mut reached = Seq::ZERO;
        while reached < to {
            let next = Seq::new(reached.as_u64().saturating_add(POSITIONS)).min(to);
            leaving = self
                .read_snapshot(move |snapshot| {
                    snapshot.replaced(reached, next, &mut |(seq, before)| {
                        leaving.replaces(seq, before);
                        Ok(ControlFlow::Continue(()))
                    })?;
                    Ok(leaving)
                })
                .await?;
            reached = next;
        }
        Ok(leaving)
    }
}

/// How much would go, and how much would be left.
#[derive(Default)]
struct Amounts {
    dropped: u64,
    dropped_bytes: u64,
    left: u64,
    left_bytes: u64,
    forgotten: u64,
}

/// Counts what would become of the changes up to the floor, while they are checked.
struct Planning {
    check: Check,
    leaving: Leaving,
    amounts: Amounts,
}

impl Planning {
    /// Goes on; false once it is at the floor.
    fn go_on(&mut self, snapshot: &dyn Snapshot) -> Result<bool> {
        let Self { check, leaving, amounts } = self;
        check.go_on(snapshot, &mut |change, meta| amounts.add(leaving.fate(change), size(change, meta)))
    }
}

impl Amounts {
    fn add(&mut self, fate: Fate, bytes: u64) {
        let (changes, sum) = match fate {
            Fate::Stays => (&mut self.left, &mut self.left_bytes),
            Fate::Replaced | Fate::Forgotten => (&mut self.dropped, &mut self.dropped_bytes),
        };
        (*changes, *sum) = (*changes + 1, *sum + bytes);
        self.forgotten += u64::from(fate == Fate::Forgotten);
    }
}

/// The bytes of the key, the value and the metadata of a change.
fn size(change: &Change, meta: usize) -> u64 {
    (change.key.len() + change.value.as_ref().map_or(0, |value| value.len()) + meta) as u64
}
