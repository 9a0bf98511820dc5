//! The log of a history: each commit is one that an attempt asked for, once, and is all of it.

use std::collections::HashMap;

use univrs_state::Meta;
use univrs_state::log::Change;

use super::judge::{judge, made};
use super::operation::{Operation, Record, Write};
use crate::support::timeline::Timeline;

/// A commit of the log and the attempt that wrote it.
pub(super) struct Commit<'a> {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) attempt: &'a Record,
    pub(super) write: &'a Write,
}

/// A log, as the commits of attempts.
pub(super) struct Recorded<'a> {
    pub(super) timeline: Timeline<'a>,
    commits: Vec<Commit<'a>>,
    by_tag: HashMap<&'a str, usize>,
    by_id: HashMap<&'a str, usize>,
    /// For each commit the latest time at which it or one before it was asked for.
    begun: Vec<u64>,
}

impl<'a> Recorded<'a> {
    pub(super) fn of(log: &'a [Change], records: &'a [Record]) -> Result<Self, String> {
        let mut attempts = HashMap::new();
        for record in records {
            if let Operation::Write(write) = &record.operation {
                attempts.insert(write.tag.as_str(), (record, write));
            }
        }
        let (commits, by_tag, by_id) = (Vec::new(), HashMap::new(), HashMap::new());
        let mut recorded = Self { timeline: Timeline::of(log), commits, by_tag, by_id, begun: Vec::new() };
        for changes in log.chunk_by(|one, next| one.commit_seq == next.commit_seq) {
            let tag = changes[0].meta.as_deref().and_then(|meta| meta.correlation.as_deref());
            let (attempt, write) = tag
                .and_then(|tag| attempts.get(tag))
                .ok_or_else(|| format!("nobody asked for the commit at {}", changes[0].seq))?;
            recorded.record(changes, attempt, write)?;
        }
        Ok(recorded)
    }

    /// Takes in the next commit of the log: it is recorded once, and what its attempt asked for.
    fn record(&mut self, changes: &'a [Change], attempt: &'a Record, write: &'a Write) -> Result<(), String> {
        let (first, last) = (changes[0].seq.as_u64(), changes[changes.len() - 1].seq.as_u64());
        if last != changes[0].commit_seq.as_u64() {
            return Err(format!("the commit at {first} is cut off"));
        }
        let index = self.commits.len();
        if let Some(before) = self.by_tag.insert(&write.tag, index) {
            return Err(format!(
                "{} is recorded at {first} and at {}",
                write.tag, self.commits[before].first
            ));
        }
        let id = changes[0].meta.as_deref().and_then(Meta::commit_id);
        if id != write.commit_id.as_deref() {
            return Err(format!("the commit at {first} has the id {id:?}, not that of {}", write.tag));
        }
        if let Some(before) = id.and_then(|_| self.by_id.insert(write.commit_id.as_deref()?, index)) {
            let before = self.commits[before].first;
            return Err(format!("the commit id {id:?} is recorded at {first} and at {before}"));
        }
        match judge(&self.timeline, write, first - 1) {
            Ok(outcome) if outcome.changes.iter().copied().eq(changes.iter().map(made)) => {}
            Ok(_) => return Err(format!("the commit at {first} is not what {} asked for", write.tag)),
            Err(failed) => {
                return Err(format!(
                    "{} is recorded at {first}, where {failed:?} should have refused it",
                    write.tag
                ));
            }
        }
        self.begun.push(attempt.invoked.max(self.begun.last().copied().unwrap_or(0)));
        self.commits.push(Commit { first, last, attempt, write });
        Ok(())
    }

    /// The newest position of which all had been asked for by this time.
    pub(super) fn begun_by(&self, time: u64) -> u64 {
        let begun = self.begun.partition_point(|begun| *begun <= time);
        begun.checked_sub(1).map_or(0, |last| self.commits[last].last)
    }

    pub(super) fn own(&self, write: &Write) -> Option<&Commit<'a>> {
        self.by_tag.get(write.tag.as_str()).map(|index| &self.commits[*index])
    }

    /// The commit of this attempt, or of another one with the same id.
    pub(super) fn of_id(&self, write: &Write) -> Option<&Commit<'a>> {
        let by_id = write.commit_id.as_deref().and_then(|id| self.by_id.get(id));
        self.own(write).or_else(|| by_id.map(|index| &self.commits[*index]))
    }
}
