//! Loading the projection of a file into memory.

use super::follower::Follower;
use crate::backend::sqlite::Table;
use crate::backend::{FoldedState, Snapshot};
use crate::error::{Result, StateError};
use crate::limits::Limits;
use crate::seq::Seq;
use crate::state::{KeyState, Projection};
use crate::store::read;
use crate::store::resident::InMemory;
use crate::store::stats::Residency;

/// How many rows are read in one transaction. It takes milliseconds, so that nothing waits long for it.
const SLICE: u32 = 4_096;
/// The fewest changes after which loading is tried again, if the projection did not fit.
const RETRY_CHANGES: u64 = 10_000;

/// Loads the projection when it may fit into memory.
#[derive(Debug, Default)]
pub(super) struct Loader {
    /// The position of the log before which loading is not tried again.
    due: Seq,
    /// The floor up to which the projection in memory has no forgotten keys.
    swept: Seq,
}

/// Why the projection was not loaded.
enum Stopped {
    /// It does not fit into the budget; this many entries did.
    Full(usize),
    Error(StateError),
}

impl From<StateError> for Stopped {
    fn from(error: StateError) -> Self {
        Self::Error(error)
    }
}

impl Loader {
    /// Loads the projection, if it is not in memory and may fit.
    pub(super) fn load_if_due(&mut self, follower: &Follower) -> Result<()> {
        let shared = follower.shared();
        let published = shared.published();
        if let Some(folded) = published.in_memory.all() {
            return self.sweep_if_due(follower, folded);
        }
        if published.head.seq < self.due {
            return Ok(());
        }
        let loaded = if shared.budget() == 0 { Err(Stopped::Full(0)) } else { load(follower) };
        let (residency, wait) = match loaded {
            Ok(()) => return Ok(()),
            Err(Stopped::Error(error @ (StateError::Closed | StateError::Busy(_)))) => return Err(error),
            Err(Stopped::Full(entries)) => (Residency::Partial, RETRY_CHANGES.max(entries as u64)),
            // A damaged store is not loaded. Reads from the storage check each row, and a verification
            // finds the damage.
            Err(Stopped::Error(StateError::Corrupted(_))) => (Residency::Failed, u64::MAX),
            Err(Stopped::Error(_)) => (Residency::Failed, RETRY_CHANGES),
        };
        shared.count(|counters| counters.residency = residency);
        self.due = Seq::new(shared.head().seq.as_u64().saturating_add(wait));
        Ok(())
    }

    /// Drops forgotten keys from the projection in memory, when the storage has dropped them.
    fn sweep_if_due(&mut self, follower: &Follower, folded: &FoldedState) -> Result<()> {
        let Some(forgotten) = folded.projection.forgotten().filter(|past| past.floor > self.swept) else {
            return Ok(());
        };
        if follower.with(|sqlite| sqlite.with_snapshot(|snapshot| snapshot?.floor()))?.unfinished.is_some() {
            return Ok(());
        }
        let swept = folded.projection.swept();
        let taken = swept.map(|projection| take_over(follower, FoldedState { projection, ..folded.clone() }));
        if let Some(Err(Stopped::Error(error))) = taken {
            return Err(error);
        }
        // It may have outgrown its budget meanwhile: then it is not in memory any more.
        self.swept = forgotten.floor;
        Ok(())
    }
}

/// Reads the rows in slices, and folds in the changes since the first slice.
///
/// Each slice is of a state of its own, because one long transaction would keep the write-ahead log from
/// starting over.
///
/// IMPORTANT: the head is read before the first slice. Every change that a slice may have missed is then
/// folded in, and folding a change again that a slice has seen leads to the same state.
fn load(follower: &Follower) -> Result<(), Stopped> {
    let shared = follower.shared();
    let start = follower.with(|sqlite| sqlite.with_snapshot(|snapshot| snapshot?.head()))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for table in [Table::Live, Table::Deleted] {
        let mut after = None;
        loop {
            let slice = |latest: KeyState| {
                bytes += latest.size();
                rows.push(latest);
            };
            after = follower.with(|sqlite| sqlite.slice(table, after, SLICE, slice))?;
            if bytes > shared.budget() {
                return Err(Stopped::Full(rows.len()));
            }
            if after.is_none() {
                break;
            }
            follower.look_if_due();
            follower.follow()?; // Other processes go on writing.
        }
    }
    let (store, projection) = (shared.store, Projection::from_rows(rows));
    let mut folded = FoldedState { head: start, projection, ..FoldedState::genesis(store) };
    follower.with(|sqlite| {
        sqlite.with_snapshot(|snapshot| {
            let snapshot = snapshot?;
            fold_on(snapshot, &mut folded, snapshot.head()?.seq)?;
            if snapshot.floor()?.unfinished.is_some() {
                return Ok(()); // The tables have rows of forgotten keys.
            }
            // The rows of forgotten keys may have been there when they were read.
            folded.projection = folded.projection.swept().unwrap_or(folded.projection.clone());
            check_counts(&folded, sqlite.counts()?)
        })
    })?;
    take_over(follower, folded)
}

/// Makes a state the published one, with the changes that were published since.
///
/// IMPORTANT: the last changes are folded inside `keep`, while nothing can be published, so that the state is exactly the
/// published one.
fn take_over(follower: &Follower, mut folded: FoldedState) -> Result<(), Stopped> {
    follower.follow()?;
    let shared = follower.shared();
    let mut in_memory = Ok(());
    shared.keep(|known| {
        if known.head.seq > folded.head.seq {
            let rest = |snapshot: Result<&dyn Snapshot>| fold_on(snapshot?, &mut folded, known.head.seq);
            in_memory = follower.with(|sqlite| sqlite.with_snapshot(rest)).map_err(Stopped::Error);
        }
        if folded.projection.bytes() > shared.budget() {
            in_memory = Err(Stopped::Full(folded.projection.len()));
        }
        (in_memory.is_ok() && known.head == folded.head).then_some(InMemory::All(folded))
    });
    in_memory
}

/// Folds in the changes up to the end of a commit.
fn fold_on(snapshot: &dyn Snapshot, folded: &mut FoldedState, until: Seq) -> Result<()> {
    if folded.head.seq < snapshot.floor()?.seq() {
        return Err(StateError::Busy(
            "the log was compacted beyond what was loaded: it is loaded again".into(),
        ));
    }
    while folded.head.seq < until {
        let limit =
            usize::try_from(until.as_u64() - folded.head.seq.as_u64()).unwrap_or(Limits::PAGE_CHANGES);
        let head = folded.head;
        read::log::follow(snapshot, head, limit.min(Limits::PAGE_CHANGES), |change| folded.fold(&change))?;
    }
    Ok(())
}

/// Checks that the projection has as many keys as the tables and their indexes have rows.
fn check_counts(folded: &FoldedState, (live, deleted): (u64, u64)) -> Result<()> {
    let projection = &folded.projection;
    let (found, all) = (projection.live() as u64, projection.len() as u64);
    if (found, all - found) == (live, deleted) {
        Ok(())
    } else {
        let what = format!(
            "the log leaves {found} keys and {} deleted ones, the tables have {live} and {deleted}",
            all - found
        );
        Err(StateError::Corrupted(what))
    }
}
