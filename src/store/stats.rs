//! Statistics of an open store.

use std::fmt;
use std::time::Duration;

use crate::log::Head;
use crate::seq::Seq;

/// Statistics of an open store, since this process opened it. Sizes are in bytes. Openings of one file that share a
/// store share its statistics.
///
/// ```
/// use univrs_state::stats::Residency;
/// use univrs_state::{LocalStore, MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// let _watch = store.watch("/*")?;
/// let stats = store.stats().await?;
/// assert_eq!((stats.batches, stats.watchers.len()), (1, 1));
/// assert_eq!(stats.residency, Residency::Whole);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The newest head that this open store has seen.
    pub head: Head,
    /// How many batches were recorded or refused.
    pub batches: u64,
    /// How many storage transactions the batches shared.
    pub groups: u64,
    /// The most batches of one storage transaction.
    pub largest_group: u64,
    /// How many bytes of the write-ahead log are in use.
    pub wal_bytes: u64,
    /// How many bytes the file of the write-ahead log has. It keeps them for the next commits, up to
    /// [`wal_cap`](crate::Options::wal_cap), while the store is busy.
    pub wal_file_bytes: u64,
    /// Who reads an older state than the newest, so that the write-ahead log cannot be moved into the database beyond
    /// that state; whoever holds back most comes first. What other processes do is known on Linux only, and only of
    /// processes that this one may see.
    pub wal_readers: Vec<WalReader>,
    /// How many checkpoints were made: moves of the write-ahead log into the database.
    pub checkpoints: u64,
    /// How many checkpoints failed. The data stay in the write-ahead log then, and nothing is lost.
    pub failed_checkpoints: u64,
    /// How long the last checkpoint took.
    pub last_checkpoint: Duration,
    /// How long the longest checkpoint took.
    pub longest_checkpoint: Duration,
    /// Which part of the current state is in memory.
    pub residency: Residency,
    /// About how many bytes the current state takes in memory.
    pub resident_bytes: u64,
    /// About how many bytes the watches hold together, of [`watch_bytes`](crate::Options::watch_bytes): what they have
    /// read, or are reading now, and have not yet delivered.
    pub watch_bytes: u64,
    /// How far the time of the newest commit is ahead of the clock; zero if it is not. Later commits get times just
    /// after it. Zero for a [`Clock`](crate::options::Clock) that names no uptime.
    pub ahead_of_clock: Duration,
    /// The floor of a compaction that has not yet dropped everything before it; `None` if there is none. If nobody is at it,
    /// [`resume_compaction`](crate::retain::Retention::resume_compaction) finishes it.
    pub unfinished_compaction: Option<Seq>,
    /// The point of a thinning that was begun and is not finished: somebody is at it, or
    /// [`resume_thinning`](crate::retain::Retention::resume_thinning) finishes it.
    pub unfinished_thinning: Option<Seq>,
    /// What an operator should see to: a write-ahead log that is above its cap and who holds it, a newest commit that
    /// is ahead of the clock, a clock that leapt. Empty if all is well.
    pub warnings: Vec<Warning>,
    /// The open watches, the one that lags most first.
    pub watchers: Vec<WatcherStats>,
}

/// A sentence for the operator of a store, which it prints as.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// What it is about.
    pub about: About,
    what: String,
}

/// What a [`Warning`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum About {
    /// The files of the store.
    Files,
    /// Tables and views of other programs in the file.
    Others,
    /// The clock.
    Clock,
    /// The size of the write-ahead log.
    WriteAheadLog,
}

impl Warning {
    pub(crate) fn new(about: About, what: impl Into<String>) -> Self {
        Self { about, what: what.into() }
    }
}

impl AsRef<str> for Warning {
    fn as_ref(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Who reads an older state, which keeps the write-ahead log from being moved into the database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalReader {
    /// The process that reads. It may be this one.
    pub process: u32,
    /// The name of its program; empty if the system does not tell, and for a read of this store.
    pub program: String,
    /// Which read of this store it is: `export` or `verification`. None for a short read, another opening of the file,
    /// and another process.
    pub what: Option<String>,
    /// How long a read of this store has been running.
    pub time: Option<Duration>,
    /// How many bytes were written to the log since its state.
    pub held_bytes: u64,
}

/// Such as `process 4711 (python3)` or `an export of this store, which has run for 12 s`.
impl fmt::Display for WalReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.what, self.time, self.program.as_str()) {
            (Some(what), Some(time), _) => {
                let article = if what.starts_with('e') { "an" } else { "a" };
                write!(f, "{article} {what} of this store, which has run for {} s", time.as_secs())
            }
            (_, _, program) if self.process == std::process::id() => {
                write!(f, "a read of this process ({}, {program})", self.process)
            }
            (_, _, "") => write!(f, "process {}", self.process),
            (_, _, program) => write!(f, "process {} ({program})", self.process),
        }
    }
}

/// The warning of a write-ahead log above its cap; `None` if it is not.
pub(crate) fn above_cap(used: u64, cap: Option<u64>, readers: &[WalReader]) -> Option<Warning> {
    let cap = cap.filter(|cap| used > *cap)?;
    let (used, cap) = (used >> 20, cap >> 20);
    let above = format!("the write-ahead log has {used} MiB, more than its cap of {cap} MiB");
    let what = match readers.first() {
        Some(reader) => format!(
            "{above}, because {reader} reads an older state: end that, and the log is moved into the database"
        ),
        None => format!("{above}, and is being moved into the database"),
    };
    Some(Warning::new(About::WriteAheadLog, what))
}

/// Which part of the current state an open store has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Residency {
    /// The state is being loaded. Until then reads go to the storage.
    #[default]
    Loading,
    /// All of it, so that reads need no I/O.
    Whole,
    /// The entries that were read last, because the whole state does not fit into
    /// [`resident_bytes`](crate::Options::resident_bytes).
    Partial,
    /// The entries that were read last, because loading failed: a row is damaged, an index contradicts its table,
    /// or the storage failed. [`LocalStore::verify`](crate::LocalStore::verify) says more.
    Failed,
}

/// Statistics of an open watch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatcherStats {
    /// Its pattern.
    pub pattern: String,
    /// The position up to which every matching change was delivered.
    pub position: Seq,
    /// How many changes the log has after that position, matching or not.
    pub lag: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    pub(crate) residency: Residency,
    pub(crate) batches: u64,
    pub(crate) groups: u64,
    pub(crate) largest_group: u64,
    pub(crate) checkpoints: u64,
    pub(crate) failed_checkpoints: u64,
    pub(crate) last_checkpoint: Duration,
    pub(crate) longest_checkpoint: Duration,
}

impl Counters {
    pub(crate) fn group(&mut self, batches: usize) {
        self.batches += batches as u64;
        self.groups += 1;
        self.largest_group = self.largest_group.max(batches as u64);
    }

    pub(crate) fn checkpoint(&mut self, took: Duration, failed: bool) {
        self.checkpoints += 1;
        self.failed_checkpoints += u64::from(failed);
        self.last_checkpoint = took;
        self.longest_checkpoint = self.longest_checkpoint.max(took);
    }
}
