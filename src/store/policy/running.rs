//! Running the policy of a store.

use std::collections::HashMap;
use std::time::Duration;

use super::aim::{Aim, Course, Droppable, Reached, holders};
use super::pace::{DAY, Pace};
use super::report::{HoldBack, Retained, RetentionPlan};
use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::key::{CLOCK_KEY, COMPACTION_KEY, RETENTION_KEY};
use crate::log::{Head, Timestamp};
use crate::seq::Seq;
use crate::state::{Batch, Policy, PolicyRecord, ValueRule};
use crate::store::open_store::OpenStore;
use crate::store::retain::{Compact, Compacted, Thin, Thinned};

/// How often a run aims anew if a consumer came, or another process dropped something, before it began.
const TRIES: usize = 5;

/// What a schedule knows of its runs.
pub(super) struct Pacing {
    /// The end of the log when the store was opened, and what the clock showed then.
    pub(super) opened: (Seq, Timestamp),
    pub(super) floor: Pace,
    pub(super) rules: HashMap<(String, Duration, u64), Pace>,
}

/// The policy that is recorded, and the version and position of the record.
struct Known {
    record: PolicyRecord,
    version: u64,
}

/// A run: what it goes by.
struct Run<'a> {
    policy: Policy,
    now: Timestamp,
    /// The pacing of a run on a schedule, and how long the opening has lasted.
    pacing: Option<(&'a mut Pacing, Duration)>,
}

impl OpenStore {
    /// Drops what is due, because somebody asks for it. `batch` is empty, and has the metadata of the handle.
    pub(crate) async fn retain(&self, batch: Batch) -> Result<Retained> {
        self.apply(None, batch).await
    }

    /// Drops what is due and no more than the pace allows, after the opening has lasted for some time.
    pub(super) async fn retain_paced(&self, pacing: &mut Pacing, lasted: Duration) -> Result<Retained> {
        self.apply(Some((pacing, lasted)), Batch::new()).await
    }

    /// The policy that is recorded.
    pub(crate) async fn policy(&self) -> Result<Option<Policy>> {
        Ok(self.known_policy().await?.map(|known| known.record.policy))
    }

    async fn known_policy(&self) -> Result<Option<Known>> {
        let Some(entry) = self.entry(RETENTION_KEY).await? else { return Ok(None) };
        Ok(Some(Known { record: PolicyRecord::decode(&entry.value)?, version: entry.version }))
    }

    /// Records a policy, or that there is none. `batch` is empty, and has the metadata of the handle.
    pub(crate) async fn set_policy(&self, policy: Option<Policy>, batch: Batch) -> Result<()> {
        let batch = match policy {
            Some(policy) => batch.set(RETENTION_KEY, PolicyRecord::new(policy)?.encode()?),
            None => batch.delete(RETENTION_KEY),
        };
        self.order(batch.may_write(RETENTION_KEY)).await.map(drop)
    }

    /// Says what a run that somebody asks for would do.
    pub(crate) async fn plan_retention(&self) -> Result<RetentionPlan> {
        let Some(known) = self.known_policy().await? else { return Ok(RetentionPlan::default()) };
        let mut run = Run { policy: known.record.policy, now: self.engine.clock().shown()?, pacing: None };
        let mut plan = RetentionPlan { policy: Some(run.policy.clone()), ..RetentionPlan::default() };
        if let Some(to) = self.aim_of_floor(&mut run, &mut plan.held_back).await? {
            plan.compaction = Some(self.plan_compaction(run.compact(to)).await?);
        }
        for rule in run.policy.values.clone() {
            if let Some(to) = self.aim_of_rule(&mut run, &rule, &mut plan.held_back).await? {
                let thinning = self.plan_thinning(thin(to, &rule)).await?;
                plan.thinnings.extend((thinning.values > 0).then_some(thinning));
            }
        }
        Ok(plan)
    }

    /// Drops what the policy says is due. Somebody asks for it, unless there is the pacing of a schedule.
    async fn apply(&self, pacing: Option<(&mut Pacing, Duration)>, batch: Batch) -> Result<Retained> {
        self.check_writable()?;
        let _turn = self.shared.turn().await;
        let Some(known) = self.known_policy().await? else { return Ok(Retained::default()) };
        let policy = known.record.policy.clone();
        let mut done = Retained { policy: Some(policy.clone()), ..Retained::default() };
        match &pacing {
            None => self.confirm(known, batch.clone()).await?,
            Some((pacing, _)) => {
                let waits = if known.record.has_begun {
                    self.doubt(pacing.opened).await?
                } else {
                    Some(HoldBack::FirstRun)
                };
                if let Some(waits) = waits {
                    done.held_back.push(waits);
                    return Ok(done);
                }
            }
        }
        // What was cut off goes first.
        self.go_on(None, batch.clone()).await?;
        self.go_on_thinning(None).await?;
        let mut run = Run { policy, now: self.engine.clock().shown()?, pacing };
        done.compacted = self.run_floor(&mut run, &batch, &mut done.held_back).await?;
        for rule in run.policy.values.clone() {
            done.thinned.extend(self.run_rule(&mut run, &rule, &batch, &mut done.held_back).await?);
        }
        Ok(done)
    }

    /// Notes that somebody has asked for the first run of a policy.
    async fn confirm(&self, known: Known, batch: Batch) -> Result<()> {
        if known.record.has_begun {
            return Ok(());
        }
        let begun = known.record.begun();
        let batch = batch.expect(RETENTION_KEY, known.version).set(RETENTION_KEY, begun.encode()?);
        match self.order(batch.may_write(RETENTION_KEY)).await {
            Err(StateError::Rejected(_)) => {
                Err(StateError::Busy("the policy was changed meanwhile: look at it, and ask again".into()))
            }
            ordered => ordered.map(drop),
        }
    }

    /// Why a schedule should not trust the clock: it was far ahead of the newest commit at the opening, and nobody has said
    /// since that it is right.
    async fn doubt(&self, (newest, shown): (Seq, Timestamp)) -> Result<Option<HoldBack>> {
        self.read_snapshot(move |snapshot| {
            for key in [CLOCK_KEY, RETENTION_KEY, COMPACTION_KEY] {
                if snapshot.key_version(key)?.is_some_and(|known| known.seq > newest) {
                    return Ok(None);
                }
            }
            let floor = snapshot.floor()?;
            let at =
                if newest <= floor.seq() { floor.at } else { snapshot.link(newest)?.map(|link| link.at) };
            Ok(at.filter(|at| at.plus(DAY) < shown).map(|_| HoldBack::Clock))
        })
        .await
    }

    /// Where the floor should go, if that would drop something.
    async fn aim_of_floor(&self, run: &mut Run<'_>, held_back: &mut Vec<HoldBack>) -> Result<Option<Head>> {
        let Some(age) = run.policy.age else { return Ok(None) };
        let reached = self.read_snapshot(Reached::floor).await?;
        let limit = run.limit(reached, |pacing| &mut pacing.floor);
        let Some(to) = self.aim(run, (reached, age), limit, held_back).await? else { return Ok(None) };
        let mut looking = Droppable::between(reached.seq, to.seq, run.policy.keep.clone());
        loop {
            let (next, found) = self
                .read_snapshot(move |snapshot| {
                    let found = looking.look(snapshot)?;
                    Ok((looking, found))
                })
                .await?;
            looking = next;
            if let Some(found) = found {
                return Ok(Some(to).filter(|_| found));
            }
        }
    }

    /// Up to where the values of a rule should go.
    async fn aim_of_rule(
        &self,
        run: &mut Run<'_>,
        rule: &ValueRule,
        held_back: &mut Vec<HoldBack>,
    ) -> Result<Option<Head>> {
        let read = rule.clone();
        let reached = self.read_snapshot(move |snapshot| Reached::thinned(snapshot, &read)).await?;
        let limit = run.limit(reached, |pacing| pacing.of(rule));
        self.aim(run, (reached, rule.age), limit, held_back).await
    }

    async fn aim(
        &self,
        run: &Run<'_>,
        from: (Reached, Duration),
        limit: Option<Timestamp>,
        held_back: &mut Vec<HoldBack>,
    ) -> Result<Option<Head>> {
        let (policy, course) = (run.policy.clone(), Course { now: run.now, limit });
        // IMPORTANT: before the state is read. A watch that comes later begins at the head or is refused.
        let watches = self.shared.unrecorded_watchers();
        let read = move |snapshot: &dyn Snapshot| {
            let holders = holders(snapshot, &policy, course.now, &watches)?;
            Aim::find(snapshot, from, course, &holders)
        };
        let aim = self.read_snapshot(read).await?;
        for held in aim.held_back {
            if !held_back.contains(&held) {
                held_back.push(held);
            }
        }
        Ok(aim.to)
    }

    async fn run_floor(
        &self,
        run: &mut Run<'_>,
        batch: &Batch,
        held_back: &mut Vec<HoldBack>,
    ) -> Result<Option<Compacted>> {
        let mut tried = 0;
        loop {
            let Some(to) = self.aim_of_floor(run, held_back).await? else { return Ok(None) };
            tried += 1;
            match self.compact(run.compact(to), batch.clone()).await {
                Err(StateError::Held(_) | StateError::Busy(_)) if tried < TRIES => {}
                Err(StateError::Busy(_)) if run.pacing.is_some() => return Ok(None), // Another process does it.
                compacted => {
                    let compacted = compacted?;
                    run.moved(to.seq, |pacing| &mut pacing.floor);
                    return Ok(Some(compacted));
                }
            }
        }
    }

    async fn run_rule(
        &self,
        run: &mut Run<'_>,
        rule: &ValueRule,
        batch: &Batch,
        held_back: &mut Vec<HoldBack>,
    ) -> Result<Option<Thinned>> {
        let mut tried = 0;
        loop {
            let Some(to) = self.aim_of_rule(run, rule, held_back).await? else { return Ok(None) };
            tried += 1;
            let thinned = match self.plan_thinning(thin(to, rule)).await {
                Ok(plan) if plan.values == 0 => return Ok(None),
                Ok(_) => self.thin(thin(to, rule), batch.clone()).await,
                Err(error) => Err(error),
            };
            match thinned {
                Err(StateError::Held(_) | StateError::Busy(_)) if tried < TRIES => {}
                Err(StateError::Busy(_)) if run.pacing.is_some() => return Ok(None),
                thinned => {
                    let thinned = thinned?;
                    run.moved(to.seq, |pacing| pacing.of(rule));
                    return Ok(Some(thinned));
                }
            }
        }
    }
}

impl Run<'_> {
    /// The time up to where a run on a schedule may go.
    fn limit(&mut self, reached: Reached, pace: impl FnOnce(&mut Pacing) -> &mut Pace) -> Option<Timestamp> {
        let (pacing, lasted) = self.pacing.as_mut()?;
        // Without a commit after it nothing is due, whatever the limit.
        let next = reached.next.unwrap_or(Timestamp::EPOCH);
        Some(pace(pacing).limit(reached.seq, next, *lasted))
    }

    fn moved(&mut self, to: Seq, pace: impl FnOnce(&mut Pacing) -> &mut Pace) {
        if let Some((pacing, _)) = &mut self.pacing {
            pace(pacing).moved(to);
        }
    }

    fn compact(&self, to: Head) -> Compact {
        let compact = self.policy.keep.iter().cloned().fold(Compact::before(to), Compact::keep);
        let compact = if self.policy.forget { compact.forget() } else { compact };
        if self.policy.spare_marks { compact.spare_marks() } else { compact }
    }
}

fn thin(to: Head, rule: &ValueRule) -> Thin {
    Thin::at(to, rule.pattern.clone()).keep(rule.keep)
}

impl Pacing {
    /// The pace of a rule.
    fn of(&mut self, rule: &ValueRule) -> &mut Pace {
        self.rules.entry((rule.pattern.as_str().to_owned(), rule.age, rule.keep)).or_default()
    }
}
