//! Histories: clients in tasks, handles and processes ask one store at once, some give up or are
//! killed; what each was told, and when, must be what one store could have told that does one thing
//! after the other, in the order of time (`histories/checker.rs` says how that is decided).
//!
//! `UNIVRS_HISTORIES` sets how many, `UNIVRS_SEED` the one to begin with. A seed repeats what is
//! asked; how it falls in time is up to the machine, so a history that is wrong is kept in a file.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

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

/// Tries histories; what they had in them, and the first that was wrong or did not end.
pub(crate) fn try_all(name: &str, runs: u64, focus: Focus) -> (Totals, Option<String>) {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let first = number("UNIVRS_SEED").unwrap_or(clock.as_secs());
    println!("{name}: UNIVRS_SEED={first}");
    let (totals, violation) = try_each(first..first + runs, PATIENCE, move |seed| try_one(seed, focus));
    if let Some(violation) = &violation {
        println!("{name}: VIOLATION {violation}");
    }
    (totals, violation)
}

/// Tries seeds, several at once, until one is wrong, or has not ended after `patience`. Those that are under way then
/// are not waited for: they may never end.
fn try_each(
    seeds: Range<u64>,
    patience: Duration,
    attempt: impl Fn(u64) -> Result<Totals, String> + Clone + Send + 'static,
) -> (Totals, Option<String>) {
    let (sender, results) = mpsc::channel();
    // Each has a time of its own: that others end says nothing of one that waits for ever. The first is the oldest.
    let under_way = Arc::new(Mutex::new((seeds, BTreeMap::new())));
    for _ in 0..AT_ONCE {
        let (under_way, sender, attempt) = (under_way.clone(), sender.clone(), attempt.clone());
        std::thread::spawn(move || {
            let begin = || {
                let mut under_way = under_way.lock().unwrap();
                let seed = under_way.0.next()?;
                under_way.1.insert(seed, Instant::now());
                Some(seed)
            };
            while let Some(seed) = begin() {
                let tried = attempt(seed);
                under_way.lock().unwrap().1.remove(&seed);
                if sender.send((seed, tried)).is_err() {
                    break;
                }
            }
        });
    }
    drop(sender);
    let mut totals = Totals::default();
    loop {
        let oldest =
            under_way.lock().unwrap().1.first_key_value().map(|(seed, begun)| (*seed, begun.elapsed()));
        let left = match oldest {
            Some((seed, passed)) if passed >= patience => {
                return (totals, Some(format!("UNIVRS_SEED={seed}, it has not ended after {patience:?}")));
            }
            Some((_, passed)) => patience.saturating_sub(passed),
            None => patience,
        };
        match results.recv_timeout(left) {
            Ok((_, Ok(more))) => totals += more,
            Ok((seed, Err(error))) => return (totals, Some(format!("UNIVRS_SEED={seed}, {error}"))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return (totals, None),
        }
    }
}

// Each one that ended gave a new time to the one that did not, which was not named.
#[test]
fn one_that_never_ends_is_told_by_its_seed_though_others_end() {
    let (_held, never) = mpsc::channel::<()>();
    let never = Arc::new(Mutex::new(never));
    let (_, violation) = try_each(7..u64::MAX, Duration::from_millis(50), move |seed| {
        if seed == 7 {
            never.lock().unwrap().recv().map_err(|_| "the test is over")?;
        }
        Ok(Totals::default())
    });
    assert_eq!(violation.as_deref(), Some("UNIVRS_SEED=7, it has not ended after 50ms"));
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
