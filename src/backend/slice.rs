//! A slice of a compaction: what one storage transaction drops.

use std::sync::Arc;

use crate::log::{Change, Hash};
use crate::seq::Seq;

/// What a compaction drops between two positions at or below its floor. All of it was checked and decided before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Slice {
    /// The floor of the compaction. If the log has another one, that compaction has ended, and nothing is dropped: a slice
    /// of an earlier one would leave what a later one drops.
    pub(crate) floor: Seq,
    /// The position that the compaction has reached. If it has reached another one, another process was faster, and
    /// nothing is dropped.
    pub(crate) from: Seq,
    /// The position that it has reached after the slice.
    pub(crate) to: Seq,
    /// The first and the last position of each run of changes that go.
    pub(crate) runs: Vec<(Seq, Seq)>,
    /// The changes right behind a run, each with the chain hash before it.
    pub(crate) behind: Vec<(Seq, Hash)>,
    /// Keys that are forgotten, with the positions of their deletions.
    pub(crate) forgotten: Vec<(Arc<str>, Seq)>,
    /// Ids of commits, with the positions of their last changes.
    pub(crate) commit_ids: Vec<(String, Seq)>,
}

impl Slice {
    /// Whether a change goes.
    pub(crate) fn drops(&self, seq: Seq) -> bool {
        let behind = self.runs.partition_point(|(first, _)| *first <= seq);
        behind.checked_sub(1).and_then(|run| self.runs.get(run)).is_some_and(|(_, last)| seq <= *last)
    }
}

/// A change, and the chain hash before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Linked {
    pub(crate) change: Change,
    pub(crate) before: Hash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_drops_what_lies_in_its_runs() {
        let run = |first, last| (Seq::new(first), Seq::new(last));
        let slice = Slice { runs: vec![run(2, 3), run(6, 6)], ..Slice::default() };
        let dropped: Vec<u64> = (0..9).filter(|seq| slice.drops(Seq::new(*seq))).collect();
        assert_eq!(dropped, [2, 3, 6]);
    }
}
