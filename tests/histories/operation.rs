//! What clients asked, when, and what they were answered.

use serde::{Deserialize, Serialize};
use univrs_state::Entry;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Operation {
    Write(Write),
    Get(String),
    GetMany(Vec<String>),
    Exists(String),
    Version(String),
    List(String),
    /// All pages of a scan of a prefix, of at most so many entries each.
    Scan(String, usize),
    Head,
    /// The start of a watch: its position.
    Watch(String),
}

/// A batch, and the method that brings it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Write {
    pub(crate) verb: Verb,
    /// Stands in the metadata of its changes; no other attempt has it.
    pub(crate) tag: String,
    pub(crate) conditions: Vec<Condition>,
    /// Keys and their new values; none deletes.
    pub(crate) writes: Vec<(String, Option<String>)>,
    /// Attempts that have the same one are one batch, which is recorded once at most.
    pub(crate) commit_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verb {
    Commit,
    Transaction,
    Set,
    Delete,
    CompareAndSet,
    Create,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Condition {
    Version { key: String, expected: u64 },
    Unchanged { prefix: String, since: u64 },
}

/// A condition that did not hold, and what was found instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failed {
    Version { key: String, expected: u64, found: u64 },
    Changed { prefix: String, since: u64, found: u64, key: Option<String> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Receipt {
        first: u64,
        last: u64,
        versions: Vec<u64>,
    },
    /// The version that a write left, or that was read.
    Version(u64),
    Deleted,
    /// Refused: all conditions that failed.
    Refused(Vec<Failed>),
    /// Refused: the first condition that failed.
    Conflict {
        expected: u64,
        found: u64,
    },
    AlreadyExists,
    Entry(Option<Entry>),
    Exists(bool),
    Keys(Vec<String>),
    /// Entries, and the positions of the pages that they came in.
    Pages(Vec<u64>, Vec<Entry>),
    Position(u64),
    /// Another process had the lock for too long: nothing was recorded.
    Busy,
    /// What must not happen.
    Failed(String),
    /// The store was closed meanwhile, which says nothing about what was under way.
    Closed,
    /// None came: the process died, the future was dropped, or the store said that it does not know.
    Unknown,
}

/// An operation between its invocation and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) client: String,
    pub(crate) invoked: u64,
    /// None where no answer came: it may happen at any later time, or never.
    pub(crate) completed: Option<u64>,
    pub(crate) operation: Operation,
    pub(crate) answer: Answer,
}

/// A watch showed this position at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sight {
    pub(crate) at: u64,
    pub(crate) seq: u64,
}

impl Write {
    /// The keys with their new values, as bytes.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.writes.iter().map(|(key, value)| (key.as_str(), value.as_deref().map(str::as_bytes)))
    }
}
