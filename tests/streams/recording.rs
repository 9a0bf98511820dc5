//! A watch, read to its end and noted: slowly or not, dropped and resumed, over restarts of its store.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use univrs_state::{Commits, Cursor, Entry, Scan, Seq, StateError, StateStore, WatchEvent, WatchStream};

use super::matching::matches;
use crate::histories::journal::{Journal, Line};
use crate::histories::operation::{Answer, Operation};
use crate::support::{Seeded, monotonic};

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
/// Whoever waits for so long when everything is written waits in vain.
const PATIENCE: Duration = Duration::from_secs(30);

/// More events than any commit here has, after which the cursor has moved.
const MOST_STILL: usize = 3_000;

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

/// The store that is open now, whether everything is written, and how many streams have begun.
#[derive(Clone)]
pub(crate) struct Stage {
    store: watch::Sender<Arc<dyn StateStore>>,
    written: watch::Sender<bool>,
    begun: Arc<Semaphore>,
}

impl Stage {
    pub(crate) fn new(store: Arc<dyn StateStore>) -> Self {
        let (store, written) = (watch::Sender::new(store), watch::Sender::new(false));
        Self { store, written, begun: Arc::new(Semaphore::new(0)) }
    }

    pub(crate) fn current(&self) -> Arc<dyn StateStore> {
        self.store.borrow().clone()
    }

    /// Waits until another store than this one is open.
    pub(crate) async fn next(&self, store: &Arc<dyn StateStore>) {
        let mut stores = self.store.subscribe();
        let next = stores.wait_for(|other| !Arc::ptr_eq(store, other));
        drop(tokio::time::timeout(PATIENCE, next).await.expect("a store that was closed is opened again"));
    }

    /// Goes on with another store; the one before is closed.
    pub(crate) fn reopened(&self, store: Arc<dyn StateStore>) {
        self.store.send_replace(store);
    }

    /// Waits until so many streams have begun.
    pub(crate) async fn begun(&self, streams: usize) {
        let begun = self.begun.acquire_many(u32::try_from(streams).unwrap()).await;
        begun.unwrap().forget();
    }

    /// Everything is written but for the end, for which a stream that has not begun waits in vain.
    pub(crate) fn written(&self) {
        self.written.send_replace(true);
    }
}

enum Flow {
    Events(WatchStream),
    Commits(Commits),
}

impl Flow {
    /// What comes next, and where to resume then.
    async fn next(&mut self) -> Result<Vec<WatchEvent>, StateError> {
        let events = match self {
            Self::Events(stream) => stream.try_next().await?.map(|event| vec![event]),
            Self::Commits(stream) => stream.try_next().await?,
        };
        events.ok_or_else(|| StateError::Storage("it ended without a cause".into()))
    }

    fn cursor(&self) -> Cursor {
        match self {
            Self::Events(stream) => stream.cursor(),
            Self::Commits(stream) => stream.cursor(),
        }
    }
}

/// Reads a stream to its end, and notes what it shows.
pub(crate) async fn follow(stage: Stage, plan: Plan, journal: Journal) -> Result<(), String> {
    let (random, bookmarks) = (Seeded::from(plan.seed), Vec::new());
    let mut reader = Reader { plan, journal, random, bookmarks, still: 0 };
    let mut begun = false;
    loop {
        let store = stage.current();
        let read = match reader.begin(&store).await {
            Ok(stream) => {
                if !begun {
                    begun = true;
                    stage.begun.add_permits(1);
                    if reader.plan.last {
                        stage.written.subscribe().wait_for(|written| *written).await.unwrap();
                    }
                }
                reader.read(stream, &stage).await
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(StateError::Closed) => stage.next(&store).await,
            Err(error) => return Err(reader.ended(&error)),
        }
    }
}

struct Reader {
    plan: Plan,
    journal: Journal,
    random: Seeded,
    /// Where the stream said that it may be resumed.
    bookmarks: Vec<Cursor>,
    /// Events since that has changed.
    still: usize,
}

impl Reader {
    fn note(&self, seen: Seen) {
        self.journal.note(Line::Seen { stream: self.plan.name.clone(), at: monotonic::now(), seen });
    }

    fn ended(&self, error: &StateError) -> String {
        let Plan { name, pattern, .. } = &self.plan;
        format!("the stream {name} of {pattern} ended behind {:?}: {error}", self.bookmarks.last())
    }

    /// Reads for a while; true at the end.
    async fn read(&mut self, stream: WatchStream, stage: &Stage) -> Result<bool, StateError> {
        let mut flow = if self.plan.commits { Flow::Commits(stream.commits()) } else { Flow::Events(stream) };
        let mut left = if self.random.below(3) == 0 { self.random.below(40) } else { u64::MAX };
        let mut burst = self.plan.burst;
        let last = end_keys().into_iter().rfind(|key| matches(&self.plan.pattern, key));
        while left > 0 {
            let events = match tokio::time::timeout(PATIENCE, flow.next()).await {
                Ok(events) => events?,
                Err(_) if !*stage.written.borrow() => continue,
                Err(_) => return Err(StateError::Storage("it waited in vain".into())),
            };
            left = left.saturating_sub(1);
            let cursor = flow.cursor();
            self.still = if Some(&cursor) == self.bookmarks.last() { self.still + events.len() } else { 0 };
            if self.still > MOST_STILL {
                return Err(StateError::Storage("its cursor does not move".into()));
            }
            let ends = events.last().is_some_and(|event| {
                event.new_value.as_deref() == Some(END.as_bytes()) && Some(event.key.as_str()) == last
            });
            for event in events {
                self.note(Seen::Event(event));
            }
            self.note(Seen::Cursor(cursor));
            self.bookmarks.push(cursor);
            if ends {
                return Ok(true);
            }
            burst = burst.saturating_sub(1);
            if burst == 0 {
                burst = self.plan.burst;
                tokio::time::sleep(Duration::from_micros(self.random.below(2_000))).await;
            }
        }
        Ok(false)
    }

    /// The stream from where it was, or from an earlier bookmark, which was printed.
    async fn begin(&mut self, store: &Arc<dyn StateStore>) -> Result<WatchStream, StateError> {
        let pattern = self.plan.pattern.clone();
        let after = match (self.bookmarks.len(), &self.plan.start) {
            (0, Start::After(cursor)) => *cursor,
            (0, Start::Beginning) => Seq::ZERO.into(),
            (0, Start::Snapshot) => {
                let (entries, cursor) = self.snapshot(store).await?;
                self.note(Seen::Snapshot(entries, cursor));
                self.bookmarks.push(cursor);
                return store.watch_after(&pattern, cursor);
            }
            (0, Start::Now) => {
                let stream = self.begin_now(store)?;
                self.bookmarks.push(stream.cursor());
                return Ok(stream);
            }
            (marks, _) => {
                let back = if self.random.below(3) == 0 { self.random.below(4.min(marks as u64)) } else { 0 };
                self.bookmarks[marks - 1 - usize::try_from(back).unwrap()]
            }
        };
        let after = after.to_string().parse()?;
        let stream = store.watch_after(&pattern, after)?;
        self.note(Seen::From(after));
        Ok(stream)
    }

    /// That a watch from now on begins behind everything that was acknowledged is for histories to check.
    fn begin_now(&self, store: &Arc<dyn StateStore>) -> Result<WatchStream, StateError> {
        let (client, operation) = (self.plan.name.clone(), Operation::Watch(self.plan.pattern.clone()));
        self.journal.note(Line::Asked { client: client.clone(), at: monotonic::now(), operation });
        let invoked = monotonic::now();
        let stream = store.watch(&self.plan.pattern);
        let completed = monotonic::now();
        let answer = match &stream {
            Ok(stream) => Answer::Position(stream.cursor().seq().as_u64()),
            Err(_) => Answer::Unknown,
        };
        self.journal.note(Line::Answered { client, invoked, completed, answer });
        let stream = stream?;
        self.note(Seen::From(stream.cursor()));
        Ok(stream)
    }

    async fn snapshot(&self, store: &Arc<dyn StateStore>) -> Result<(Vec<Entry>, Cursor), StateError> {
        let mut page = store.scan(Scan::prefix("/").limit(3)).await?;
        let cursor = page.cursor;
        let mut entries = page.entries;
        while let Some(next) = page.next {
            page = store.scan(next).await?;
            entries.append(&mut page.entries);
        }
        entries.retain(|entry| matches(&self.plan.pattern, &entry.key));
        Ok((entries, cursor))
    }
}
