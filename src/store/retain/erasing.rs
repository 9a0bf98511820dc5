//! Running an erasure: commits say which values go, slices overwrite them, and the write-ahead log is emptied.
//!
//! What is recorded stays true, so nothing is noted of the slices: whoever goes on after a crash goes over the records, and
//! erases what is still there.

use std::ops::ControlFlow;
use std::time::Duration;

use super::compact::Told;
use super::erase::{Erase, Erasure, ErasurePlan};
use super::judgement::{Judgement, Live};
use super::named::Named;
use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::key::{ERASURES_PREFIX, KeyRange};
use crate::limits::Limits;
use crate::log::{Head, cause};
use crate::seq::Seq;
use crate::state::{Batch, ErasureRecord, SeqRanges};
use crate::store::engine::{Done, Work};
use crate::store::foreign::tell;
use crate::store::open_store::OpenStore;
use crate::store::read::erasures::{erasures, newest};
use crate::store::threads::pause;

/// The most bytes of a record: the ranges of over two thousand values that lie alone.
const RECORD: usize = 1 << 16;
/// How often it is tried to empty the write-ahead log, and how long each try waits for the next one. Reads that are not long
/// are over by then.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

impl OpenStore {
    /// Erases values. `batch` is empty, and has the metadata of the handle.
    pub(crate) async fn erase(&self, erase: Erase, batch: Batch) -> Result<Erasure> {
        self.check_writable()?;
        let Erase { beside_readers, progress, .. } = erase.clone();
        let judgement = self.judge(erase, Judgement::check_live).await?;
        let at = judgement.at();
        if judgement.ranges.is_empty() {
            return Ok(Erasure { at, values: 0, bytes: 0, swept: true });
        }
        for record in ErasureRecord::split(&judgement.ranges, RECORD) {
            self.record_erasure(&record, &batch).await?;
        }
        let (values, bytes) = self.erase_named(judgement.ranges, at.seq, progress.as_ref()).await?;
        self.give_back().await?;
        let swept = self.empty_log().await?;
        if !swept && !beside_readers {
            return Err(self.held_in_log(
                &format!("{values} values are erased for every reader"),
                "them",
                "resume_erasure",
            ));
        }
        Ok(Erasure { at, values, bytes, swept })
    }

    /// Says what an erasure would do.
    pub(crate) async fn plan_erasure(&self, erase: Erase) -> Result<ErasurePlan> {
        let judgement = self.judge(erase, |_| Ok(())).await?;
        let (at, Judgement { values, bytes, live, .. }) = (judgement.at(), judgement);
        let Live { count: live, keys: live_keys } = live;
        Ok(ErasurePlan { at, values, bytes, live, live_keys })
    }

    /// Judges which values go. `check` may refuse before they are looked for.
    async fn judge(&self, erase: Erase, check: fn(&Judgement) -> Result<()>) -> Result<Judgement> {
        erase.check()?;
        let progress = erase.progress.clone();
        let read = move |snapshot: &dyn Snapshot| Judgement::of(snapshot, erase);
        let mut judgement = self.read_alone("erasure", read).await?;
        check(&judgement)?;
        loop {
            let (gone_on, more) = self
                .read_snapshot(move |snapshot| {
                    let more = judgement.go_on(snapshot)?;
                    Ok((judgement, more))
                })
                .await?;
            judgement = gone_on;
            self.shared.check_open()?;
            let total = 2 * judgement.at().seq.as_u64();
            tell(progress.as_deref(), judgement.reached().as_u64(), total)?;
            if !more {
                return Ok(judgement);
            }
        }
    }

    /// Commits a record under the next number that is free.
    async fn record_erasure(&self, record: &ErasureRecord, batch: &Batch) -> Result<()> {
        loop {
            let number = self.read_snapshot(next_number).await?;
            let batch = recording(batch, record, number)?;
            match self.order_within(batch, &Limits::of_records(RECORD)).await {
                Err(StateError::Rejected(_)) => {} // Another erasure took the number.
                recorded => return recorded.map(drop),
            }
        }
    }

    /// Erases slice by slice what was named and is still there. Returns how many values that were, and their bytes.
    async fn erase_named(&self, ranges: SeqRanges, end: Seq, progress: Option<&Told>) -> Result<(u64, u64)> {
        let (mut named, mut erased, mut going) = (Named::new(ranges), (0, 0), None);
        loop {
            // The next slice is made while the writer erases the one before it.
            let (next, slice) = self
                .read_snapshot(move |snapshot| {
                    let slice = named.next(snapshot)?;
                    Ok((named, slice))
                })
                .await?;
            named = next;
            if let Some(going) = going.take() {
                self.done(going).await?;
            }
            self.shared.check_open()?;
            let (end, told) = (end.as_u64(), progress.map(|told| &**told));
            let Some(slice) = slice else {
                tell(told, 2 * end, 2 * end)?;
                return Ok(erased);
            };
            if !slice.seqs.is_empty() {
                erased = (erased.0 + slice.seqs.len() as u64, erased.1 + slice.bytes);
                going = Some(self.ask(Work::Erase(slice.seqs))?);
            }
            tell(told, end + named.reached().as_u64().min(end), 2 * end)?;
        }
    }

    /// Empties the write-ahead log; false if a reader needs it for long.
    pub(super) async fn empty_log(&self) -> Result<bool> {
        for _ in 0..TRIES {
            if self.tend(Work::EmptyLog).await? == Done::Whole {
                return Ok(true);
            }
            pause(PAUSE).await?;
        }
        Ok(false)
    }

    /// The error of a write-ahead log that could not be emptied.
    pub(super) fn held_in_log(&self, what: &str, them: &str, call: &str) -> StateError {
        let readers = self.engine.wal().readers;
        let reader = readers.first().map_or_else(|| "somebody".to_owned(), ToString::to_string);
        StateError::Busy(format!(
            "{what}, but the file of the write-ahead log may have {them} until it is emptied, which cannot be done while {reader} \
             reads an older state: end that, then call {call}"
        ))
    }

    /// Erases what the records name and is still there, and empties the write-ahead log; `None` if there was nothing to do.
    pub(crate) async fn go_on_erasing(&self) -> Result<Option<Erasure>> {
        self.check_writable()?;
        let swept = self.shared.registry().erased().clone();
        if swept.is_swept(self.read_snapshot(newest).await?) {
            return Ok(None); // So it is where there is no record.
        }
        let read = |snapshot: &dyn Snapshot| Ok((snapshot.head()?, erasures(snapshot)?.into_named()));
        let (at, named): (Head, SeqRanges) = self.read_alone("erasure", read).await?;
        let (values, bytes) = self.erase_named(named, at.seq, None).await?;
        // IMPORTANT: nothing says whether the log was emptied after an earlier erasure. Where it has something, that may be of
        // a value that was erased since.
        let is_empty = self.engine.wal().file == 0;
        if values > 0 || !is_empty {
            self.give_back().await?;
            if !self.empty_log().await? {
                return Err(self.held_in_log(
                    "all values that were to go are erased for every reader",
                    "them",
                    "resume_erasure",
                ));
            }
        }
        swept.swept(at.seq);
        Ok((values > 0 || !is_empty).then_some(Erasure { at, values, bytes, swept: true }))
    }
}

/// The batch that records an erasure, if nobody else has taken its number.
pub(crate) fn recording(batch: &Batch, record: &ErasureRecord, number: u64) -> Result<Batch> {
    let key = ErasureRecord::key(number);
    let batch = batch.clone().expect_absent(key.clone()).set(key, record.encode()?);
    Ok(batch.may_write(ERASURES_PREFIX).caused(cause::ERASED))
}

/// The number of the next record.
pub(crate) fn next_number(snapshot: &dyn Snapshot) -> Result<u64> {
    let mut last = 0;
    snapshot.keys(&KeyRange::prefix(ERASURES_PREFIX), &mut |key| {
        last = last.max(ErasureRecord::number(key).unwrap_or(0));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(last.saturating_add(1))
}
