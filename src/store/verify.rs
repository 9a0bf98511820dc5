//! Verifying a store: what is looked at, and in which order.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::alongside::{Taken, alongside};
use super::export;
use super::read::{pass_withheld, resolve};
use crate::audit::{Lasts, Level, Pack, Progress, Tally, Unpacked, Verification, VerifyReport};
use crate::backend::{Row, Snapshot};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::log::{Anchor, Change, Follow, Head, header_hash};
use crate::planted::planted;
use crate::seq::Seq;
use crate::state::{Entry, Slot};

/// Changes that a quick verification looks at.
const RECENT: u64 = 1_000;

/// What to verify.
///
/// ```
/// use univrs_state::{Level, MemoryStore, StateStore, Verify};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// let kept = store.anchor().await?; // in another place than the store
/// store.set("/a", b"2".to_vec()).await?;
///
/// let report = store.verify_with(Verify::level(Level::Chain).anchors([kept])).await?;
/// assert!(report.is_intact());
/// let open = report.not_provable[0].to_string();
/// assert_eq!(open, "1 change after the newest anchor (1) could have been cut off or rewritten");
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "a verification does nothing until it is given to a store"]
pub struct Verify {
    level: Level,
    anchors: Vec<Anchor>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl Verify {
    pub(super) fn is_full(&self) -> bool {
        self.level == Level::Full
    }

    /// All there is.
    pub fn full() -> Self {
        Self::default()
    }

    /// This much.
    pub fn level(level: Level) -> Self {
        Self { level, ..Self::default() }
    }

    /// Also whether these anchors are in the log.
    pub fn anchors(mut self, anchors: impl IntoIterator<Item = Anchor>) -> Self {
        self.anchors.extend(anchors);
        self
    }

    /// Calls this now and then, from a thread of the store.
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }
}

impl fmt::Debug for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify")
            .field("level", &self.level)
            .field("anchors", &self.anchors)
            .finish_non_exhaustive()
    }
}

/// Verifies a store, until `cancelled`. Corruption is a finding; other errors stay errors.
#[cfg(test)]
pub(super) fn verify(
    snapshot: &dyn Snapshot,
    verify: &Verify,
    cancelled: &dyn Fn() -> bool,
) -> Result<VerifyReport> {
    Ok(conclude(rows(snapshot, verify, cancelled)?, &flaws(snapshot, cancelled)?))
}

/// Verifies what stands in the rows.
pub(super) fn rows(
    snapshot: &dyn Snapshot,
    verify: &Verify,
    cancelled: &dyn Fn() -> bool,
) -> Result<VerifyReport> {
    let watch = Watch { total: 0, progress: verify.progress.as_deref(), cancelled };
    let mut report = if verify.level == Level::Quick {
        quick(snapshot)?
    } else {
        // A part of a log has no sum that must come out.
        let quickly = if snapshot.is_whole() { at_once(snapshot, verify.level, &watch)? } else { None };
        match quickly {
            Some(report) => report,
            None => look_again(snapshot, verify.level, &watch)?,
        }
    };
    for anchor in &verify.anchors {
        match snapshot.hash_at(anchor.head.seq) {
            Ok(hash) => report.anchor(snapshot.store_id(), anchor, hash),
            Err(StateError::Corrupted(_)) => report.anchor(snapshot.store_id(), anchor, None),
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

/// What is wrong with the storage around the rows: an index or a table that no row shows.
pub(super) fn flaws(snapshot: &dyn Snapshot, cancelled: &dyn Fn() -> bool) -> Result<Vec<String>> {
    let mut flaws = Vec::new();
    let read = snapshot.flaws(&mut |what| {
        flaws.push(what);
        if cancelled() { Err(StateError::Closed) } else { Ok(ControlFlow::Continue(())) }
    });
    flaws.extend(corruption(read)?);
    Ok(flaws)
}

/// The report of both.
pub(super) fn conclude(report: VerifyReport, flaws: &[String]) -> VerifyReport {
    flaws.iter().fold(report, |report, what| report.with(None, None, what)).concluded()
}

/// Who is told how far it is, and who may end it.
struct Watch<'a> {
    total: u64,
    progress: Option<&'a (dyn Fn(Progress) + Send + Sync)>,
    cancelled: &'a dyn Fn() -> bool,
}

impl Watch<'_> {
    fn at(&self, done: u64) -> Result<ControlFlow<()>> {
        if (self.cancelled)() {
            return Err(StateError::Closed);
        }
        if let Some(progress) = self.progress {
            progress(Progress { done, total: self.total.max(done) });
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The whole log on two threads, and the projection by its sums. None if anything at all is not as
/// it must be: what it is, is looked for in another way.
fn at_once(snapshot: &dyn Snapshot, level: Level, watch: &Watch<'_>) -> Result<Option<VerifyReport>> {
    match sums(snapshot, level, watch) {
        Err(StateError::Corrupted(_)) => Ok(None),
        report => report,
    }
}

fn sums(snapshot: &dyn Snapshot, level: Level, watch: &Watch<'_>) -> Result<Option<VerifyReport>> {
    let head = snapshot.tip()?.head;
    let watch = Watch { total: head.seq.as_u64(), ..*watch };
    let key = RandomState::new();
    let mut report = VerifyReport::of(level, head);
    let mut rows = Tally::new(key.clone());
    let mut lasts = Lasts::default();
    if level == Level::Full {
        projection(snapshot, head.seq, &mut rows, &mut lasts, &mut report, &watch)?;
    }
    let follow = Follow::genesis(snapshot.store_id());
    let log = alongside(
        |send| export::read(snapshot, Seq::ZERO, Seq::MAX, &mut |done| watch.at(done).map(|_| ()), send),
        |taken| Ok(check(taken, follow, (level == Level::Full).then(|| Tally::new(key)), &lasts)),
    )?;
    let Some((found, tally, erased)) = log else { return Ok(None) };
    let equal = tally.is_none_or(|tally| tally.sums() == rows.sums()) || planted("sums_unchecked");
    if found != head || !equal {
        return Ok(None);
    }
    report.changes = head.seq.as_u64();
    report.erased = erased;
    Ok(Some(report))
}

/// Adds up the rows of the projection.
fn projection<H: BuildHasher>(
    snapshot: &dyn Snapshot,
    head: Seq,
    tally: &mut Tally<H>,
    lasts: &mut Lasts,
    report: &mut VerifyReport,
    watch: &Watch<'_>,
) -> Result<()> {
    snapshot.every_row(&mut |row| {
        tally.row(row, lasts, head);
        *(if row.times.is_some() { &mut report.keys } else { &mut report.tombstones }) += 1;
        let often = (report.keys + report.tombstones).is_multiple_of(1 << 14);
        if often { watch.at(0) } else { Ok(ControlFlow::Continue(())) }
    })?;
    snapshot.commit_ids(&mut |(id, first, last)| {
        tally.commit_id(&id, first, last);
        Ok(ControlFlow::Continue(()))
    })
}

/// Follows the chain; none if it does not hold.
fn check<H: BuildHasher>(
    taken: &mut Taken<Pack>,
    mut follow: Follow,
    mut tally: Option<Tally<H>>,
    lasts: &Lasts,
) -> Option<(Head, Option<Tally<H>>, u64)> {
    let mut erased = 0;
    while let Some(pack) = taken.next() {
        for unpacked in pack.unpack() {
            let Unpacked::Change(change, header) = unpacked else { return None };
            follow.check_hashed(&change, header_hash(header)).ok()?;
            if let Some(tally) = &mut tally {
                tally.change(&change, lasts);
            }
            erased += u64::from(change.is_erased());
        }
    }
    (taken.is_whole() && follow.is_whole()).then(|| (follow.head(), tally, erased))
}

/// The same with a table of all keys, which finds what contradicts what.
fn look_again(snapshot: &dyn Snapshot, level: Level, watch: &Watch<'_>) -> Result<VerifyReport> {
    let watch = Watch { total: snapshot.tip().map_or(0, |tip| tip.head.seq.as_u64()), ..*watch };
    let mut verification = Verification::new(snapshot.store_id(), snapshot.floor(), level);
    let mut reached = snapshot.floor().seq;
    let log = snapshot.changes(reached, &mut |change| {
        verification.pass_withheld(change.seq, |seq| snapshot.withheld(seq));
        reached = change.seq;
        verification.change(change);
        if reached.as_u64().is_multiple_of(1 << 10) {
            watch.at(reached.as_u64())
        } else {
            Ok(ControlFlow::Continue(()))
        }
    });
    verification.pass_withheld(Seq::MAX, |seq| snapshot.withheld(seq));
    verification.end_of_log(corruption(log)?);
    if level != Level::Full {
        return Ok(verification.report());
    }
    let on = || watch.at(reached.as_u64());
    // Of a part of a log it is unknown where its commits begin.
    if snapshot.is_whole() {
        let commit_ids = snapshot.commit_ids(&mut |(id, first, last)| {
            verification.commit_id(&id, first, last);
            on()
        });
        verification.end_of_commit_ids(corruption(commit_ids)?);
    }
    let projection = snapshot.rows(&KeyRange::prefix(""), None, true, &mut |row| {
        match &row {
            Row::Live(entry) => verification.entry(entry),
            Row::Erased { key, version, created_at, updated_at, seq } => {
                verification.erased(key, (*version, *created_at, *updated_at, *seq));
            }
            Row::Deleted { key, version, seq } => verification.tombstone(key, *version, *seq),
            Row::Damaged { key, what } => verification.damaged(key, what),
        }
        on()
    });
    Ok(verification.finish(corruption(projection)?))
}

/// The newest changes, and the rows of their keys.
fn quick(snapshot: &dyn Snapshot) -> Result<VerifyReport> {
    let tip = match snapshot.tip() {
        Err(StateError::Corrupted(what)) => {
            return Ok(VerifyReport::of(Level::Quick, snapshot.floor()).with(None, None, what));
        }
        tip => tip?.head,
    };
    let mut report = VerifyReport::of(Level::Quick, tip);
    let from = tip.seq.as_u64().saturating_sub(RECENT).max(snapshot.floor().seq.as_u64());
    let mut last: BTreeMap<Arc<str>, Change> = BTreeMap::new();
    let recent = resolve(snapshot, Seq::new(from).into()).and_then(|from| {
        report.before = from.seq;
        let mut follow = Follow::from_floor(snapshot.store_id(), from);
        snapshot.changes(from.seq, &mut |change| {
            pass_withheld(snapshot, &mut follow, change.seq);
            follow.check(&change).map_err(|error| StateError::Corrupted(error.to_string()))?;
            report.changes += 1;
            report.erased += u64::from(change.is_erased());
            last.insert(change.key.clone(), change);
            Ok(ControlFlow::Continue(()))
        })?;
        pass_withheld(snapshot, &mut follow, Seq::MAX);
        if follow.head() == tip {
            Ok(())
        } else {
            Err(StateError::Corrupted("the log does not end in its head".into()))
        }
    });
    if let Some(what) = corruption(recent)? {
        return Ok(report.with(None, None, what));
    }
    for (key, change) in last {
        let now = snapshot.slot(&key).and_then(|slot| match Entry::left_by(&change) {
            Err(StateError::Erased(_)) => Ok(slot == Some(Slot::of(&change))),
            entry => Ok(slot == Some(Slot::of(&change)) && snapshot.entry(&key)? == entry?),
        });
        match now {
            Ok(true) => {}
            Ok(false) => {
                let what = "the projection does not equal the fold of the log";
                report = report.with(Some(change.seq), Some(&key), what);
            }
            Err(StateError::Corrupted(what)) => report = report.with(Some(change.seq), Some(&key), what),
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

/// The message of a corruption.
fn corruption(read: Result<()>) -> Result<Option<String>> {
    match read {
        Ok(()) => Ok(None),
        Err(StateError::Corrupted(what)) => Ok(Some(what)),
        Err(error) => Err(error),
    }
}
