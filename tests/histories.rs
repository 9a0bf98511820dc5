//! Histories: clients in tasks, handles and processes ask one store at once, some give up or are
//! killed; what each was told, and when, must be what one store could have told that does one thing
//! after the other, in the order of time (`histories/checker.rs` says how that is decided).
//!
//! `UNIVRS_HISTORIES` sets how many, `UNIVRS_SEED` the one to begin with. A seed repeats what is
//! asked; how it falls in time is up to the machine, so a history that is wrong is kept in a file.

use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Instant, SystemTime};

use univrs_state::log::Change;

use crate::streams;
use crate::streams::plan::{END, Seen};
use crate::support::PATIENCE;
use journal::{Line, records};
use operation::Sight;
use world::Focus;

mod checker;
pub(crate) mod client;
pub(crate) mod journal;
mod judge;
pub(crate) mod operation;
mod perform;
pub(crate) mod process;
mod recorded;
mod relay;
mod violations;

pub(crate) mod world;

/// Histories of a run that is not told otherwise.
const HISTORIES: u64 = 400;
/// Histories at once: most of them wait for one another's locks.
const AT_ONCE: u64 = 6;

/// What a world noted, and its log in the end.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) kind: String,
    pub(crate) log: Vec<Change>,
    pub(crate) lines: Vec<Line>,
    /// The patterns of the streams, by their names.
    pub(crate) streams: Vec<(String, String)>,
    pub(crate) killed: u64,
    /// Streams that ended before the end, or waited for it in vain.
    pub(crate) failed: Vec<String>,
}

/// What all histories had in them.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) histories: u64,
    /// Those with more than one process.
    pub(crate) processes: u64,
    pub(crate) killed: u64,
    operations: checker::Tally,
    pub(crate) streams: u64,
    pub(crate) watched: streams::checker::Tally,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.histories += more.histories;
        self.processes += more.processes;
        self.killed += more.killed;
        self.operations += more.operations;
        self.streams += more.streams;
        self.watched += more.watched;
    }
}

impl History {
    /// What a stream showed, with times.
    fn shown(&self, name: &str) -> impl Iterator<Item = (u64, Seen)> {
        self.lines.iter().filter_map(move |line| match line {
            Line::Seen { stream, at, seen } if stream == name => Some((*at, seen.clone())),
            _ => None,
        })
    }

    /// Checks operations and streams.
    fn check(&self) -> Result<Totals, String> {
        let mut totals = Totals {
            histories: 1,
            processes: u64::from(self.kind == "Processes"),
            killed: self.killed,
            streams: self.streams.len() as u64,
            ..Totals::default()
        };
        let end = self.log.iter().rfind(|change| change.value.as_deref() == Some(END.as_bytes()));
        let end = end.ok_or("the log has no end")?.commit_seq.as_u64();
        let mut sights = Vec::new();
        for (name, pattern) in &self.streams {
            let (times, seen): (Vec<u64>, Vec<Seen>) = self.shown(name).unzip();
            let watched = streams::checker::check(&self.log, pattern, &seen, end);
            totals.watched += watched.map_err(|error| format!("{name}: {error}"))?;
            sights.extend(times.iter().zip(&seen).map(|(at, seen)| Sight { at: *at, seq: position(seen) }));
        }
        totals.operations = checker::check(&self.log, &records(&self.lines), &sights)?;
        match self.failed.first() {
            Some(failed) => Err(failed.clone()),
            None => Ok(totals),
        }
    }

    /// Writes down what happened, for whoever looks for the cause.
    pub(crate) fn keep(&self, seed: u64) -> PathBuf {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("history-{seed}.txt"));
        let log = self
            .log
            .iter()
            .map(|c| format!("{} {} {} {} v{} {:?}", c.seq, c.commit_seq, c.kind, c.key, c.version, c.meta));
        let lines = self.lines.iter().map(|line| format!("{line:?}"));
        std::fs::write(&path, log.chain(lines).collect::<Vec<_>>().join("\n")).unwrap();
        path
    }
}

/// What whoever saw this knows to be recorded.
fn position(seen: &Seen) -> u64 {
    match seen {
        Seen::Event(event) => event.commit_seq.as_u64(),
        Seen::From(cursor) | Seen::Snapshot(_, cursor) | Seen::Cursor(cursor) => cursor.seq().as_u64(),
    }
}

pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// Lives a history and checks it.
fn try_one(seed: u64, focus: Focus) -> Result<Totals, String> {
    let done = catch_unwind(AssertUnwindSafe(|| {
        let history = world::live(seed, focus)?;
        history.check().map_err(|error| {
            let kept = history.keep(seed);
            format!("in a history of {}, kept in {}: {error}", history.kind, kept.display())
        })
    }));
    done.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        Err(said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned())
    })
}

/// Tries histories, several at once; what they had in them, and the first that was wrong. Those that
/// are under way then are not waited for: they may never end.
pub(crate) fn try_all(name: &str, runs: u64, focus: Focus) -> (Totals, Option<String>) {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let first = number("UNIVRS_SEED").unwrap_or(clock.as_secs());
    println!("{name}: UNIVRS_SEED={first}");
    let (next, (sender, results)) = (Arc::new(AtomicU64::new(first)), mpsc::channel());
    for _ in 0..AT_ONCE {
        let (next, sender) = (next.clone(), sender.clone());
        std::thread::spawn(move || {
            let seeds = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
            for seed in seeds.take_while(|seed| *seed < first + runs) {
                if sender.send((seed, try_one(seed, focus))).is_err() {
                    break;
                }
            }
        });
    }
    drop(sender);
    let mut totals = Totals::default();
    let violation = loop {
        match results.recv_timeout(PATIENCE) {
            Ok((_, Ok(more))) => totals += more,
            Ok((seed, Err(error))) => break format!("UNIVRS_SEED={seed}, {error}"),
            Err(RecvTimeoutError::Timeout) => break "a history does not end".to_owned(),
            Err(RecvTimeoutError::Disconnected) => return (totals, None),
        }
    };
    println!("{name}: VIOLATION {violation}");
    (totals, Some(violation))
}

#[test]
fn what_concurrent_clients_are_told_is_what_one_store_could_tell_one_after_the_other() {
    let (runs, start) = (number("UNIVRS_HISTORIES").unwrap_or(HISTORIES), Instant::now());
    let (totals, violation) = try_all("histories", runs, Focus::Clients);
    let Totals { histories, processes, killed, operations, .. } = totals;
    println!(
        "histories: {histories}, violations {} ({processes} with processes, {killed} kills, {operations:?}, {:.0?})",
        u8::from(violation.is_some()),
        start.elapsed()
    );
    assert_eq!(violation, None);
    assert!(operations.reads > runs && operations.writes > runs, "hardly anything was asked");
}
