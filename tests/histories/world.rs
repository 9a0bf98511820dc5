//! Where a history takes place: a store in memory, handles on one file, or processes as well.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use univrs_state::LocalStore;
use univrs_state::options::Durability;

use super::History;
use super::client::Client;
use super::journal::{Journal, Line};
use super::operation::{Answer, Operation, Verb, Write};
use super::process::options;
use crate::streams::plan::{END, Plan, end_keys};
use crate::streams::recording::follow;
use crate::streams::stage::Stage;
use crate::support::{Seeded, Subject, folder};

/// What there is most of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Focus {
    Clients,
    /// Many watches, restarts under way, and commits that are larger than what a watch reads at once.
    Streams,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    SqliteMemory,
    Handles,
    Processes,
}

/// A handle on the store, which is closed and opened again now and then.
struct Handle {
    subject: Subject,
    stage: Stage,
    streams: usize,
}

pub(super) struct World {
    pub(super) runtime: Runtime,
    pub(super) random: Seeded,
    pub(super) journal: Journal,
    pub(super) lines: Arc<Mutex<Vec<Line>>>,
    pub(super) path: PathBuf,
    /// Where to find what is open now of each handle.
    pub(super) stages: Vec<Stage>,
    focus: Focus,
    _folder: TempDir,
}

/// The history of a seed.
pub(crate) fn live(seed: u64, focus: Focus) -> Result<History, String> {
    let random = Seeded::from(seed);
    let kind = match random.below(8) {
        0 | 1 => Kind::Memory,
        2 => Kind::SqliteMemory,
        3 => Kind::Handles,
        _ => Kind::Processes,
    };
    let (world, mut handles) = World::begin(kind, focus, random);
    let mut history = History { kind: format!("{kind:?}"), ..History::default() };
    let followed = world.follow(&mut handles, &mut history);
    let mut processes = Vec::new();
    for round in 0..=world.random.below(if focus == Focus::Streams { 3 } else { 2 }) {
        let clients = world.clients(kind, round);
        let restarted = world.restart_amid(kind, &mut handles);
        if kind == Kind::Processes && round == 0 {
            processes = world.processes(&mut history)?;
        }
        for client in clients {
            world.runtime.block_on(client).map_err(|panic| panic.to_string())?;
        }
        world.restarted(kind, restarted, &mut handles);
    }
    for handle in &handles {
        world.runtime.block_on(handle.stage.begun(handle.streams));
        handle.stage.written();
    }
    world.end()?;
    for stream in followed {
        history.failed.extend(world.runtime.block_on(stream).map_err(|panic| panic.to_string())?.err());
    }
    for process in &mut processes {
        history.failed.extend(process.hear("", u64::MAX).err());
        history.lines.append(&mut process.lines);
    }
    let last = match handles.pop() {
        Some(handle) => handle.subject,
        None => world.runtime.block_on(Subject::open(options(), &world.path)),
    };
    history.log = world.runtime.block_on(last.audit());
    history.lines.append(&mut world.lines.lock().unwrap());
    history.lines.sort_by_key(Line::at);
    Ok(history)
}

impl World {
    fn begin(kind: Kind, focus: Focus, random: Seeded) -> (Self, Vec<Handle>) {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = folder();
        let path = folder.path().join("state.db");
        let open = |options| runtime.block_on(Subject::open(options, &path));
        let subjects = match kind {
            Kind::Memory => vec![Subject::memory_with(options())],
            Kind::SqliteMemory => vec![runtime.block_on(Subject::sqlite_memory_with(options()))],
            Kind::Handles | Kind::Processes => {
                let durability = if random.below(4) == 0 { Durability::Buffered } else { Durability::Synced };
                let first = open(options().durability(durability));
                let more = random.below(3);
                // Where no handle stays, the processes are all that have the file open.
                if kind == Kind::Processes && more == 0 {
                    Vec::new()
                } else {
                    let same = first.options.clone();
                    let further = (1..more).map(|_| {
                        // As a further opening of this process, or as one of another process.
                        let shares = random.below(2) == 0;
                        open(if shares { same.clone() } else { options().unshared() })
                    });
                    let further: Vec<Subject> = further.collect();
                    std::iter::once(first).chain(further).collect()
                }
            }
        };
        let handle = |subject: Subject| {
            let stage = Stage::new(subject.shared());
            Handle { subject, stage, streams: 0 }
        };
        let handles: Vec<Handle> = subjects.into_iter().map(handle).collect();
        let stages = handles.iter().map(|handle| handle.stage.clone()).collect();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let journal = Journal::Kept(lines.clone());
        (Self { runtime, random, journal, lines, path, stages, focus, _folder: folder }, handles)
    }

    pub(super) fn client(&self, name: String) -> Client {
        Client::new(name, self.random.next(), self.journal.clone())
    }

    /// The plans of streams of this name.
    pub(super) fn plans(&self, name: &str, history: &mut History) -> Vec<Plan> {
        let count = match self.focus {
            Focus::Clients => 1 + self.random.below(2),
            Focus::Streams => 3 + self.random.below(3),
        };
        let plans: Vec<Plan> =
            (0..count).map(|n| Plan::random(format!("{name} watches {n}"), &self.random)).collect();
        history.streams.extend(plans.iter().map(|plan| (plan.name.clone(), plan.pattern.clone())));
        plans
    }

    /// Watches on every handle.
    fn follow(&self, handles: &mut [Handle], history: &mut History) -> Vec<JoinHandle<Result<(), String>>> {
        let mut tasks = Vec::new();
        for (n, handle) in handles.iter_mut().enumerate() {
            for plan in self.plans(&format!("h{n}"), history) {
                handle.streams += 1;
                tasks.push(self.runtime.spawn(follow(handle.stage.clone(), plan, self.journal.clone())));
            }
        }
        tasks
    }

    /// Tasks on every handle, and one that opens the file anew every few operations.
    fn clients(&self, kind: Kind, round: u64) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        let is_file = matches!(kind, Kind::Handles | Kind::Processes);
        for (n, stage) in self.stages.iter().enumerate() {
            for task in 0..=self.random.below(if is_file { 2 } else { 5 }) {
                let (stage, mut client) = (stage.clone(), self.client(format!("h{n}.{round}.{task}")));
                let operations = 10 + self.random.below(15);
                let bulk = self.focus == Focus::Streams && (n, round, task) == (0, 0, 0);
                // Large values take long over the pipe of a process.
                let filling = if kind == Kind::Processes { 4 } else { 15_000 };
                tasks.push(self.runtime.spawn(async move {
                    client.run(&stage, operations).await;
                    if bulk && client.random.below(3) == 0 {
                        client.write_bulk(&stage.current(), filling).await;
                    }
                }));
            }
        }
        if is_file && self.random.below(2) == 0 {
            let (path, mut client) = (self.path.clone(), self.client(format!("reopens {round}")));
            tasks.push(self.runtime.spawn(async move {
                for _ in 0..3 {
                    let store = options().unshared().open(&path).await.unwrap();
                    client.run(&Stage::new(Arc::new(store.clone())), 4).await;
                    store.close().await.unwrap();
                }
            }));
        }
        tasks
    }

    /// Closes a handle on the file while it is used, and opens it again.
    fn restart_amid(&self, kind: Kind, handles: &mut Vec<Handle>) -> Option<JoinHandle<Handle>> {
        let restarts = kind != Kind::Memory && self.random.below(2) == 0;
        let mut handle = handles.pop_if(|_| restarts)?;
        Some(self.runtime.spawn(async move {
            handle.subject = handle.subject.reopened().await;
            handle.stage.reopened(handle.subject.shared());
            handle
        }))
    }

    /// The handle is back. What is in memory is opened again only now, when nobody writes: it is
    /// replayed from its log.
    fn restarted(&self, kind: Kind, restarted: Option<JoinHandle<Handle>>, handles: &mut Vec<Handle>) {
        handles.extend(restarted.map(|handle| self.runtime.block_on(handle).unwrap()));
        if kind == Kind::Memory && self.random.below(2) == 0 {
            let handle = &mut handles[0];
            handle.subject = self.runtime.block_on(handle.subject.reopened());
            handle.stage.reopened(handle.subject.shared());
        }
    }

    /// The last commit, which every stream waits for.
    fn end(&self) -> Result<(), String> {
        let store = match self.stages.first() {
            Some(stage) => stage.current(),
            None => Arc::new(self.runtime.block_on(options().open(&self.path)).unwrap()),
        };
        let answer = self.runtime.block_on(self.client("last".into()).act(&store, ending()));
        let recorded = matches!(answer, Answer::Receipt { .. });
        if recorded { Ok(()) } else { Err(format!("the end was not recorded: {answer:?}")) }
    }
}

/// Sets a key of every pattern.
fn ending() -> Operation {
    let writes = end_keys().into_iter().map(|key| (key.to_owned(), Some(END.to_owned()))).collect();
    let (verb, tag) = (Verb::Commit, END.to_owned());
    Operation::Write(Write { verb, tag, conditions: Vec::new(), writes, commit_id: None })
}
