//! A group of batches in one storage transaction, so that they share one sync.

use super::group_state::{GroupState, Verdict};
use super::proposal::{Proposal, Sources};
use crate::backend::{Backend, CommitError, DecisionView, FoldedState, Transaction};
use crate::error::{Result, StateError};
use crate::log::{Change, Head, Tip};
use crate::state::Batch;
use crate::store::receipt::Receipt;

/// The changes that one storage transaction recorded.
pub(crate) struct Recorded {
    /// The head before it.
    pub(crate) before: Head,
    pub(crate) changes: Vec<Change>,
    /// The head after it.
    pub(crate) head: Head,
}

/// The outcome of a group.
pub(crate) struct Outcome {
    /// One result for each batch, in order.
    pub(crate) results: Vec<Result<Receipt>>,
    /// The storage transactions that recorded something, in order.
    pub(crate) recorded: Vec<Recorded>,
    /// The tip of the log, if it is known.
    pub(crate) tip: Option<Tip>,
    /// Whether it is unknown if the group was recorded. The connection must not be used any more then.
    pub(crate) unknown: bool,
}

impl Outcome {
    /// The outcome if all batches fail with the same error.
    pub(crate) fn failed(batches: usize, error: &StateError) -> Self {
        Self { results: vec![Err(error.clone()); batches], recorded: Vec::new(), tip: None, unknown: false }
    }

    /// The outcome if all batches have a verdict.
    fn judged(run: Run) -> Self {
        let results = run.verdicts.into_iter().map(|verdict| verdict.map_err(StateError::from)).collect();
        let recorded = run.recorded.into_iter().collect();
        Self { results, recorded, tip: Some(run.tip), unknown: false }
    }

    /// The outcome if the storage transaction failed. No verdict stands then, because it may depend on an earlier
    /// batch of the group, which was not recorded.
    fn of_failure(batches: usize, failure: CommitError) -> Self {
        match failure {
            CommitError::NotRecorded(error) => Self::failed(batches, &error),
            CommitError::Unknown(error) => {
                let error = StateError::OutcomeUnknown(error.to_string());
                Self { unknown: true, ..Self::failed(batches, &error) }
            }
        }
    }

    /// Adds the outcome of the batches that follow.
    fn extend(&mut self, next: Self) {
        self.results.extend(next.results);
        self.recorded.extend(next.recorded);
        self.tip = next.tip.or(self.tip);
        self.unknown = next.unknown;
    }
}

/// Commits batches in order, in one storage transaction.
///
/// Each batch is decided on the state that the ones before it leave, and a refused one leaves no trace. A
/// failure of the storage fails the whole group. If the disk is full or a row is damaged, the batches are
/// tried again one by one, so that only those fail that do not fit or that read the damaged row. `known` is
/// the state in memory: if it is the state before the group, versions are read from it and not from the
/// storage.
pub(crate) fn commit_group<B: Backend>(
    backend: &mut B,
    sources: &Sources,
    batches: &[Batch],
    known: Option<&FoldedState>,
) -> Outcome {
    let transaction = match backend.begin() {
        Ok(transaction) => transaction,
        Err(error) => return Outcome::failed(batches.len(), &error),
    };
    // IMPORTANT: the clock is read inside of the transaction. Beginning it may have taken long, while another
    // process wrote, and a commit must not have a time before that wait.
    let proposals = match sources.propose(batches, transaction.tip().at) {
        Ok(proposals) => proposals,
        Err(error) => return Outcome::failed(batches.len(), &error),
    };
    let alone = batches.len() > 1 && batches.iter().any(Batch::is_alone);
    let judged = if alone {
        drop(transaction);
        None
    } else {
        Some(record(transaction, &proposals, known))
    };
    let outcome = match judged {
        None => one_by_one(backend, sources, proposals, known),
        Some(Ok(run)) => Outcome::judged(run),
        Some(Err(CommitError::NotRecorded(StateError::StorageFull(_) | StateError::Corrupted(_))))
            if batches.len() > 1 =>
        {
            one_by_one(backend, sources, proposals, known)
        }
        Some(Err(failure)) => Outcome::of_failure(batches.len(), failure),
    };
    let mut judged = batches.iter().zip(&outcome.results);
    if judged.any(|(batch, result)| batch.accepts_clock() && result.is_ok()) {
        sources.clock.accept();
    }
    outcome
}

/// Commits each batch in a storage transaction of its own, with the time at which it began.
fn one_by_one<B: Backend>(
    backend: &mut B,
    sources: &Sources,
    proposals: Vec<Proposal<'_>>,
    known: Option<&FoldedState>,
) -> Outcome {
    let mut all = Outcome { results: Vec::new(), recorded: Vec::new(), tip: None, unknown: false };
    for mut proposal in proposals {
        if all.unknown {
            let error = "the batch was not tried, because the outcome of a commit before it is unknown";
            all.results.push(Err(StateError::Storage(error.into())));
            continue;
        }
        let begun = backend.begin().and_then(|begun| {
            proposal.clock = sources.now(proposal.batch.accepts_clock(), begun.tip().at)?;
            Ok(begun)
        });
        let begun = begun.map_err(CommitError::NotRecorded);
        all.extend(match begun.and_then(|begun| record(begun, std::slice::from_ref(&proposal), known)) {
            Ok(run) => Outcome::judged(run),
            Err(failure) => Outcome::of_failure(1, failure),
        });
    }
    all
}

/// The verdicts on batches that were recorded together.
pub(super) struct Run {
    /// A verdict for each batch, in order.
    pub(super) verdicts: Vec<Verdict>,
    /// The recorded changes; `None` if the batches changed nothing.
    pub(super) recorded: Option<Recorded>,
    pub(super) tip: Tip,
}

/// Judges batches in order and records those that are not refused: all of them, or nothing.
///
/// IMPORTANT: the verdicts and the changes depend on the proposals and the state before them alone.
/// Whichever other batches share the transaction, they are the same.
pub(super) fn record<T: Transaction>(
    mut transaction: T,
    run: &[Proposal<'_>],
    known: Option<&FoldedState>,
) -> Result<Run, CommitError> {
    let before = transaction.tip();
    let known = known.filter(|folded| folded.head == before.head).map(|folded| &folded.projection);
    let floor = transaction.floor().map_err(CommitError::NotRecorded)?;
    let mut group = GroupState::new(before, floor, known);
    let mut verdicts = Vec::with_capacity(run.len());
    for proposal in run {
        // IMPORTANT: a failed read ends the group. SQLite may have rolled the transaction back, and what was
        // written after that would commit alone.
        verdicts.push(group.take(&transaction, proposal).map_err(CommitError::NotRecorded)?);
    }
    let tip = group.tip();
    if group.is_empty() {
        return Ok(Run { verdicts, recorded: None, tip });
    }
    group.record(&mut transaction).map_err(CommitError::NotRecorded)?;
    transaction.commit()?;
    let recorded = Recorded { before: before.head, changes: group.into_changes(), head: tip.head };
    Ok(Run { verdicts, recorded: Some(recorded), tip })
}
