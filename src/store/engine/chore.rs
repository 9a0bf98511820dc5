//! Work of the writer that is no batch: what leaves the log, and the room that it took.

use crate::backend::{Backend, CommitError, DecisionView, Slice, Transaction};
use crate::error::{Result, StateError};
use crate::seq::Seq;
use crate::state::Thinning;

/// Work of the writer that is no batch. It is done in a storage transaction of its own, behind the batches that wait.
#[derive(Clone)]
pub(crate) enum Work {
    /// Drops a slice of the compaction.
    Drop(Slice),
    /// Ends the compaction to this floor, if it has reached it.
    Finish(Seq),
    /// Drops the values at these positions, if this thinning goes on.
    Thin(Thinning, Vec<Seq>),
    /// Ends this thinning, if it goes on.
    EndThinning(Thinning),
    /// Erases the values at these positions, which were recorded as erased.
    Erase(Vec<Seq>),
    /// Empties the file of the write-ahead log.
    EmptyLog,
    /// Builds the file anew.
    Rebuild,
    /// Gives back so many free pages to the file system.
    GiveBack(u32),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// It is done.
    Whole,
    /// Nothing was done, because another process is further.
    Overtaken,
    /// Nothing was done, because the write-ahead log is above its cap: it is to be asked for again.
    NotNow,
    /// It was not done, because a reader is in the way.
    Held,
    /// The file was built anew: how many bytes it had, and has.
    Rebuilt { before: u64, after: u64 },
    /// So many free pages are left.
    Left(u64),
}

/// A piece of work, and who is told.
pub(crate) struct Chore {
    pub(crate) work: Work,
    pub(crate) done: Box<dyn FnOnce(Result<Done>) + Send>,
}

impl Work {
    /// Does it on a log.
    pub(crate) fn run<B: Backend>(&self, backend: &mut B) -> Result<Done, CommitError> {
        let not_recorded = CommitError::NotRecorded;
        let mut transaction = backend.begin().map_err(not_recorded)?;
        let done = match self {
            Self::Drop(slice) => transaction.drop_slice(slice).map_err(not_recorded)?,
            Self::Finish(to) => {
                let floor = transaction.floor().map_err(not_recorded)?;
                let at_end = floor.reached_on_way_to(*to) == Some(*to);
                if at_end {
                    transaction.set_floor(&floor.finished()).map_err(not_recorded)?;
                }
                at_end
            }
            Self::Thin(thinning, seqs) => transaction.thin(thinning, seqs).map_err(not_recorded)?,
            Self::EndThinning(thinning) => {
                let goes_on = transaction.thinning().map_err(not_recorded)?.as_ref() == Some(thinning);
                if goes_on {
                    transaction.set_thinning(None).map_err(not_recorded)?;
                }
                goes_on
            }
            Self::Erase(seqs) => {
                transaction.erase(seqs).map_err(not_recorded)?;
                true
            }
            // Memory has neither.
            Self::EmptyLog => return Ok(Done::Whole),
            Self::Rebuild => return Ok(Done::Rebuilt { before: 0, after: 0 }), // Nor has it a file.
            Self::GiveBack(_) => return Ok(Done::Left(0)),
        };
        if !done {
            return Ok(Done::Overtaken);
        }
        transaction.commit()?;
        Ok(Done::Whole)
    }
}

/// The error of work that failed; nobody can tell whether it was done if the outcome is unknown, and it can be asked for
/// again in any case.
pub(crate) fn failure(error: CommitError) -> StateError {
    match error {
        CommitError::NotRecorded(error) | CommitError::Unknown(error) => error,
    }
}
