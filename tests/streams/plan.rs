//! Which streams there are, how each is read, and what it shows.

use serde::{Deserialize, Serialize};
use univrs_state::{Cursor, Entry, WatchEvent};

use crate::support::Seeded;

/// The value of the last event of every stream.
pub(crate) const END: &str = "the end";
/// Patterns of every kind, and for each a key that it matches, which is set to [`END`] in the end.
pub(crate) const PATTERNS: [(&str, &str); 9] = [
    ("/*", "/z"),
    ("/**", "/z"),
    ("/a", "/a"),
    ("/a/1", "/a/1"),
    ("/a/*", "/a/1"),
    ("/a*", "/a"),
    ("/b/*/1", "/b/x/1"),
    ("/**/2", "/c/2"),
    ("/**/x/**", "/b/x/1"),
];
/// The keys that the last commit sets, in their order.
pub(crate) fn end_keys() -> Vec<&'static str> {
    let mut keys: Vec<&str> = PATTERNS.iter().map(|(_, key)| *key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What a stream showed, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Seen {
    /// It begins, or was resumed, behind this position.
    From(Cursor),
    /// It begins with the entries of one state, and goes on behind it.
    Snapshot(Vec<Entry>, Cursor),
    Event(WatchEvent),
    /// It said that it may be resumed from here.
    Cursor(Cursor),
}

/// Where a stream begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Start {
    Now,
    /// With the first change of all.
    Beginning,
    Snapshot,
    After(Cursor),
}

/// How a stream is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) pattern: String,
    pub(crate) start: Start,
    /// Reads at most so many events at a time, then does something else for a while.
    pub(crate) burst: u64,
    /// Does not read before everything is written.
    pub(crate) last: bool,
    /// By whole commits.
    pub(crate) commits: bool,
    pub(crate) seed: u64,
}

impl Plan {
    /// Any pattern, and any way to read it.
    pub(crate) fn random(name: String, random: &Seeded) -> Self {
        let place = usize::try_from(random.below(PATTERNS.len() as u64)).unwrap();
        Self {
            name,
            pattern: PATTERNS[place].0.to_owned(),
            start: match random.below(4) {
                0 | 1 => Start::Now,
                2 => Start::Snapshot,
                _ => Start::Beginning,
            },
            burst: [1, 3, 20, u64::MAX][usize::try_from(random.below(4)).unwrap()],
            last: random.below(6) == 0,
            commits: random.below(3) == 0,
            seed: random.next(),
        }
    }
}
