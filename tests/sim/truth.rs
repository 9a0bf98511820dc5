//! What a store really holds, and whether reads of a damaged copy say something else.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::super::feed::Before;
use super::super::read::{Scan, current, key_history, log};
use super::super::watch::page::{self, After, Wanted};
use crate::backend::sqlite::Sqlite;
use crate::backend::{Linked, Snapshot};
use crate::error::Result;
use crate::key::{KeyRange, RESERVED_PREFIX};
use crate::limits::Limits;
use crate::log::{Change, Commit, Cursor, Head};
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::state::Entry;

/// Keys that no store here has, near those that it has.
const ABSENT: [&str; 4] = ["/k/", "/k/0", "/k/zz", "/l"];

type State = BTreeMap<String, Entry>;

pub(super) struct Truth {
    /// What is left of the changes at or before the floor.
    base: Vec<Change>,
    floor: Seq,
    commits: Vec<Commit>,
    /// The end of each commit, and the state there; the beginning, too.
    states: Vec<(Head, State)>,
    keys: Vec<String>,
}

/// How a damaged copy answered.
#[derive(Default)]
pub(super) struct Answers {
    /// Answers that are not what the store holds.
    pub(super) wrong: Vec<String>,
    /// Entries that exist and were not found; a damaged index hides them.
    pub(super) hidden: usize,
    /// Keys in lists that do not exist; a damaged index makes them up.
    pub(super) invented: usize,
    /// Reads that failed with an error.
    pub(super) failed: usize,
}

/// Whether a change is of a key that reads show which name no reserved one.
fn shown(change: &Change) -> bool {
    !change.key.starts_with(RESERVED_PREFIX)
}

impl Truth {
    /// Of an intact store.
    pub(super) fn of(sqlite: &Sqlite) -> Self {
        let floor = sqlite.with_snapshot(|s| s?.floor()).unwrap().head;
        let commits =
            sqlite.with_snapshot(|s| s.and_then(|s| log::changes(s, floor.seq, usize::MAX))).unwrap();
        let mut base = Vec::new();
        let mut take = |linked: Linked| {
            base.push(linked.change);
            Ok(ControlFlow::Continue(()))
        };
        sqlite.with_snapshot(|s| s?.linked(Seq::ZERO, floor.seq, &mut take)).unwrap();
        let mut state = State::new();
        for change in &base {
            state.remove(change.key.as_ref());
            state.extend(
                shown(change).then(|| Entry::from_change(change)).flatten().map(|e| (e.key.clone(), e)),
            );
        }
        let mut states = vec![(floor, state)];
        for commit in &commits {
            let mut state = states.last().unwrap().1.clone();
            for change in &commit.changes {
                state.remove(change.key.as_ref());
                state.extend(
                    shown(change).then(|| Entry::from_change(change)).flatten().map(|e| (e.key.clone(), e)),
                );
            }
            let last = commit.changes.last().unwrap();
            states.push((last.head(), state));
        }
        let mut keys: Vec<String> = ABSENT.iter().map(ToString::to_string).collect();
        let all = base.iter().chain(commits.iter().flat_map(|commit| &commit.changes));
        keys.extend(all.filter(|change| shown(change)).map(|change| change.key.as_ref().to_owned()));
        keys.sort();
        keys.dedup();
        Self { base, floor: floor.seq, commits, states, keys }
    }

    fn head(&self) -> Head {
        self.states.last().unwrap().0
    }

    fn now(&self) -> &State {
        &self.states.last().unwrap().1
    }

    /// Reads everything in every way.
    pub(super) fn ask(&self, sqlite: &Sqlite) -> Answers {
        let mut answers = Answers::default();
        sqlite.with_snapshot(|snapshot| match snapshot {
            Err(_) => answers.failed += 1,
            Ok(snapshot) => {
                self.ask_for_keys(snapshot, &mut answers);
                self.ask_for_many(snapshot, &mut answers);
                self.ask_for_the_log(snapshot, &mut answers);
            }
        });
        answers
    }

    fn ask_for_keys(&self, snapshot: &dyn Snapshot, answers: &mut Answers) {
        for key in &self.keys {
            let entry = self.now().get(key);
            if let Some(found) = answers.ok(snapshot.entry(key)) {
                answers.found(&format!("get {key}"), found.as_ref(), entry);
            }
            if let Some(found) = answers.ok(snapshot.exists(key)) {
                answers.found(&format!("exists {key}"), found.then_some(()), entry.map(|_| ()));
            }
            if let Some(found) = answers.ok(snapshot.key_version(key)) {
                let found =
                    found.map(|key_version| key_version.live_version()).filter(|version| *version > 0);
                answers.found(&format!("version {key}"), found, entry.map(|entry| entry.version));
            }
            let mut history: Vec<&Change> = self.log().filter(|change| change.key.as_ref() == key).collect();
            history.reverse();
            let ninth = Seq::new(9).max(self.floor.next());
            for (before, limit) in [(None, 100), (Some(ninth), 2)] {
                let due: Vec<&Change> = history
                    .iter()
                    .filter(|change| before.is_none_or(|before| change.seq < before))
                    .take(limit)
                    .copied()
                    .collect();
                let Some(found) = answers.ok(key_history::history(snapshot, key, before, limit)) else {
                    continue;
                };
                // Where a row of the base is gone, a history ends early. Verification finds that by the digest.
                let in_base = found.last().is_some_and(|last| last.seq <= self.floor);
                let is_short =
                    found.iter().eq(due.iter().copied().take(found.len())) && found.len() < due.len();
                if found.is_empty() && !due.is_empty() || in_base && is_short {
                    answers.hidden += 1;
                } else if !found.iter().eq(due) {
                    answers.wrong.push(format!("history {key}: {found:?}"));
                }
            }
        }
    }

    fn ask_for_many(&self, snapshot: &dyn Snapshot, answers: &mut Answers) {
        if let Some(page) = answers.ok(current::get_many(snapshot, &self.keys)) {
            answers.entries("get_many", &page.entries, self.now());
            answers.place("get_many", page.cursor, self.head());
        }
        for prefix in ["", "/k/b"] {
            if let Some(keys) = answers.ok(current::list(snapshot, prefix)) {
                let range = KeyRange::prefix(prefix);
                let due = |key: &&String| key.starts_with(prefix) && range.shows(key);
                let due: Vec<&String> = self.now().keys().filter(due).collect();
                answers.invented += keys.iter().filter(|key| !due.contains(key)).count();
                answers.hidden += due.iter().filter(|key| !keys.contains(key)).count();
                if !keys.is_sorted_by(|a, b| a < b) {
                    answers.wrong.push(format!("list is not in order: {keys:?}"));
                }
            }
        }
        for (head, state) in self.states.iter().step_by(4) {
            let scan = Scan { as_of: Some(Cursor::new(snapshot.store_id(), *head)), ..Scan::prefix("") };
            self.scan(snapshot, scan, *head, state, answers);
        }
        self.scan(snapshot, Scan::prefix("").limit(2), self.head(), self.now(), answers);
    }

    fn scan(&self, snapshot: &dyn Snapshot, scan: Scan, head: Head, state: &State, answers: &mut Answers) {
        let (mut entries, mut next) = (Vec::new(), Some(scan));
        while let Some(scan) = next {
            let Some(page) = answers.ok(current::scan(snapshot, &Limits::default(), &scan)) else { return };
            entries.extend(page.entries);
            answers.place("scan", page.cursor, head);
            if entries.len() > self.keys.len() {
                answers.wrong.push("a scan does not end".into());
                return;
            }
            next = page.next;
        }
        answers.entries(&format!("scan as of {head}"), &entries, state);
    }

    fn ask_for_the_log(&self, snapshot: &dyn Snapshot, answers: &mut Answers) {
        if let Some(tip) = answers.ok(snapshot.tip()) {
            answers.equal("head", &tip.head, &self.head());
        }
        for (after, (head, _)) in self.states.iter().enumerate().step_by(7) {
            let due = &self.commits[after..];
            if let Some(commits) = answers.ok(log::changes(snapshot, head.seq, 1000)) {
                answers.equal(&format!("changes after {}", head.seq), &&commits[..], &due);
            }
            if let Some(commits) = answers.ok(log::changes(snapshot, head.seq, 1)) {
                answers.equal("one change", &&commits[..], &&due[..due.len().min(1)]);
            }
            // A position inside the next commit counts as the end of this one.
            if let Some(commit) = due.first().filter(|commit| commit.changes.len() > 1)
                && let Some(commits) = answers.ok(log::changes(snapshot, commit.first, 1000))
            {
                answers.equal("changes after half a commit", &&commits[..], &due);
            }
            let cursor = Cursor::new(snapshot.store_id(), *head);
            let pattern: Pattern = "/**".parse().unwrap();
            let after = After::Named(cursor);
            let wanted = Wanted { after, bytes: usize::MAX, whole: true };
            let Some(page) = answers.ok(page::watch(snapshot, &pattern, wanted)) else { continue };
            answers.equal("the end of a watch", &page.end, &self.head());
            let events: Vec<Change> =
                page.commits.into_iter().flat_map(|(matching, _)| matching).map(|m| m.change).collect();
            let due: Vec<Change> =
                due.iter().flat_map(|commit| commit.changes.clone()).filter(shown).collect();
            answers.equal("a watch", &events, &due);
            let mut rest = &events[..];
            while !rest.is_empty()
                && let Some(old) = answers.ok(page::old_changes(snapshot, rest, usize::MAX))
            {
                for (change, old) in rest.iter().zip(&old) {
                    let due = self.change(change.prev).map(Before::change);
                    answers.equal("the change before", old, &due);
                }
                rest = &rest[old.len()..];
            }
        }
    }

    fn change(&self, seq: Seq) -> Option<&Change> {
        self.log().find(|change| change.seq == seq)
    }

    /// All changes that there are.
    fn log(&self) -> impl Iterator<Item = &Change> {
        self.base.iter().chain(self.commits.iter().flat_map(|commit| &commit.changes))
    }
}

impl Answers {
    fn ok<T>(&mut self, read: Result<T>) -> Option<T> {
        self.failed += usize::from(read.is_err());
        read.ok()
    }

    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: &T, due: &T) {
        if found != due {
            self.wrong.push(format!("{what}: {found:?}, not {due:?}"));
        }
    }

    /// What was found for a key, and what it has.
    fn found<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: Option<T>, due: Option<T>) {
        match (found, due) {
            (None, Some(_)) => self.hidden += 1,
            (found, due) => self.equal(what, &found, &due),
        }
    }

    fn entries(&mut self, what: &str, found: &[Entry], state: &State) {
        let wrong = found.iter().any(|entry| state.get(&entry.key) != Some(entry));
        if wrong || !found.is_sorted_by(|a, b| a.key < b.key) {
            self.wrong.push(format!("{what}: {found:?}"));
        }
        self.hidden += state.len().saturating_sub(found.len());
    }

    fn place(&mut self, what: &str, found: Cursor, due: Head) {
        self.equal(what, &found.head(), &Some(due));
    }
}
