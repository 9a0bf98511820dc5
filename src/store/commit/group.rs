//! A group of batches in one storage transaction.

use super::group_state::{GroupState, Verdict};
use super::proposal::{Proposal, Sources};
use crate::backend::{Backend, CommitError, FoldedState, Transaction};
use crate::error::{Result, StateError};
use crate::log::{Change, Head, Tip};
use crate::state::Batch;
use crate::store::receipt::Receipt;

/// What one storage transaction recorded.
pub(crate) struct Recorded {
    /// Where the log ended before.
    pub(crate) before: Head,
    pub(crate) changes: Vec<Change>,
    /// Where it ended then.
    pub(crate) head: Head,
}

/// What became of a group.
pub(crate) struct Outcome {
    /// One result for each batch, in order.
    pub(crate) results: Vec<Result<Receipt>>,
    /// What was recorded, in order.
    pub(crate) recorded: Vec<Recorded>,
    /// The end of the log, as far as it is known.
    pub(crate) tip: Option<Tip>,
    /// Nobody knows whether the group was recorded: the connection must not be trusted.
    pub(crate) unknown: bool,
}

impl Outcome {
    /// All batches failed alike.
    pub(crate) fn failed(batches: usize, error: &StateError) -> Self {
        Self { results: vec![Err(error.clone()); batches], recorded: Vec::new(), tip: None, unknown: false }
    }

    /// All batches were judged.
    fn judged(run: Run) -> Self {
        let results = run.verdicts.into_iter().map(|verdict| verdict.map_err(StateError::from)).collect();
        let recorded = run.recorded.into_iter().collect();
        Self { results, recorded, tip: Some(run.tip), unknown: false }
    }

    /// None of the batches was recorded, or nobody knows. Verdicts do not stand then either: they may
    /// rest on a batch of the group that failed.
    fn of_failure(batches: usize, failure: CommitError) -> Self {
        match failure {
            CommitError::NotRecorded(error) => Self::failed(batches, &error),
            CommitError::Unknown(error) => {
                let error = StateError::OutcomeUnknown(error.to_string());
                Self { unknown: true, ..Self::failed(batches, &error) }
            }
        }
    }

    /// Adds what became of the batches that follow.
    fn extend(&mut self, next: Self) {
        self.results.extend(next.results);
        self.recorded.extend(next.recorded);
        self.tip = next.tip.or(self.tip);
        self.unknown = next.unknown;
    }
}

/// Commits batches in order, together. Each is decided on the state that the ones before it
/// leave, and refused ones leave no trace; a failure of storage is one of the whole group. Where
/// the disk is full or a row is damaged, the batches are tried again one by one, so that only
/// those fail that do not fit or meet it. What is `known` answers for the storage where it is of the
/// same state.
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
    // Times are taken inside of the transaction: to begin it may have taken long, while another process
    // wrote, and a commit must not be dated back to before that wait.
    let proposals: Vec<Proposal<'_>> =
        match batches.iter().map(|batch| sources.propose(batch)).collect::<Result<_>>() {
            Ok(proposals) => proposals,
            Err(error) => return Outcome::failed(batches.len(), &error),
        };
    match record(transaction, &proposals, known) {
        Ok(run) => Outcome::judged(run),
        Err(CommitError::NotRecorded(StateError::StorageFull(_) | StateError::Corrupted(_)))
            if batches.len() > 1 =>
        {
            one_by_one(backend, &proposals, known)
        }
        Err(failure) => Outcome::of_failure(batches.len(), failure),
    }
}

/// Commits each batch in a storage transaction of its own.
fn one_by_one<B: Backend>(
    backend: &mut B,
    proposals: &[Proposal<'_>],
    known: Option<&FoldedState>,
) -> Outcome {
    let mut all = Outcome { results: Vec::new(), recorded: Vec::new(), tip: None, unknown: false };
    for proposal in proposals {
        if all.unknown {
            let error = "it was not tried, because the outcome of a commit before it is unknown";
            all.results.push(Err(StateError::Storage(error.into())));
            continue;
        }
        let begun = backend.begin().map_err(CommitError::NotRecorded);
        all.extend(match begun.and_then(|begun| record(begun, std::slice::from_ref(proposal), known)) {
            Ok(run) => Outcome::judged(run),
            Err(failure) => Outcome::of_failure(1, failure),
        });
    }
    all
}

/// What a run of batches came to.
pub(super) struct Run {
    /// One for each batch, in order.
    pub(super) verdicts: Vec<Verdict>,
    /// What was recorded; none if the batches changed nothing.
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
    let mut group = GroupState::new(before, known);
    let mut verdicts = Vec::with_capacity(run.len());
    for proposal in run {
        // After a failed read SQLite may have rolled the transaction back: none of it stands.
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
