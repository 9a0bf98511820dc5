//! Running a thinning: one commit says what goes, and slices drop it.
//!
//! The slices depend on the log up to the point alone. So whoever goes on after a crash drops the same, in whichever process.

use std::ops::ControlFlow;

use super::compact::Told;
use super::holds::Holds;
use super::thin::{Thin, Thinned, ThinningPlan};
use super::values::{ValueSlice, Values};
use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::key::THINNED_PREFIX;
use crate::log::{Head, cause};
use crate::state::{Batch, Thinning};
use crate::store::engine::{Done, Work};
use crate::store::foreign::tell;
use crate::store::history::point;
use crate::store::open_store::OpenStore;
use crate::store::read::superseded::superseded;

impl OpenStore {
    /// Drops values. `batch` is empty, and has the metadata of the handle.
    pub(crate) async fn thin(&self, thin: Thin, batch: Batch) -> Result<Thinned> {
        self.begin_thinning(&thin, batch).await?;
        let done = self.go_on_thinning(thin.progress.as_ref()).await?;
        done.ok_or_else(|| StateError::Busy("another process went on with the thinning, and ended it".into()))
    }

    /// Says what a thinning would do. It reads from many states: what is written meanwhile is above the point.
    pub(crate) async fn plan_thinning(&self, thin: Thin) -> Result<ThinningPlan> {
        let (at, thinning) = self.thinning(&thin).await?;
        if let Some(going) = self.read_snapshot(|snapshot| snapshot.thinning()).await? {
            return Err(unfinished(&going));
        }
        let read = move |snapshot: &dyn Snapshot| values(snapshot, &thinning);
        let mut values = self.read_alone("thinning", read).await?;
        let mut plan = ThinningPlan { at, values: 0, bytes: 0, consumers: Vec::new() };
        loop {
            let (next, slice) = self.next_slice(values).await?;
            values = next;
            let Some(slice) = slice else { break };
            plan.values += slice.seqs.len() as u64;
            plan.bytes += slice.bytes;
            self.shared.check_open()?;
            tell(thin.progress.as_deref(), values.reached().as_u64(), at.seq.as_u64())?;
        }
        plan.consumers = self.holds_before(at.seq).await?.consumers;
        Ok(plan)
    }

    /// Which values go, and the point.
    async fn thinning(&self, thin: &Thin) -> Result<(Head, Thinning)> {
        thin.check()?;
        let point = thin.at;
        let (at, _) = self.read_snapshot(move |snapshot| point::find(snapshot, point)).await?;
        Ok((at, Thinning { at: at.seq, pattern: thin.pattern.clone(), keep: thin.keep }))
    }

    /// Commits what goes.
    async fn begin_thinning(&self, thin: &Thin, batch: Batch) -> Result<()> {
        self.check_writable()?;
        let (at, thinning) = self.thinning(thin).await?;
        loop {
            let now = self.engine.clock().shown()?;
            let of = thinning.clone();
            let read = move |snapshot: &dyn Snapshot| {
                Ok((Holds::read(snapshot, at.seq, now)?, snapshot.thinning()?, older(snapshot, &of)?))
            };
            let (holds, going, older) = self.read_snapshot(read).await?;
            if let Some(going) = going {
                return Err(unfinished(&going));
            }
            holds.check("thinned up to", at.seq, thin.force, false)?;
            // Who comes meanwhile, or moves below the point, is judged anew.
            let batch = batch.clone().expect_none_behind(at.seq, holds.head, holds.lost_anyway(thin.force));
            let older = older.iter().fold(batch, |batch, key| batch.delete(key.as_str()));
            let batch = older.set(thinning.key(), thinning.encode(at, holds.lost())?);
            match self.order(batch.may_write(THINNED_PREFIX).caused(cause::THINNED)).await {
                Err(StateError::Rejected(_)) if self.newest().await?.seq > holds.head => {}
                ordered => return ordered.map(drop),
            }
        }
    }

    /// Goes on with a thinning that was cut off; `None` if there is none.
    pub(crate) async fn go_on_thinning(&self, progress: Option<&Told>) -> Result<Option<Thinned>> {
        self.check_writable()?;
        let read = |snapshot: &dyn Snapshot| {
            let Some(thinning) = snapshot.thinning()? else { return Ok(None) };
            let hash = snapshot.hash_at(thinning.at)?.unwrap_or(snapshot.floor()?.head.hash);
            let values = values(snapshot, &thinning)?;
            Ok(Some((Head { seq: thinning.at, hash }, thinning, values)))
        };
        let Some((at, thinning, mut values)) = self.read_alone("thinning", read).await? else {
            return Ok(None);
        };
        let mut thinned = Thinned { at, values: 0, bytes: 0 };
        loop {
            let (next, slice) = self.next_slice(values).await?;
            values = next;
            let Some(slice) = slice else { break };
            if !slice.seqs.is_empty() {
                let count = slice.seqs.len() as u64;
                let Done::Whole = self.tend(Work::Thin(thinning.clone(), slice.seqs)).await? else {
                    return Ok(None);
                };
                thinned.values += count;
                thinned.bytes += slice.bytes;
            }
            self.shared.check_open()?;
            tell(progress.map(|told| &**told), values.reached().as_u64(), at.seq.as_u64())?;
        }
        self.tend(Work::EndThinning(thinning)).await?;
        self.give_back().await?;
        Ok(Some(thinned))
    }

    /// The next slice, of the state that is read now.
    async fn next_slice(&self, mut values: Values) -> Result<(Values, Option<ValueSlice>)> {
        self.read_snapshot(move |snapshot| {
            let slice = values.next(snapshot)?;
            Ok((values, slice))
        })
        .await
    }
}

/// The slices of a thinning.
fn values(snapshot: &dyn Snapshot, thinning: &Thinning) -> Result<Values> {
    let (gone, of) = (superseded(snapshot, thinning.at, thinning.keep)?, thinning.clone());
    Ok(Values::new(thinning.at, move |seq, key| gone.has(seq) && of.takes(key)))
}

/// The records of earlier thinnings of the same keys that keep as many versions: the new one says all that they say.
fn older(snapshot: &dyn Snapshot, thinning: &Thinning) -> Result<Vec<String>> {
    let mut older = Vec::new();
    snapshot.entries(THINNED_PREFIX, &mut |entry| {
        let known = Thinning::decode(&entry.key, &entry.value, entry.seq)?;
        if known.pattern == thinning.pattern && known.keep == thinning.keep && known.at < thinning.at {
            older.push(entry.key);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(older)
}

/// The error of a thinning beside another one.
fn unfinished(going: &Thinning) -> StateError {
    StateError::Busy(format!(
        "the thinning up to {} is not finished: finish it first, with resume_thinning",
        going.at
    ))
}
