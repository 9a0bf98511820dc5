//! Erasures on a simulated disk, step by step, so that the power may go between any two of them.

use std::ops::ControlFlow;

use super::super::commit::{Sources, commit_group};
use super::super::engine::Work;
use super::super::read::erasures::erasures;
use super::super::retain::{Erase, Judgement, Named, next_number, recording_erasure};
use super::compacting::outcome;
use crate::backend::Snapshot;
use crate::backend::sqlite::Sqlite;
use crate::backend::sqlite::sim::Rng;
use crate::error::{Result, StateError};
use crate::log::Head;
use crate::state::{Batch, ErasureRecord, SeqRanges};

/// One step: records what goes, or erases a few values, or gives back a page. Returns the tip, if something was recorded.
pub(super) fn step(sqlite: &mut Sqlite, sources: &Sources, rng: &mut Rng) -> Result<Option<Head>> {
    match rng.below(4) {
        0 => sqlite.give_back(1 + u32::from(rng.byte() % 3)).map(|_| None),
        1 | 2 if erase(sqlite, 1 + rng.below(5))? => Ok(None),
        _ => record(sqlite, sources, rng),
    }
}

fn named(snapshot: &dyn Snapshot) -> Result<SeqRanges> {
    Ok(erasures(snapshot)?.into_named())
}

/// Records that values go: one record, also where there would be more.
fn record(sqlite: &mut Sqlite, sources: &Sources, rng: &mut Rng) -> Result<Option<Head>> {
    let keys = ["/k/*", "/k/1", "/**"][rng.below(3)];
    let erase = Erase::of(keys.parse().unwrap()).leave_live();
    let (ranges, number) = sqlite.with_snapshot(|snapshot| {
        let snapshot = snapshot?;
        let mut judgement = Judgement::of(snapshot, erase)?;
        while judgement.go_on(snapshot)? {}
        Ok::<_, StateError>((judgement.ranges, next_number(snapshot)?))
    })?;
    let records = ErasureRecord::split(&ranges, 40 + rng.below(200));
    let Some(record) = records.first() else { return Ok(None) };
    let batch = recording_erasure(&Batch::new(), record, number)?;
    let outcome = commit_group(sqlite, sources, &[batch], None);
    for result in outcome.results {
        match result {
            Ok(_) => {}
            Err(StateError::Rejected(_)) => return Ok(None), // Another process took the number.
            Err(error) => return Err(error),
        }
    }
    Ok(outcome.tip.map(|tip| tip.head))
}

/// Erases so many of the values that were named; false if there are none.
fn erase(sqlite: &mut Sqlite, most: usize) -> Result<bool> {
    let slice = sqlite.with_snapshot(|snapshot| {
        let snapshot = snapshot?;
        let mut due = Named::new(named(snapshot)?).of(most);
        while let Some(slice) = due.next(snapshot)? {
            if !slice.seqs.is_empty() {
                return Ok::<_, StateError>(Some(slice));
            }
        }
        Ok(None)
    })?;
    let Some(slice) = slice else { return Ok(false) };
    Work::Erase(slice.seqs).run(sqlite).map_err(outcome)?;
    Ok(true)
}

/// Ends all erasures, and demands that nothing of what they named is left.
pub(super) fn finish(sqlite: &mut Sqlite) -> Result<()> {
    for _ in 0..1_000 {
        if !erase(sqlite, 100)? {
            break;
        }
    }
    while sqlite.give_back(100)? > 0 {}
    sqlite.with_snapshot(|snapshot| {
        let snapshot = snapshot?;
        for (first, last) in named(snapshot)?.as_slice() {
            snapshot.valued(first.previous(), *last, &mut |valued| {
                Err::<ControlFlow<()>, _>(StateError::Corrupted(format!("{valued:?} was not erased")))
            })?;
        }
        Ok(())
    })
}
