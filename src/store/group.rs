//! The write path: load, decide, seal, record, for a group of batches in one storage transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::{Clock, Entropy, Receipt};
use crate::backend::{Backend, CommitError, Folded, Transaction};
use crate::error::{ErrorKind, Result, StateError};
use crate::key::KeyRange;
use crate::limits::Limits;
use crate::log::{Change, Head, Meta, SALT_BYTES, Timestamp, Tip, seal};
use crate::seq::Seq;
use crate::state::{Batch, Condition, Projection, Slot, Slots, Write, decide};

/// What the write path takes from outside.
pub(super) struct Rules {
    pub(super) limits: Limits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

/// What one storage transaction recorded.
pub(super) struct Recorded {
    /// Where the log ended before.
    pub(super) before: Head,
    pub(super) changes: Vec<Change>,
    /// Where it ended then.
    pub(super) head: Head,
}

/// What became of a group.
pub(super) struct Outcome {
    /// One result for each batch, in order.
    pub(super) results: Vec<Result<Receipt>>,
    /// What was recorded, in order.
    pub(super) recorded: Vec<Recorded>,
    /// The end of the log, as far as it is known.
    pub(super) tip: Option<Tip>,
    /// Nobody knows whether the group was recorded: the connection must not be trusted.
    pub(super) unknown: bool,
}

impl Outcome {
    /// All batches failed alike.
    pub(super) fn failed(batches: usize, error: &StateError) -> Self {
        Self { results: vec![Err(error.clone()); batches], recorded: Vec::new(), tip: None, unknown: false }
    }
}

/// Commits batches in order, together. Each is decided on the state that the ones before it
/// leave, and refused ones leave no trace; a failure of storage is one of the whole group. Where
/// the disk is full or a row is damaged, the batches are tried again one by one, so that only
/// those fail that do not fit or meet it. What is `known` answers for the storage where it is of the
/// same state.
pub(super) fn commit_group<B: Backend>(
    backend: &mut B,
    rules: &Rules,
    batches: &[Batch],
    known: Option<&Folded>,
) -> Outcome {
    match try_group(backend, rules, batches, known) {
        Ok(outcome) => outcome,
        Err(CommitError::NotRecorded(StateError::StorageFull(_) | StateError::Corrupted(_)))
            if batches.len() > 1 =>
        {
            let results = Vec::with_capacity(batches.len());
            let mut all = Outcome { results, recorded: Vec::new(), tip: None, unknown: false };
            for batch in batches {
                if all.unknown {
                    let error = "it was not tried, because the outcome of a commit before it is unknown";
                    all.results.push(Err(StateError::Storage(error.into())));
                    continue;
                }
                let one = commit_group(backend, rules, std::slice::from_ref(batch), known);
                all.results.extend(one.results);
                all.recorded.extend(one.recorded);
                all.tip = one.tip.or(all.tip);
                all.unknown = one.unknown;
            }
            all
        }
        Err(error) => {
            // Also a refusal does not stand: it may rest on a batch of the group that failed.
            let (error, unknown) = match error {
                CommitError::NotRecorded(error) => (error, false),
                CommitError::Unknown(error) => (StateError::OutcomeUnknown(error.to_string()), true),
            };
            Outcome { unknown, ..Outcome::failed(batches.len(), &error) }
        }
    }
}

fn try_group<B: Backend>(
    backend: &mut B,
    rules: &Rules,
    batches: &[Batch],
    known: Option<&Folded>,
) -> Result<Outcome, CommitError> {
    let mut transaction = backend.begin().map_err(CommitError::NotRecorded)?;
    let before = transaction.tip().head;
    let known = known.filter(|folded| folded.head == before).map(|folded| &folded.projection);
    let mut group = Group::new(transaction.tip(), known);
    let mut results = Vec::with_capacity(batches.len());
    for batch in batches {
        results.push(match group.take(&transaction, rules, batch) {
            // After a failed read SQLite may have rolled the transaction back: none of it stands.
            Err(error) if error.kind() == ErrorKind::Storage => return Err(CommitError::NotRecorded(error)),
            result => result,
        });
    }
    let mut recorded = Vec::new();
    if !group.changes.is_empty() {
        group.record(&mut transaction).map_err(CommitError::NotRecorded)?;
        transaction.commit()?;
        recorded.push(Recorded { before, changes: group.changes, head: group.tip.head });
    }
    Ok(Outcome { results, recorded, tip: Some(group.tip), unknown: false })
}

/// The state that the batches of a group see: what is recorded, and over it what the group has
/// decided so far.
struct Group<'a> {
    tip: Tip,
    /// The recorded state, if it is in memory.
    known: Option<&'a Projection>,
    keys: HashMap<Arc<str>, Key>,
    /// The newest recorded change under the prefixes that conditions name.
    prefixes: HashMap<String, Option<(String, Seq)>>,
    commit_ids: HashMap<String, (usize, usize)>,
    changes: Vec<Change>,
    /// Where the changes of each batch end.
    ends: Vec<usize>,
}

struct Key {
    before: Option<Slot>,
    now: Option<Slot>,
    /// The index of its last change in the group.
    last: Option<usize>,
}

impl Slots for Group<'_> {
    fn slot(&self, key: &str) -> Option<Slot> {
        self.keys.get(key).and_then(|key| key.now)
    }

    fn newest(&self, prefix: &str) -> Option<(String, Seq)> {
        let range = KeyRange::prefix(prefix);
        let pending = self.changes.iter().rev().find(|c| c.key.starts_with(prefix) && range.shows(&c.key));
        match pending {
            Some(change) => Some((change.key.as_ref().to_owned(), change.seq)),
            None => self.prefixes.get(prefix).cloned().flatten(),
        }
    }
}

impl<'a> Group<'a> {
    fn new(tip: Tip, known: Option<&'a Projection>) -> Self {
        Self {
            tip,
            known,
            keys: HashMap::new(),
            prefixes: HashMap::new(),
            commit_ids: HashMap::new(),
            changes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Load, decide and seal one batch.
    fn take(&mut self, transaction: &impl Transaction, rules: &Rules, batch: &Batch) -> Result<Receipt> {
        if let Some(receipt) = self.remembered(transaction, batch)? {
            return Ok(receipt);
        }
        self.load(transaction, &rules.limits, batch)?;
        let decision = decide(batch, self.tip.head.seq, self)?;
        let before = self.tip;
        if before.at == Timestamp::MAX {
            return Err(StateError::Storage("the last commit has the latest time that there is".into()));
        }
        if !decision.drafts.is_empty() {
            let values = decision.drafts.iter().filter(|draft| draft.value.is_some()).count();
            let mut salts = vec![0; values * SALT_BYTES];
            if !rules.entropy.fill(&mut salts) {
                return Err(StateError::Storage("the system gave no random bytes".into()));
            }
            let mut salts = salts.chunks_exact(SALT_BYTES);
            let salt = || salts.next().and_then(|salt| salt.try_into().ok()).unwrap_or_default();
            let (changes, tip) =
                seal(decision.drafts, batch.recorded_meta().as_ref(), self.tip, rules.clock.now(), salt);
            self.pend(batch, changes, tip);
        }
        Ok(Receipt::of(decision.versions, before, self.tip))
    }

    fn remembered(&self, transaction: &impl Transaction, batch: &Batch) -> Result<Option<Receipt>> {
        let Some(id) = batch.id() else { return Ok(None) };
        if let Some((start, end)) = self.commit_ids.get(id) {
            let changes = self.changes.get(*start..*end).unwrap_or_default();
            return Receipt::again(batch, changes).map(Some);
        }
        match transaction.remembered(id)? {
            Some((first, last)) => {
                let changes = transaction.recorded(first, last)?;
                if !changes.iter().all(|change| change.meta.as_deref().and_then(Meta::commit_id) == Some(id))
                {
                    let what = format!(
                        "the changes {first} to {last} have not the commit id that is remembered for them"
                    );
                    return Err(StateError::Corrupted(what));
                }
                Receipt::again(batch, &changes).map(Some)
            }
            None => Ok(None),
        }
    }

    fn load(&mut self, transaction: &impl Transaction, limits: &Limits, batch: &Batch) -> Result<()> {
        for condition in batch.conditions() {
            match condition {
                Condition::Version { key, .. } => self.load_key(transaction, &Arc::from(key.as_str()))?,
                Condition::UnchangedSince { prefix, .. } if self.prefixes.contains_key(prefix) => {}
                Condition::UnchangedSince { prefix, .. } => {
                    let newest = transaction.newest(prefix, limits.page_entries)?;
                    self.prefixes.insert(prefix.clone(), newest);
                }
            }
        }
        batch.writes().iter().map(Write::key).try_for_each(|key| self.load_key(transaction, key))
    }

    fn load_key(&mut self, transaction: &impl Transaction, key: &Arc<str>) -> Result<()> {
        if let Entry::Vacant(vacant) = self.keys.entry(key.clone()) {
            let before = match self.known {
                Some(known) => known.slot(key),
                None => transaction.slot(key)?,
            };
            vacant.insert(Key { before, now: before, last: None });
        }
        Ok(())
    }

    fn pend(&mut self, batch: &Batch, changes: Vec<Change>, tip: Tip) {
        let start = self.changes.len();
        for (index, change) in (start..).zip(&changes) {
            if let Some(key) = self.keys.get_mut(&change.key) {
                key.now = Some(Slot::of(change));
                key.last = Some(index);
            }
        }
        self.changes.extend(changes);
        self.ends.push(self.changes.len());
        if let Some(id) = batch.id() {
            self.commit_ids.insert(id.to_owned(), (start, self.changes.len()));
        }
        self.tip = tip;
    }

    /// Appends every change, commit by commit, and projects the last one of each key, in the
    /// order of keys.
    fn record(&self, transaction: &mut impl Transaction) -> Result<()> {
        let mut start = 0;
        for end in &self.ends {
            transaction.append(self.changes.get(start..*end).unwrap_or_default())?;
            start = *end;
        }
        let mut last: Vec<_> =
            self.keys.values().filter_map(|key| Some((self.changes.get(key.last?)?, key.before))).collect();
        last.sort_unstable_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        last.into_iter().try_for_each(|(change, before)| transaction.project(change, before))
    }
}
