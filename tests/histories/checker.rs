//! Whether a history is strictly serializable. The log says in which order the writes took effect,
//! so that no order has to be searched for, and the time is linear but for operations that overlap:
//!
//! - Nobody is told of a position before all up to it were asked for, so that a commit lies behind
//!   every position that somebody knew of when it was asked for.
//! - A read answers what is true at one position: at least the newest that was known when it was
//!   asked, and at most the newest that had been asked for when it was answered. Where the answer
//!   does not say which position, the first one of them at which it is true is as good as any.
//! - A refusal, and a write that changed nothing, is a read of what it found.
//! - What nobody was told of was recorded once, or not at all.

use std::fmt::Debug;
use std::ops::AddAssign;

use univrs_state::log::Change;

use super::judge::judge;
use super::operation::{Answer, Failed, Operation, Record, Sight, Verb, Write};
use super::recorded::{Commit, Recorded};

/// What a history had in it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) writes: u64,
    pub(crate) refusals: u64,
    pub(crate) reads: u64,
    pub(crate) sights: u64,
    /// Writes without an answer that were recorded, and that were not.
    pub(crate) unknown_recorded: u64,
    pub(crate) unknown_absent: u64,
    /// Attempts that were told of the commit of an attempt before them.
    pub(crate) repeated: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.writes += more.writes;
        self.refusals += more.refusals;
        self.reads += more.reads;
        self.sights += more.sights;
        self.unknown_recorded += more.unknown_recorded;
        self.unknown_absent += more.unknown_absent;
        self.repeated += more.repeated;
    }
}

/// Checks what clients and watches were told against the log in the end.
pub(crate) fn check(log: &[Change], records: &[Record], sights: &[Sight]) -> Result<Tally, String> {
    Recorded::of(log, records)?.sweep(records, sights)
}

impl Recorded<'_> {
    /// Goes through invocations and answers in the order of time, with the newest position known.
    fn sweep(&self, records: &[Record], sights: &[Sight]) -> Result<Tally, String> {
        let mut tally = Tally::default();
        // At the same moment nothing is before the other: who asks comes first.
        let asked = records.iter().enumerate().map(|(n, record)| (record.invoked, 0, n));
        let answered = records.iter().enumerate().filter_map(|(n, record)| Some((record.completed?, 1, n)));
        let shown = sights.iter().enumerate().map(|(n, sight)| (sight.at, 2, n));
        let mut moments: Vec<(u64, u8, usize)> = asked.chain(answered).chain(shown).collect();
        moments.sort_unstable();

        for record in records.iter().filter(|record| record.completed.is_none()) {
            if let Operation::Write(write) = &record.operation {
                let recorded = u64::from(self.own(write).is_some());
                tally.unknown_recorded += recorded;
                tally.unknown_absent += 1 - recorded;
            }
        }
        let mut known = vec![0; records.len()];
        let mut newest = 0;
        for (time, kind, n) in moments {
            let seen = match kind {
                0 => {
                    known[n] = newest;
                    0
                }
                1 => {
                    let window = Window { low: known[n], high: self.begun_by(time) };
                    let place = self.place(&records[n], window, &mut tally);
                    place.map_err(|error| told(&records[n], window, &error))?
                }
                _ => {
                    tally.sights += 1;
                    let (seq, begun) = (sights[n].seq, self.begun_by(time));
                    if seq > begun {
                        return Err(format!("a watch showed {seq} when only {begun} had been asked for"));
                    }
                    seq
                }
            };
            newest = newest.max(seen);
        }
        Ok(tally)
    }

    /// A position at which the answer is true, and which whoever got it knows of from now on.
    fn place(&self, record: &Record, window: Window, tally: &mut Tally) -> Result<u64, String> {
        let Operation::Write(write) = &record.operation else {
            tally.reads += 1;
            return self.read(&record.operation, &record.answer, window);
        };
        match &record.answer {
            Answer::Receipt { .. } | Answer::Version(_) | Answer::Deleted => {
                self.written(write, &record.answer, window, tally)
            }
            _ if self.own(write).is_some() => Err("it is recorded all the same".into()),
            Answer::Busy => Ok(window.low),
            Answer::Refused(_) | Answer::Conflict { .. } | Answer::AlreadyExists => {
                tally.refusals += 1;
                self.feasible(window, |at| self.refuses(write, &record.answer, at))
            }
            _ => Err("that is no answer".into()),
        }
    }

    fn written(
        &self,
        write: &Write,
        answer: &Answer,
        window: Window,
        tally: &mut Tally,
    ) -> Result<u64, String> {
        tally.writes += 1;
        if let Answer::Receipt { first, last, .. } = answer
            && first > last
        {
            self.exact(window, *last)?;
            return self
                .feasible(Window { low: *last, high: *last }, |at| self.changes_nothing(write, answer, at));
        }
        let Some(commit) = self.of_id(write) else {
            return match answer {
                Answer::Deleted => self.feasible(window, |at| self.changes_nothing(write, answer, at)),
                _ => Err("it is lost: the log does not have it".into()),
            };
        };
        if commit.last > window.high {
            return Err(format!("it is recorded at {}, behind what had been asked for", commit.first));
        }
        // Deletions that found nothing left nothing, so a repeated one finds nothing, too.
        let versions = judge(&self.timeline, commit.write, commit.first - 1).map(|outcome| outcome.versions);
        let versions = versions.map_err(|_| "its commit should have been refused")?;
        let right = match answer {
            Answer::Receipt { first, last, versions: told } => {
                (*first, *last, told) == (commit.first, commit.last, &versions)
            }
            Answer::Version(version) => versions.last() == Some(version),
            _ => write.verb == Verb::Delete,
        };
        tally.repeated += u64::from(commit.write.tag != write.tag);
        let Commit { first, last, attempt, .. } = commit;
        if right {
            Ok(*last)
        } else {
            Err(format!("{} is recorded at {first} to {last} with {versions:?}", attempt.client))
        }
    }

    /// Whether a write, judged at a position, changes nothing and says so.
    fn changes_nothing(&self, write: &Write, answer: &Answer, at: u64) -> bool {
        let judged = judge(&self.timeline, write, at);
        judged.is_ok_and(|outcome| {
            let told = match answer {
                Answer::Receipt { first, versions, .. } => *first == at + 1 && *versions == outcome.versions,
                _ => true,
            };
            outcome.changes.is_empty() && told && self.not_remembered(write, at)
        })
    }

    /// Whether a write, judged at a position, is refused with this answer.
    fn refuses(&self, write: &Write, answer: &Answer, at: u64) -> bool {
        let Err(failed) = judge(&self.timeline, write, at) else { return false };
        let right = match (write.verb, answer) {
            (Verb::Commit, Answer::Refused(told)) => *told == failed,
            (Verb::CompareAndSet | Verb::Transaction, Answer::Conflict { expected: told, found: seen }) => {
                matches!(&failed[0], Failed::Version { expected, found, .. } if (told, seen) == (expected, found))
            }
            (Verb::Create, Answer::AlreadyExists) => true,
            _ => false,
        };
        right && self.not_remembered(write, at)
    }

    /// A batch that is remembered at a position by its id is not judged anew there.
    fn not_remembered(&self, write: &Write, at: u64) -> bool {
        self.of_id(write).is_none_or(|commit| commit.last > at)
    }

    fn read(&self, operation: &Operation, answer: &Answer, window: Window) -> Result<u64, String> {
        let timeline = &self.timeline;
        match (operation, answer) {
            (Operation::Get(key), Answer::Entry(entry)) => {
                self.feasible(window, |at| timeline.entry(key, at) == *entry)
            }
            (Operation::Exists(key), Answer::Exists(exists)) => {
                self.feasible(window, |at| (timeline.version(key, at) > 0) == *exists)
            }
            (Operation::Version(key), Answer::Version(version)) => {
                self.feasible(window, |at| timeline.version(key, at) == *version)
            }
            (Operation::List(prefix), Answer::Keys(keys)) => self.feasible(window, |at| {
                let entries = timeline.entries(at, |key| key.starts_with(prefix));
                entries.iter().map(|entry| &entry.key).eq(keys)
            }),
            (Operation::GetMany(keys), Answer::Pages(pages, entries)) => {
                let right =
                    |at| keys.iter().filter_map(|key| timeline.entry(key, at)).eq(entries.iter().cloned());
                self.pages(pages, window, right)
            }
            (Operation::Scan(prefix, _), Answer::Pages(pages, entries)) => self
                .pages(pages, window, |at| timeline.entries(at, |key| key.starts_with(prefix)) == *entries),
            (Operation::Head | Operation::Watch(_), Answer::Position(at)) => self.exact(window, *at),
            _ => Err("that is no answer".into()),
        }
    }

    /// All pages are of one position, and what they have is its state.
    fn pages(&self, pages: &[u64], window: Window, right: impl Fn(u64) -> bool) -> Result<u64, String> {
        let at = *pages.first().ok_or("there is no page")?;
        if pages.iter().any(|page| *page != at) {
            return Err("its pages are of several states".into());
        }
        self.exact(window, at)?;
        if right(at) { Ok(at) } else { Err(format!("the state at {at} is another")) }
    }

    /// A position that the answer names.
    fn exact(&self, window: Window, at: u64) -> Result<u64, String> {
        if at < window.low {
            Err(format!("it is stale: it is of {at}"))
        } else if at > window.high {
            Err(format!("it is of {at}, which nobody had asked for"))
        } else if !self.timeline.is_state(at) {
            Err(format!("it is of half a commit, at {at}"))
        } else {
            Ok(at)
        }
    }

    /// The first position in a window at which something is true.
    fn feasible(&self, window: Window, holds: impl Fn(u64) -> bool) -> Result<u64, String> {
        let states = |from, to| (from..=to).filter(|at| self.timeline.is_state(*at)).find(|at| holds(*at));
        states(window.low, window.high).ok_or_else(|| match states(0, self.timeline.head()) {
            Some(at) if at < window.low => format!("it is stale: it was true at {at}"),
            Some(at) => format!("it was not true before {at}"),
            None => "it was never true".to_owned(),
        })
    }
}

/// The positions that an answer may be of.
#[derive(Clone, Copy)]
struct Window {
    low: u64,
    high: u64,
}

fn told(record: &Record, window: Window, why: &str) -> String {
    let Record { client, operation, answer, .. } = record;
    let Window { low, high } = window;
    let (operation, answer): (&dyn Debug, &dyn Debug) = (operation, answer);
    format!("{client} asked {operation:?} and got {answer:?}, between {low} and {high}: {why}")
}
