//! A client: one operation after the other, chosen at random, each noted before and after.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use univrs_state::StateStore;

use super::journal::{Journal, Line};
use super::operation::{Answer, Condition, Failed, Operation, Verb, Write};
use super::perform::perform;
use crate::streams::stage::Stage;
use crate::support::{Seeded, monotonic};

/// Few, so that everybody meets.
const KEYS: [&str; 9] = ["/a/1", "/a/2", "/a/3", "/a", "/b/1", "/b/x/1", "/b/x/2", "/c/2", "/d"];
const PREFIXES: [&str; 6] = ["", "/", "/a", "/a/", "/b/x/", "/none"];

/// What a client has seen, from which it chooses what to ask next.
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) random: Seeded,
    pub(crate) journal: Journal,
    versions: HashMap<String, u64>,
    position: u64,
    asked: u64,
}

impl Client {
    pub(crate) fn new(name: String, seed: u64, journal: Journal) -> Self {
        let (versions, random) = (HashMap::new(), Seeded::from(seed));
        Self { name, random, journal, versions, position: 0, asked: 0 }
    }

    /// So many operations on a store; some are given up, and some of those tried again.
    pub(crate) async fn run(&mut self, stage: &Stage, operations: u64) {
        for _ in 0..operations {
            let (store, operation) = (stage.current(), self.plan());
            let answer = match self.random.below(12) {
                0 => self.give_up(&store, &operation).await,
                _ => self.act(&store, operation.clone()).await,
            };
            if answer == Answer::Closed {
                stage.next(&store).await;
            }
            if let (Operation::Write(write), Answer::Closed | Answer::Unknown) = (&operation, answer)
                && let Some(again) = self.again(write)
            {
                self.act(&stage.current(), again).await;
            }
        }
    }

    /// More changes than a watch reads at once, or more bytes, in a few commits; of few keys, so that
    /// scans stay short.
    pub(crate) async fn write_bulk(&mut self, store: &Arc<dyn StateStore>, filling: usize) {
        let filling = "x".repeat(if self.random.below(4) == 0 { filling } else { 4 });
        for _ in 0..3 {
            let mut write = self.write(Verb::Commit, &[]);
            for n in 0..200 + self.random.below(400) {
                let key = match n % 4 {
                    0 => self.key(),
                    1 => format!("/a/{}", n % 7),
                    2 => format!("/b/{}/1", n % 7),
                    _ => format!("/c/{}", n % 7),
                };
                let value = (self.random.below(4) > 0).then(|| format!("{}/{n}/{filling}", write.tag));
                write.writes.push((key, value));
            }
            self.act(store, Operation::Write(write)).await;
        }
    }

    /// Asks and waits for the answer.
    pub(crate) async fn act(&mut self, store: &Arc<dyn StateStore>, operation: Operation) -> Answer {
        self.ask(&operation);
        let invoked = monotonic::now();
        let answer = perform(store, &operation).await;
        self.hear(&operation, invoked, monotonic::now(), answer)
    }

    /// Asks, and drops the future soon, unless it is ready by then.
    async fn give_up(&mut self, store: &Arc<dyn StateStore>, operation: &Operation) -> Answer {
        self.ask(operation);
        let invoked = monotonic::now();
        let mut polls = self.random.below(3);
        let mut future = Box::pin(perform(store, operation));
        let answer = poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if polls == 0 => Poll::Ready(None),
            Poll::Pending => {
                polls -= 1;
                context.waker().wake_by_ref();
                Poll::Pending
            }
        });
        match answer.await {
            Some(answer) => self.hear(operation, invoked, monotonic::now(), answer),
            None => Answer::Unknown,
        }
    }

    pub(crate) fn ask(&mut self, operation: &Operation) {
        let (client, operation) = (self.name.clone(), operation.clone());
        self.journal.note(Line::Asked { client, at: monotonic::now(), operation });
    }

    pub(crate) fn hear(
        &mut self,
        operation: &Operation,
        invoked: u64,
        completed: u64,
        answer: Answer,
    ) -> Answer {
        let (client, told) = (self.name.clone(), answer.clone());
        self.journal.note(Line::Answered { client, invoked, completed, answer: told });
        self.learn(operation, &answer);
        answer
    }

    fn learn(&mut self, operation: &Operation, answer: &Answer) {
        match (operation, answer) {
            (Operation::Write(write), Answer::Receipt { last, versions, .. }) => {
                self.position = *last;
                let keys = write.writes.iter().map(|(key, _)| key.clone());
                self.versions.extend(keys.zip(versions.iter().copied()));
            }
            (Operation::Write(write), Answer::Version(version)) => {
                self.versions.insert(write.writes[0].0.clone(), *version);
            }
            (Operation::Write(_), Answer::Refused(failed)) => {
                for failed in failed {
                    match failed {
                        Failed::Version { key, found, .. } => drop(self.versions.insert(key.clone(), *found)),
                        Failed::Changed { found, .. } => self.position = *found,
                    }
                }
            }
            (Operation::Write(write), Answer::Conflict { found, .. })
                if write.verb == Verb::CompareAndSet =>
            {
                self.versions.insert(write.writes[0].0.clone(), *found);
            }
            (Operation::Get(key), Answer::Entry(entry)) => {
                self.versions.insert(key.clone(), entry.as_ref().map_or(0, |entry| entry.version));
            }
            (Operation::Version(key), Answer::Version(version)) => {
                self.versions.insert(key.clone(), *version);
            }
            (_, Answer::Pages(pages, entries)) => {
                self.position = pages.first().copied().unwrap_or(self.position);
                self.versions.extend(entries.iter().map(|entry| (entry.key.clone(), entry.version)));
            }
            (_, Answer::Position(at)) => self.position = *at,
            _ => {}
        }
    }

    /// What to ask next.
    pub(crate) fn plan(&mut self) -> Operation {
        if self.random.below(2) == 0 { self.plan_write() } else { self.plan_read() }
    }

    pub(crate) fn plan_read(&mut self) -> Operation {
        match self.random.below(16) {
            0..=4 => Operation::Get(self.key()),
            5..=6 => Operation::Version(self.key()),
            7 => Operation::Exists(self.key()),
            8..=9 => Operation::List(self.prefix()),
            10..=11 => Operation::GetMany((0..=self.random.below(5)).map(|_| self.key()).collect()),
            12..=14 => Operation::Scan(self.prefix(), usize::try_from(1 + self.random.below(4)).unwrap()),
            _ => Operation::Head,
        }
    }

    /// A read of what was written, mostly.
    pub(crate) fn plan_read_of(&mut self, operation: &Operation) -> Operation {
        let Operation::Write(write) = operation else { return self.plan_read() };
        let place = self.random.below(write.writes.len() as u64);
        let key = write.writes[usize::try_from(place).unwrap()].0.clone();
        match self.random.below(8) {
            0 | 1 => Operation::Get(key),
            2 => Operation::Version(key),
            3 => Operation::Exists(key),
            4 => Operation::GetMany(write.writes.iter().map(|(key, _)| key.clone()).collect()),
            _ => self.plan_read(),
        }
    }

    pub(crate) fn plan_write(&mut self) -> Operation {
        let key = self.key();
        let mut write = match self.random.below(12) {
            0..=2 => self.write(Verb::Set, &[(&key, true)]),
            3 => self.write(Verb::Delete, &[(&key, false)]),
            4..=5 => self.write(Verb::Create, &[(&key, true)]),
            6..=7 => self.write(Verb::CompareAndSet, &[(&key, true)]),
            8 => self.batch(Verb::Transaction),
            _ => self.batch(Verb::Commit),
        };
        match write.verb {
            Verb::CompareAndSet => write.conditions.push(self.expect(key)),
            Verb::Create => write.conditions.push(Condition::Version { key, expected: 0 }),
            _ => {}
        }
        Operation::Write(write)
    }

    /// The same batch once more, or none if it has no id that makes this safe, or at random.
    pub(crate) fn again(&mut self, write: &Write) -> Option<Operation> {
        let again = write.commit_id.is_some() && self.random.below(3) > 0;
        again.then(|| Operation::Write(Write { tag: self.tag(), ..write.clone() }))
    }

    fn batch(&mut self, verb: Verb) -> Write {
        let writes: Vec<(String, bool)> =
            (0..=self.random.below(4)).map(|_| (self.key(), self.random.below(3) > 0)).collect();
        let writes: Vec<(&str, bool)> = writes.iter().map(|(key, sets)| (key.as_str(), *sets)).collect();
        let mut write = self.write(verb, &writes);
        if self.random.below(2) == 0 {
            let key = self.key();
            write.conditions.push(self.expect(key));
        }
        if verb == Verb::Commit {
            if self.random.below(4) == 0 {
                write.conditions.push(Condition::Unchanged { prefix: self.prefix(), since: self.position });
            }
            if self.random.below(3) > 0 {
                write.commit_id = Some(format!("{} is one", write.tag));
            }
        }
        write
    }

    fn write(&mut self, verb: Verb, writes: &[(&str, bool)]) -> Write {
        let tag = self.tag();
        // No two writes have the same value, so that each read tells which one it saw.
        let value = |(n, (key, sets)): (usize, &(&str, bool))| {
            ((*key).to_owned(), sets.then(|| format!("{tag}/{n}")))
        };
        let writes = writes.iter().enumerate().map(value).collect();
        Write { verb, writes, conditions: Vec::new(), commit_id: None, tag }
    }

    /// The version that the client has seen last, and now and then another.
    fn expect(&mut self, key: String) -> Condition {
        let seen = self.versions.get(&key).copied().unwrap_or(0);
        let expected = if self.random.below(6) == 0 { self.random.below(seen + 2) } else { seen };
        Condition::Version { key, expected }
    }

    fn tag(&mut self) -> String {
        self.asked += 1;
        format!("{} {}", self.name, self.asked)
    }

    fn key(&self) -> String {
        KEYS[usize::try_from(self.random.below(KEYS.len() as u64)).unwrap()].to_owned()
    }

    fn prefix(&self) -> String {
        PREFIXES[usize::try_from(self.random.below(PREFIXES.len() as u64)).unwrap()].to_owned()
    }
}
