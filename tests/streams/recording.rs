//! A watch, read to its end and noted: slowly or not, dropped and resumed, over restarts of its store.

use std::sync::Arc;
use std::time::Duration;

use univrs_state::watch::{Commits, SnapshotEvent, SnapshotWatch};
use univrs_state::{Cursor, Entry, Scan, Seq, StateError, StateStore, WatchEvent, WatchStream};

use super::matching::matches;
use super::plan::{END, Plan, Seen, Start, end_keys};
use super::stage::{IN_VAIN, Stage};
use crate::histories::journal::{Journal, Line};
use crate::histories::operation::{Answer, Operation};
use crate::support::{Seeded, monotonic};

/// More events than any commit here has, after which the cursor has moved.
const MOST_STILL: usize = 3_000;

enum Flow {
    Events(WatchStream),
    Commits(Commits),
    /// Behind its snapshot.
    Snapshot(SnapshotWatch),
}

impl Flow {
    /// What comes next, and where to resume then.
    async fn next(&mut self) -> Result<Vec<WatchEvent>, StateError> {
        let events = match self {
            Self::Events(stream) => stream.try_next().await?.map(|event| vec![event]),
            Self::Commits(stream) => stream.try_next().await?,
            Self::Snapshot(stream) => match stream.try_next().await? {
                Some(SnapshotEvent::Change(event)) => Some(vec![event]),
                Some(_) => return Err(StateError::Storage("its snapshot went on behind its end".into())),
                None => None,
            },
        };
        events.ok_or_else(|| StateError::Storage("it ended without a cause".into()))
    }

    fn cursor(&self) -> Cursor {
        match self {
            Self::Events(stream) => stream.cursor(),
            Self::Commits(stream) => stream.cursor(),
            Self::Snapshot(stream) => stream.cursor().expect("its snapshot is complete"),
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
            Ok(flow) => {
                if !begun {
                    begun = true;
                    stage.begun.add_permits(1);
                    if reader.plan.last {
                        stage.written.subscribe().wait_for(|written| *written).await.unwrap();
                    }
                }
                reader.read(flow, &stage).await
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
    async fn read(&mut self, mut flow: Flow, stage: &Stage) -> Result<bool, StateError> {
        let mut left = if self.random.below(3) == 0 { self.random.below(40) } else { u64::MAX };
        let mut burst = self.plan.burst;
        let last = end_keys().into_iter().rfind(|key| matches(&self.plan.pattern, key));
        while left > 0 {
            let events = match tokio::time::timeout(IN_VAIN, flow.next()).await {
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
                self.pause().await;
            }
        }
        Ok(false)
    }

    /// The stream from where it was, or from an earlier bookmark, which was printed.
    async fn begin(&mut self, store: &Arc<dyn StateStore>) -> Result<Flow, StateError> {
        let pattern = self.plan.pattern.clone();
        let after = match (self.bookmarks.len(), &self.plan.start) {
            (0, Start::After(cursor)) => *cursor,
            (0, Start::Beginning) => Seq::ZERO.into(),
            (0, Start::Snapshot) if self.random.below(3) > 0 => return self.begin_with_snapshot(store).await,
            (0, Start::Snapshot) => {
                let (entries, cursor) = self.scan(store).await?;
                self.note(Seen::Snapshot(entries, cursor));
                self.bookmarks.push(cursor);
                return store.watch_after(&pattern, cursor).map(|stream| self.flow(stream));
            }
            (0, Start::Now) => {
                let stream = self.begin_now(store)?;
                self.bookmarks.push(stream.cursor());
                return Ok(self.flow(stream));
            }
            (marks, _) => {
                let back = if self.random.below(3) == 0 { self.random.below(4.min(marks as u64)) } else { 0 };
                self.bookmarks[marks - 1 - usize::try_from(back).unwrap()]
            }
        };
        let after = after.to_string().parse()?;
        let stream = store.watch_after(&pattern, after)?;
        self.note(Seen::From(after));
        Ok(self.flow(stream))
    }

    fn flow(&self, stream: WatchStream) -> Flow {
        if self.plan.commits { Flow::Commits(stream.commits()) } else { Flow::Events(stream) }
    }

    async fn begin_with_snapshot(&mut self, store: &Arc<dyn StateStore>) -> Result<Flow, StateError> {
        let mut stream = store.watch_with_snapshot(&self.plan.pattern)?;
        let mut entries = Vec::new();
        loop {
            match stream.try_next().await? {
                Some(SnapshotEvent::Entry(entry)) => entries.push(entry),
                Some(SnapshotEvent::End(cursor)) => {
                    self.note(Seen::Snapshot(entries, cursor));
                    self.bookmarks.push(cursor);
                    return Ok(Flow::Snapshot(stream));
                }
                other => {
                    let what = format!("{other:?} came before the end of the snapshot");
                    return Err(StateError::Storage(what.into()));
                }
            }
            if self.plan.burst == 1 {
                self.pause().await;
            }
        }
    }

    async fn pause(&self) {
        tokio::time::sleep(Duration::from_micros(self.random.below(2_000))).await;
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

    /// The state by pages, for a watch that goes on behind it.
    async fn scan(&self, store: &Arc<dyn StateStore>) -> Result<(Vec<Entry>, Cursor), StateError> {
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
