//! Running a compaction.
//!
//! It is three things: one commit, which moves the floor for everybody; slices, which drop what lies before it; and a second
//! commit, which names the digest of what is left. The slices depend on the log alone. So whoever goes on after a crash makes
//! the same base, in whichever process.

use std::time::Duration;

use tokio::sync::oneshot;

use super::check::Check;
use super::compact::{Compact, Compacted, Told};
use super::holds::Holds;
use super::plan::{self, Record};
use super::slices::{Made, Slices};
use crate::backend::Snapshot;
use crate::error::{Result, StateError};

use crate::limits::{Limits, MOST_VALUE_BYTES};
use crate::log::{Timestamp, cause};
use crate::seq::Seq;
use crate::state::{BaseSeal, Batch, Compaction, Floor};
use crate::store::engine::{Chore, Done, Work};
use crate::store::foreign::{broken, tell};
use crate::store::history::point;
use crate::store::open_store::OpenStore;
use crate::store::read::base;
use crate::store::threads::pause;

/// The most bytes of the record that begins a compaction. The one that ends it has the digest besides, and always fits: a
/// compaction that has begun must come to its end, also in a program with smaller limits.
const FIRST_RECORD: usize = 1 << 20;
/// How long work waits that would make a write-ahead log above its cap still longer. A reader may hold it for minutes.
const NOT_NOW: Duration = Duration::from_millis(20);
/// How many pages are given back at once.
const PAGES: u32 = 256;

impl OpenStore {
    /// Compacts the log. `batch` is empty, and has the metadata of the handle.
    pub(crate) async fn compact(&self, compact: Compact, batch: Batch) -> Result<Compacted> {
        self.begin(&compact, batch.clone()).await?;
        let done = self.go_on(compact.progress.as_ref(), batch).await?;
        done.ok_or_else(|| {
            StateError::Busy("another process went on with the compaction, and ended it".into())
        })
    }

    /// Checks the log up to the new floor, and commits the floor.
    async fn begin(&self, compact: &Compact, batch: Batch) -> Result<()> {
        self.check_writable()?;
        let before = compact.before;
        let (record, (head, at)) = self
            .read_snapshot(move |snapshot| Ok((Record::read(snapshot)?, point::find(snapshot, before)?)))
            .await?;
        let at = at.unwrap_or(Timestamp::EPOCH);
        record.check(head, at, (!compact.force).then_some(self.engine.clock().shown()?))?;
        self.holds(head.seq, compact).await?;
        let seal = record.seal();
        let floor = Floor::at(head, Some(at));
        let mut check = Check::new(self.shared.store, record.floor.clone(), seal, floor);
        loop {
            let (checked, more) = self
                .read_snapshot(move |snapshot| {
                    let more = check.go_on(snapshot, &mut |_, _| {})?;
                    Ok((check, more))
                })
                .await?;
            check = checked;
            self.told(compact.progress.as_ref(), check.reached().as_u64(), head.seq)?;
            if !more {
                break;
            }
        }
        loop {
            let holds = self.holds(head.seq, compact).await?;
            let next = record.next(&check, compact, holds.lost());
            // Who comes meanwhile, or moves below the floor, is judged anew.
            let batch =
                batch.clone().expect_none_behind(head.seq, holds.head, holds.lost_anyway(compact.force));
            let limits = Limits::of_records(FIRST_RECORD);
            match self.commit_record(batch, &next, record.version, cause::COMPACTING, &limits).await {
                Err(StateError::Busy(_)) if self.holds(head.seq, compact).await?.head > holds.head => {
                    let now = self.read_snapshot(Record::read).await?;
                    if now.version != record.version {
                        return Err(begun());
                    }
                }
                begun => return begun,
            }
        }
    }

    /// Who needs what lies before a floor; an error if that is in the way.
    async fn holds(&self, floor: Seq, compact: &Compact) -> Result<Holds> {
        let holds = self.holds_before(floor).await?;
        holds.check("compacted to", floor, compact.force, compact.spare_marks)?;
        Ok(holds)
    }

    /// Who needs what lies before a floor.
    pub(super) async fn holds_before(&self, floor: Seq) -> Result<Holds> {
        let now = self.engine.clock().shown()?;
        self.read_snapshot(move |snapshot| Holds::read(snapshot, floor, now)).await
    }

    /// Commits a record of the compaction, if nobody else has committed one meanwhile.
    async fn commit_record(
        &self,
        batch: Batch,
        next: &Compaction,
        version: u64,
        cause: &str,
        limits: &Limits,
    ) -> Result<()> {
        match self.order_within(plan::recording(batch, next, version, cause)?, limits).await {
            Ok(_) => Ok(()),
            Err(StateError::Rejected(_)) => Err(begun()),
            Err(error) => Err(error),
        }
    }

    /// Goes on with a compaction that was cut off; `None` if there is none.
    pub(crate) async fn go_on(&self, progress: Option<&Told>, batch: Batch) -> Result<Option<Compacted>> {
        self.check_writable()?;
        let mut dropped = 0;
        loop {
            let Record { floor, last, version } = self.read_snapshot(Record::read).await?;
            let (Some(going), Some(last)) = (floor.unfinished.clone(), last) else { return Ok(None) };
            let Some(seal) = self.slices(&floor, going.reached, progress, &mut dropped).await? else {
                continue;
            };
            match last.base {
                Some(named) if named == seal => {}
                Some(_) => return Err(other_digest(&floor)),
                None => {
                    let sealed = Compaction { base: Some(seal), ..last };
                    let limits = Limits::of_records(MOST_VALUE_BYTES);
                    let batch = batch.clone();
                    match self.commit_record(batch, &sealed, version, cause::COMPACTED, &limits).await {
                        Err(StateError::Busy(_)) => continue, // Another process has named it.
                        committed => committed?,
                    }
                }
            }
            self.tend(Work::Finish(floor.seq())).await?;
            self.give_back().await?;
            let BaseSeal { count: left, digest } = seal;
            return Ok(Some(Compacted { floor: floor.head, dropped, left, digest }));
        }
    }

    /// Drops slice by slice; `None` if another process has dropped one, so that this one must begin anew.
    async fn slices(
        &self,
        floor: &Floor,
        reached: Seq,
        progress: Option<&Told>,
        dropped: &mut u64,
    ) -> Result<Option<BaseSeal>> {
        let (store, at) = (self.shared.store, floor.clone());
        let read = move |snapshot: &dyn Snapshot| {
            let leaving = base::leaving(snapshot, &at)?;
            Ok(Slices::new(store, at, leaving))
        };
        let mut slices = self.read_alone("compaction", read).await?;
        let mut dropping = None;
        loop {
            // The next slice is made while the writer drops the one before it.
            let (next, made) = self
                .read_snapshot(move |snapshot| {
                    let made = slices.next(snapshot)?;
                    Ok((slices, made))
                })
                .await?;
            slices = next;
            if let Some((going, drops)) = dropping.take() {
                match self.done(going).await? {
                    Done::Whole => *dropped += drops,
                    _ => return Ok(None),
                }
            }
            let slice = match made {
                Made::Slice(slice) => slice,
                Made::All => return Ok(Some(slices.seal())),
                Made::Outdated => return Ok(None),
            };
            if slice.to > reached {
                // What lies up to there is as it stays, and was only read for the digest.
                let slice = crate::backend::Slice { from: slice.from.max(reached), ..slice };
                let drops =
                    slice.runs.iter().map(|(first, last)| last.as_u64() - first.as_u64() + 1).sum::<u64>();
                dropping = Some((self.ask(Work::Drop(slice))?, drops));
            }
            self.told(progress, floor.seq().as_u64() + slices.reached().as_u64(), floor.seq())?;
        }
    }

    /// Gives back the room of what was dropped.
    pub(super) async fn give_back(&self) -> Result<()> {
        let mut left = u64::MAX;
        while let Done::Left(now) = self.tend(Work::GiveBack(PAGES)).await?
            && now > 0
            && now < left
        {
            left = now;
        }
        Ok(())
    }

    /// Has the writer do some work.
    pub(super) async fn tend(&self, work: Work) -> Result<Done> {
        self.done(self.ask(work)?).await
    }

    /// Asks the writer for some work.
    pub(super) fn ask(&self, work: Work) -> Result<Asked> {
        self.shared.check_open()?;
        let (reply, receiver) = oneshot::channel();
        let again = work.clone();
        self.engine.tend(Chore { work, done: Box::new(move |done| drop(reply.send(done))) });
        Ok(Asked { again, receiver })
    }

    /// Waits for work that was asked for. What cannot be done now is asked for again.
    pub(super) async fn done(&self, mut asked: Asked) -> Result<Done> {
        loop {
            let ended = || Err(self.shared.check_open().err().unwrap_or_else(broken));
            match asked.receiver.await.unwrap_or_else(|_| ended())? {
                Done::NotNow => {
                    pause(NOT_NOW).await?;
                    asked = self.ask(asked.again)?;
                }
                done => return Ok(done),
            }
        }
    }

    /// Tells the progress. Each change up to the floor counts twice.
    fn told(&self, progress: Option<&Told>, done: u64, floor: Seq) -> Result<()> {
        self.shared.check_open()?;
        tell(progress.map(|told| &**told), done, 2 * floor.as_u64())
    }
}

/// Work that the writer was asked for.
pub(super) struct Asked {
    again: Work,
    receiver: oneshot::Receiver<Result<Done>>,
}

fn begun() -> StateError {
    StateError::Busy("another compaction began meanwhile".into())
}

fn other_digest(floor: &Floor) -> StateError {
    StateError::Corrupted(format!(
        "what is left up to {} has another digest than the log names: verify the store",
        floor.seq()
    ))
}
