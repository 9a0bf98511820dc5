//! Compactions on a simulated disk, step by step, so that the power may go between any two of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::super::commit::{Sources, commit_group};
use super::super::engine::Work;
use super::super::read::{base, log::recorded};
use super::super::retain::{Check, Compact, Made, Record, Slices, recording};
use crate::backend::sqlite::Sqlite;
use crate::backend::sqlite::sim::Rng;
use crate::backend::{CommitError, Slice, Snapshot};
use crate::error::{Result, StateError};
use crate::key::COMPACTION_KEY;
use crate::log::{FollowBase, Head, cause};
use crate::seq::Seq;
use crate::state::{BaseSeal, Batch, Compaction, Floor};

/// The seal that each compaction leads to if nothing cuts it off, by the head after the commit that began it.
static EXPECTED: Mutex<Option<HashMap<Head, BaseSeal>>> = Mutex::new(None);

fn expected<T>(with: impl FnOnce(&mut HashMap<Head, BaseSeal>) -> T) -> T {
    let mut expected = EXPECTED.lock().unwrap_or_else(PoisonError::into_inner);
    with(expected.get_or_insert_default())
}

/// The seal of the base that is left in the end.
fn seal_of(snapshot: &dyn Snapshot, floor: &Floor) -> Result<BaseSeal> {
    let mut follow = FollowBase::new(snapshot.store_id(), floor.head, floor.at);
    let mut count = 0;
    base::base(snapshot, floor, &mut |linked| {
        let (change, header) = (&linked.change, linked.change.header_hash());
        follow
            .check_hashed(Some(linked.before), &change.view(None), header)
            .map_err(|error| StateError::Corrupted(error.to_string()))?;
        count += 1;
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    Ok(BaseSeal { count, digest: follow.digest() })
}

pub(super) fn outcome(error: CommitError) -> StateError {
    match error {
        CommitError::NotRecorded(error) | CommitError::Unknown(error) => error,
    }
}

/// One step: begins a compaction, or drops a few changes, or ends it. Returns the tip, if something was recorded.
pub(super) fn step(sqlite: &mut Sqlite, sources: &Sources, rng: &mut Rng) -> Result<Option<Head>> {
    let record = sqlite.with_snapshot(|snapshot| Record::read(snapshot?))?;
    match &record.floor.unfinished {
        None => begin(sqlite, sources, &record, rng),
        Some(going) => {
            let reached = going.reached;
            go_on(sqlite, sources, record, reached, rng)
        }
    }
}

/// Ends the compaction that goes on.
pub(super) fn finish(sqlite: &mut Sqlite, sources: &Sources, rng: &mut Rng) -> Result<()> {
    while sqlite.with_snapshot(|snapshot| snapshot?.floor())?.unfinished.is_some() {
        step(sqlite, sources, rng)?;
    }
    Ok(())
}

/// Compacts to the end of a commit, keeps one key, and forgets the others.
pub(crate) fn compact_to(sqlite: &mut Sqlite, sources: &Sources, to: Seq) {
    let compact = Compact::before(to).force().keep("/k/b1".parse().unwrap()).forget();
    begin_at(sqlite, sources, to, &compact).unwrap().unwrap();
    finish(sqlite, sources, &mut Rng::new(1)).unwrap();
}

/// Checks the log up to a floor, and records that it is one.
fn begin_at(sqlite: &mut Sqlite, sources: &Sources, to: Seq, compact: &Compact) -> Result<Option<Head>> {
    let record = sqlite.with_snapshot(|snapshot| Record::read(snapshot?))?;
    let (to, at) = sqlite.with_snapshot(|snapshot| {
        let snapshot = snapshot?;
        let change = recorded(snapshot, to)?;
        Ok::<_, StateError>((change.head(), change.at))
    })?;
    record.check(to, at, None)?;
    let mut check = Check::new(sqlite.id(), record.floor.clone(), record.seal(), Floor::at(to, Some(at)));
    while sqlite.with_snapshot(|snapshot| check.go_on(snapshot?, &mut |_, _| {}))? {}
    let next = record.next(&check, compact, Vec::new());
    commit(sqlite, sources, &next, record.version, cause::COMPACTING)
}

fn begin(sqlite: &mut Sqlite, sources: &Sources, record: &Record, rng: &mut Rng) -> Result<Option<Head>> {
    let floor = record.floor.seq();
    let head = sqlite.with_snapshot(|snapshot| snapshot?.head())?.seq;
    let behind = usize::try_from(head.as_u64() - floor.as_u64()).unwrap();
    let at = Seq::new(floor.as_u64() + rng.below(behind + 1) as u64);
    let to = sqlite.with_snapshot(|snapshot| snapshot?.commit_end(at))?;
    if to.seq <= floor {
        return Ok(None);
    }
    let mut compact = Compact::before(to.seq).force();
    if rng.once_in(2) {
        compact = compact.keep("/k/1".parse().unwrap());
    }
    if rng.once_in(2) {
        compact = compact.forget();
    }
    let tip = begin_at(sqlite, sources, to.seq, &compact)?;
    if let Some(tip) = tip {
        let seal = sqlite.with_snapshot(|snapshot| {
            let snapshot = snapshot?;
            let floor = snapshot.floor()?;
            // Another process may have gone on already.
            let untouched =
                floor.head == to && floor.unfinished.as_ref().is_some_and(|going| going.reached == Seq::ZERO);
            let same = snapshot.hash_at(tip.seq)? == Some(tip.hash);
            Ok::<_, StateError>(if untouched && same { Some(seal_of(snapshot, &floor)?) } else { None })
        })?;
        if let Some(seal) = seal {
            expected(|known| known.insert(tip, seal));
        }
    }
    Ok(tip)
}

fn commit(
    sqlite: &mut Sqlite,
    sources: &Sources,
    record: &Compaction,
    version: u64,
    cause: &str,
) -> Result<Option<Head>> {
    let batch = recording(Batch::new(), record, version, cause)?;
    let outcome = commit_group(sqlite, sources, &[batch], None);
    for result in outcome.results {
        match result {
            Ok(_) => {}
            Err(StateError::Rejected(_)) => return Ok(None), // Another process was faster.
            Err(error) => return Err(error),
        }
    }
    Ok(outcome.tip.map(|tip| tip.head))
}

fn go_on(
    sqlite: &mut Sqlite,
    sources: &Sources,
    record: Record,
    reached: Seq,
    rng: &mut Rng,
) -> Result<Option<Head>> {
    let (store, most) = (sqlite.id(), 1 + rng.below(5) as u64);
    let made = sqlite.with_snapshot(|snapshot| {
        let snapshot = snapshot?;
        let leaving = base::leaving(snapshot, &record.floor)?;
        let mut slices = Slices::new(store, record.floor.clone(), leaving).of(most);
        while let Made::Slice(slice) = slices.next(snapshot)? {
            if slice.to > reached {
                return Ok((Some(slice), slices.seal()));
            }
        }
        Ok::<_, StateError>((None, slices.seal()))
    })?;
    let (slice, seal) = made;
    if let Some(slice) = slice {
        let slice = Slice { from: slice.from.max(reached), ..slice };
        Work::Drop(slice).run(sqlite).map_err(outcome)?;
        return Ok(None);
    }
    let Some(last) = record.last else { return Err(StateError::Corrupted("there is no record".into())) };
    let Some(named) = last.base else {
        let began = sqlite.with_snapshot(|snapshot| {
            let snapshot = snapshot?;
            let seq = snapshot.key_version(COMPACTION_KEY)?.unwrap().seq;
            Ok::<_, StateError>(Head { seq, hash: snapshot.hash_at(seq)?.unwrap() })
        })?;
        if let Some(undisturbed) = expected(|known| known.get(&began).copied())
            && undisturbed != seal
        {
            return Err(StateError::Corrupted(
                "it ends with another base than one that nothing cut off".into(),
            ));
        }
        return commit(
            sqlite,
            sources,
            &Compaction { base: Some(seal), ..last },
            record.version,
            cause::COMPACTED,
        );
    };
    if named != seal {
        return Err(StateError::Corrupted("the log names another base".into()));
    }
    Work::Finish(record.floor.seq()).run(sqlite).map_err(outcome)?;
    Ok(None)
}
