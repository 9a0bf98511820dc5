//! The state that the batches of a group are decided on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::proposal::Proposal;
use crate::backend::{DecisionView, Transaction};
use crate::error::{Result, StateError};
use crate::key::{CONSUMERS_PREFIX, KeyRange};
use crate::log::{Change, Meta, SALT_BYTES, Timestamp, Tip, seal};
use crate::seq::Seq;
use crate::state::{
    Batch, Condition, Floor, Forgotten, Hold, KeyVersion, KeyVersions, KeysBelow, Projection, Refusal,
    Thinning, Write, decide,
};
use crate::store::receipt::Receipt;

/// The decision on a batch, which is the same on every machine. A failure of this machine is not a verdict
/// but an error beside it.
pub(super) type Verdict = Result<Receipt, Refusal>;

/// The state that the batches of a group are decided on: the recorded state, and over it the changes that
/// the group has decided so far.
pub(super) struct GroupState<'a> {
    tip: Tip,
    /// The floor of the log before the group. A batch that moves it is alone in its group.
    floor: Floor,
    /// The floor after the group, if it is another one.
    moved: Option<Floor>,
    /// The thinning that the group begins. Its batch is alone in its group, too.
    thinning: Option<Thinning>,
    /// The recorded state, if it is in memory.
    known: Option<&'a Projection>,
    keys: HashMap<Arc<str>, Key>,
    prefixes: HashMap<String, Counted>,
    /// The consumers that are behind the floor that a batch sets.
    behind: Vec<(String, Seq)>,
    commit_ids: HashMap<String, (usize, usize)>,
    changes: Vec<Change>,
    /// For each batch, the index behind its last change.
    ends: Vec<usize>,
}

struct Key {
    /// The recorded one; it may be forgotten.
    before: Option<KeyVersion>,
    now: Option<KeyVersion>,
    /// The index of the key's last change in the group.
    last: Option<usize>,
}

/// The recorded keys under the prefix of a condition.
struct Counted {
    below: KeysBelow,
    /// The limit up to which keys were counted.
    limit: usize,
}

impl KeyVersions for GroupState<'_> {
    fn key_version(&self, key: &str) -> Option<KeyVersion> {
        self.keys.get(key).and_then(|key| key.now)
    }

    fn behind(&self, _: Seq) -> Vec<(String, Seq)> {
        self.behind.clone()
    }

    fn forgotten(&self) -> Option<&Forgotten> {
        self.floor.forgotten.as_deref()
    }

    fn below(&self, prefix: &str, _: usize) -> KeysBelow {
        let range = KeyRange::prefix(prefix);
        let recorded = self.prefixes.get(prefix).map(|counted| counted.below.clone()).unwrap_or_default();
        let (mut created, mut newest) = (0, None);
        for change in self.changes.iter().filter(|change| change.key.starts_with(prefix)) {
            // A key whose first change is in this group is not among the recorded keys.
            created += usize::from(change.prev == Seq::ZERO);
            if range.shows(&change.key) {
                newest = Some((change.key.as_ref().to_owned(), change.seq));
            }
        }
        KeysBelow { count: recorded.count.saturating_add(created), newest: newest.or(recorded.newest) }
    }
}

impl<'a> GroupState<'a> {
    pub(super) fn new(tip: Tip, floor: Floor, known: Option<&'a Projection>) -> Self {
        Self {
            tip,
            floor,
            moved: None,
            thinning: None,
            known,
            keys: HashMap::new(),
            prefixes: HashMap::new(),
            behind: Vec::new(),
            commit_ids: HashMap::new(),
            changes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The tip of the log with the changes of the group.
    pub(super) fn tip(&self) -> Tip {
        self.tip
    }

    /// The changes of the group.
    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Loads, decides and seals one batch.
    pub(super) fn take(
        &mut self,
        transaction: &impl DecisionView,
        proposal: &Proposal<'_>,
    ) -> Result<Verdict> {
        let batch = proposal.batch;
        if let Some(verdict) = self.remembered(transaction, batch)? {
            return Ok(verdict);
        }
        self.load(transaction, batch)?;
        let decision = match decide(batch, self.tip.head.seq, self) {
            Ok(decision) => decision,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let before = self.tip;
        if !decision.drafts.is_empty() {
            if before.at == Timestamp::MAX && !batch.accepts_clock() {
                return Ok(Err(Refusal::EndOfTime));
            }
            let mut salts = proposal.salts.iter().copied();
            let salt = || salts.next().unwrap_or([0; SALT_BYTES]);
            let meta = batch.recorded_meta();
            let (changes, tip) = seal(decision.drafts, meta.as_ref(), before, proposal.clock, salt);
            self.pend(batch, changes, tip)?;
        }
        Ok(Ok(Receipt::between(decision.versions, before, self.tip)))
    }

    /// The verdict on a batch whose commit id was used before.
    fn remembered(&self, transaction: &impl DecisionView, batch: &Batch) -> Result<Option<Verdict>> {
        let Some(id) = batch.id() else { return Ok(None) };
        if let Some((start, end)) = self.commit_ids.get(id) {
            let changes = self.changes.get(*start..*end).unwrap_or_default();
            return Ok(Some(Receipt::again(batch, changes)));
        }
        // The id of a commit at or below the floor counts as never used.
        let remembered = transaction.remembered(id)?.filter(|(_, last)| *last > self.floor.seq());
        let Some((first, last)) = remembered else { return Ok(None) };
        let changes = transaction.recorded(first, last)?;
        if changes.iter().all(|change| change.meta.as_deref().and_then(Meta::commit_id) == Some(id)) {
            return Ok(Some(Receipt::again(batch, &changes)));
        }
        let what = format!(
            "the table commit_ids names the changes {first} to {last}, but they have another commit id"
        );
        Err(StateError::Corrupted(what))
    }

    fn load(&mut self, transaction: &impl DecisionView, batch: &Batch) -> Result<()> {
        for condition in batch.conditions() {
            match condition {
                Condition::Version { key, .. } => self.load_key(transaction, &Arc::from(key.as_str()))?,
                Condition::UnchangedSince { prefix, limit, .. } => {
                    if self.prefixes.get(prefix).is_none_or(|counted| counted.limit < *limit) {
                        let below = transaction.below(prefix, *limit)?;
                        self.prefixes.insert(prefix.clone(), Counted { below, limit: *limit });
                    }
                }
                Condition::NoneBehind { floor, .. } => self.behind = behind(transaction, *floor)?,
            }
        }
        batch.writes().iter().map(Write::key).try_for_each(|key| self.load_key(transaction, key))
    }

    fn load_key(&mut self, transaction: &impl DecisionView, key: &Arc<str>) -> Result<()> {
        if let Entry::Vacant(vacant) = self.keys.entry(key.clone()) {
            let (before, now) = if let Some(known) = self.known {
                (known.recorded(key), known.key_version(key))
            } else {
                let before = transaction.key_version(key)?;
                (before, self.floor.known(key, before))
            };
            vacant.insert(Key { before, now, last: None });
        }
        Ok(())
    }

    fn pend(&mut self, batch: &Batch, changes: Vec<Change>, tip: Tip) -> Result<()> {
        let start = self.changes.len();
        for (index, change) in (start..).zip(&changes) {
            self.moved = self.floor.moved_by(change)?.or(self.moved.take());
            self.thinning = Thinning::begun_by(change)?.or(self.thinning.take());
            if let Some(key) = self.keys.get_mut(&change.key) {
                key.now = Some(KeyVersion::from_change(change));
                key.last = Some(index);
            }
        }
        self.changes.extend(changes);
        self.ends.push(self.changes.len());
        if let Some(id) = batch.id() {
            self.commit_ids.insert(id.to_owned(), (start, self.changes.len()));
        }
        self.tip = tip;
        Ok(())
    }

    /// Appends every change, commit by commit, and projects the last change of each key, in the order of keys.
    /// A key that the group changes several times is projected once: measured with hot keys, that takes a fifth
    /// off the time.
    pub(super) fn record(&self, transaction: &mut impl Transaction) -> Result<()> {
        let mut start = 0;
        for end in &self.ends {
            transaction.append(self.changes.get(start..*end).unwrap_or_default())?;
            start = *end;
        }
        let mut last: Vec<_> =
            self.keys.values().filter_map(|key| Some((self.changes.get(key.last?)?, key.before))).collect();
        last.sort_unstable_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        last.into_iter().try_for_each(|(change, before)| transaction.project(change, before))?;
        if let Some(thinning) = &self.thinning {
            if let Some(going) = transaction.thinning()? {
                return Err(StateError::Busy(format!("the thinning up to {} began meanwhile", going.at)));
            }
            transaction.set_thinning(Some(thinning))?;
        }
        self.moved.as_ref().map_or(Ok(()), |floor| transaction.set_floor(floor))
    }
}

/// The consumers that are not done with what lies before a floor, and where that was recorded. Only a batch that is alone in
/// its group asks, so none of them is in the group.
fn behind(transaction: &impl DecisionView, floor: Seq) -> Result<Vec<(String, Seq)>> {
    let mut behind = Vec::new();
    transaction.entries(CONSUMERS_PREFIX, &mut |entry| {
        if Hold::of(&entry)?.record.cursor.seq() < floor {
            behind.push((entry.key, entry.seq));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(behind)
}
