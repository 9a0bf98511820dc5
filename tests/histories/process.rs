//! Clients and watches in a process of their own, which may die at any time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use univrs_state::{Options, SqliteStore, StateStore};

use super::client::Client;
use super::journal::{Journal, Line};
use super::operation::{Answer, Operation};
use super::perform::perform;
use crate::streams::plan::{Plan, Seen, Start};
use crate::streams::recording::follow;
use crate::streams::stage::Stage;
use crate::support::child::{Child, Heard, say};
use crate::support::monotonic;

/// What a process does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) path: String,
    /// What each client tries first, then its name, its seed, and how many operations it asks for.
    pub(crate) clients: Vec<(Option<Operation>, String, u64, u64)>,
    pub(crate) streams: Vec<Plan>,
}

pub(crate) fn options() -> Options {
    Options::new().busy_timeout(Duration::from_secs(60))
}

/// In the child: does what it is asked, and notes it.
pub(crate) async fn serve(spec: &str) -> Result<(), String> {
    let spec: Spec = serde_json::from_str(spec).unwrap();
    let store: Arc<dyn StateStore> =
        Arc::new(options().open(&spec.path).await.map_err(|error| error.to_string())?);
    let (stage, count) = (Stage::new(store.clone()), spec.streams.len());
    let streams: Vec<_> = spec
        .streams
        .into_iter()
        .map(|plan| tokio::spawn(follow(stage.clone(), plan, Journal::Told)))
        .collect();
    let clients: Vec<_> = spec
        .clients
        .into_iter()
        .map(|(first, name, seed, operations)| {
            let (stage, mut client) = (stage.clone(), Client::new(name, seed, Journal::Told));
            tokio::spawn(async move {
                if let Some(first) = first {
                    client.act(&stage.current(), first).await;
                }
                client.run(&stage, operations).await;
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    stage.begun(count).await;
    stage.written();
    say("@ok done");
    for stream in streams {
        stream.await.unwrap()?;
    }
    Ok(())
}

/// In the child: one operation; when it was invoked and completed, and the answer.
pub(crate) async fn serve_one(store: SqliteStore, operation: &str) -> String {
    let store: Arc<dyn StateStore> = Arc::new(store);
    let operation = serde_json::from_str(operation).unwrap();
    let invoked = monotonic::now();
    let answer = perform(&store, &operation).await;
    serde_json::to_string(&(invoked, monotonic::now(), answer)).unwrap()
}

/// A process at work, as its parent sees it.
pub(crate) struct Process {
    child: Heard,
    pub(crate) lines: Vec<Line>,
}

impl Process {
    pub(crate) fn start(spec: &Spec) -> Self {
        let mut child = Child::start();
        child.tell(&format!("serve\t{}", serde_json::to_string(spec).unwrap()));
        Self { child: child.heard(), lines: Vec::new() }
    }

    /// Hears lines until it says this word; false if so many lines came first.
    pub(crate) fn hear(&mut self, word: &str, most: u64) -> Result<bool, String> {
        for _ in 0..most {
            let answer = self.child.answers.recv().map_err(|_| "a process died by itself")??;
            if answer == word {
                return Ok(true);
            }
            self.lines.push(serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?);
        }
        Ok(false)
    }

    /// SIGKILL; what it had noted by then.
    pub(crate) fn kill(self) -> Result<Vec<Line>, String> {
        let mut lines = self.lines;
        for answer in self.child.kill_and_hear() {
            let answer = answer?;
            if answer != "done" && !answer.is_empty() {
                lines.push(serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?);
            }
        }
        Ok(lines)
    }
}

/// The plans that take up streams which died, from where they were last known to be.
pub(crate) fn resumed(plans: &[Plan], lines: &[Line]) -> Vec<Plan> {
    let mut places = HashMap::new();
    for line in lines {
        if let Line::Seen { stream, seen, .. } = line {
            match seen {
                Seen::From(cursor) | Seen::Snapshot(_, cursor) | Seen::Cursor(cursor) => {
                    places.insert(stream.as_str(), *cursor);
                }
                Seen::Event(_) => {}
            }
        }
    }
    let resume = |plan: &Plan| {
        let start = places.get(plan.name.as_str()).map_or(plan.start.clone(), |cursor| Start::After(*cursor));
        Plan { start, ..plan.clone() }
    };
    plans.iter().map(resume).collect()
}

/// A process that does one operation at a time, so that what it was told of is known before
/// another process is asked.
pub(crate) struct Servant(Child);

impl Servant {
    pub(crate) fn start(path: &Path) -> Result<Self, String> {
        let mut child = Child::start();
        child.ask(&format!("open\t{}", path.display()))?;
        Ok(Self(child))
    }

    /// When it was invoked and completed, and the answer.
    pub(crate) fn act(&mut self, operation: &Operation) -> Result<(u64, u64, Answer), String> {
        self.tell(operation);
        self.answer().ok_or("a process died by itself")?
    }

    fn tell(&mut self, operation: &Operation) {
        self.0.tell(&format!("perform\t{}", serde_json::to_string(operation).unwrap()));
    }

    fn answer(&mut self) -> Option<Result<(u64, u64, Answer), String>> {
        let answer = self.0.answer()?;
        Some(answer.and_then(|answer| serde_json::from_str(&answer).map_err(|error| error.to_string())))
    }

    /// SIGKILL, so soon after it was told; the answer, if one came before.
    pub(crate) fn die_of(mut self, operation: &Operation, after: Duration) -> Option<(u64, u64, Answer)> {
        self.tell(operation);
        std::thread::sleep(after);
        let answer = self.0.kill_and_hear().pop()?;
        serde_json::from_str(&answer.ok()?).ok()
    }
}
