//! Where a history takes place: a store in memory, handles on one file, or processes as well.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use univrs_state::{Durability, StateStore};

use super::History;
use super::client::Client;
use super::journal::{Journal, Line, records};
use super::operation::{Answer, Operation, Verb, Write};
use super::process::{Process, Servant, Spec, options, resumed};
use crate::streams::recording::{END, PATTERNS, Plan, Stage, follow};
use crate::support::{Local, Seeded, audit, folder};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    SqliteMemory,
    Handles,
    Processes,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::SqliteMemory => "the memory of SQLite",
            Self::Handles => "handles",
            Self::Processes => "processes",
        }
    }

    fn is_file(self) -> bool {
        matches!(self, Self::Handles | Self::Processes)
    }
}

struct World {
    runtime: Runtime,
    random: Seeded,
    journal: Journal,
    lines: Arc<Mutex<Vec<Line>>>,
    path: PathBuf,
    stores: Vec<Local>,
    streams: Vec<(String, String)>,
    killed: u64,
    _folder: TempDir,
}

/// The history of a seed.
pub(crate) fn live(seed: u64) -> Result<History, String> {
    let random = Seeded::from(seed);
    let kind = match random.below(8) {
        0 | 1 => Kind::Memory,
        2 => Kind::SqliteMemory,
        3 => Kind::Handles,
        _ => Kind::Processes,
    };
    let mut world = World::begin(kind, random);
    let (clients, (stages, streams)) = (world.clients(kind), world.follow());
    let mut processes = if kind == Kind::Processes { world.processes()? } else { Vec::new() };
    for client in clients {
        world.runtime.block_on(client).map_err(|panic| panic.to_string())?;
    }
    for (stage, count) in stages {
        world.runtime.block_on(stage.written(count));
    }
    world.end()?;
    for stream in streams {
        world.runtime.block_on(stream).map_err(|panic| panic.to_string())??;
    }
    for process in &mut processes {
        process.hear("", u64::MAX)?;
        world.lines.lock().unwrap().append(&mut process.lines);
    }
    Ok(world.finish(kind))
}

impl World {
    fn begin(kind: Kind, random: Seeded) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = folder();
        let path = folder.path().join("state.db");
        let stores = match kind {
            Kind::Memory => vec![Local::Memory(options().memory().unwrap())],
            Kind::SqliteMemory => vec![Local::Sqlite(runtime.block_on(options().in_memory()).unwrap())],
            Kind::Handles | Kind::Processes => {
                let durability = if random.below(4) == 0 { Durability::Buffered } else { Durability::Synced };
                let first = runtime.block_on(options().durability(durability).open(&path)).unwrap();
                // Where no handle stays, the processes are all that have the file open.
                let more = random.below(3);
                let handles = if kind == Kind::Handles { 1 + more } else { more };
                let more = (1..handles).map(|_| runtime.block_on(options().open(&path)).unwrap());
                let stores =
                    if handles == 0 { Vec::new() } else { std::iter::once(first).chain(more).collect() };
                stores.into_iter().map(Local::Sqlite).collect()
            }
        };
        let lines = Arc::new(Mutex::new(Vec::new()));
        let journal = Journal::Kept(lines.clone());
        Self {
            runtime,
            random,
            journal,
            lines,
            path,
            stores,
            streams: Vec::new(),
            killed: 0,
            _folder: folder,
        }
    }

    fn client(&self, name: String) -> Client {
        Client::new(name, self.random.next(), self.journal.clone())
    }

    /// Tasks on every handle, and one that opens the file anew every few operations.
    fn clients(&self, kind: Kind) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        let each = if kind.is_file() { 2 } else { 5 };
        for (n, store) in self.stores.iter().enumerate() {
            for task in 0..=self.random.below(each) {
                let (store, mut client) = (store.shared(), self.client(format!("h{n}.{task}")));
                let operations = 10 + self.random.below(20);
                tasks.push(self.runtime.spawn(async move { client.run(&store, operations).await }));
            }
        }
        if kind.is_file() && self.random.below(2) == 0 {
            let (path, mut client) = (self.path.clone(), self.client("reopens".into()));
            tasks.push(self.runtime.spawn(async move {
                for _ in 0..3 {
                    let store = options().open(&path).await.unwrap();
                    let shared: Arc<dyn StateStore> = Arc::new(store.clone());
                    client.run(&shared, 4).await;
                    store.close().await.unwrap();
                }
            }));
        }
        tasks
    }

    /// A watch or two on every handle.
    fn follow(&mut self) -> (Vec<(Stage, usize)>, Vec<JoinHandle<Result<(), String>>>) {
        let (mut stages, mut tasks) = (Vec::new(), Vec::new());
        for (n, store) in self.stores.iter().enumerate() {
            let (stage, count) = (Stage::new(store.shared()), 1 + self.random.below(2));
            for stream in 0..count {
                let plan = Plan::random(format!("h{n} watches {stream}"), &self.random);
                self.streams.push((plan.name.clone(), plan.pattern.clone()));
                tasks.push(self.runtime.spawn(follow(stage.clone(), plan, self.journal.clone())));
            }
            stages.push((stage, usize::try_from(count).unwrap()));
        }
        (stages, tasks)
    }

    /// Processes that work by themselves, of which some are killed, and some that are asked in turn.
    fn processes(&mut self) -> Result<Vec<Process>, String> {
        let plans: Vec<(usize, Vec<Plan>)> = (0..=usize::from(self.random.below(3) > 0))
            .map(|n| (n, vec![Plan::random(format!("p{n} watches"), &self.random)]))
            .collect();
        for plan in plans.iter().flat_map(|(_, plans)| plans) {
            self.streams.push((plan.name.clone(), plan.pattern.clone()));
        }
        let seeds: Vec<u64> = plans.iter().map(|_| self.random.next()).collect();
        let world = &*self;
        let lived = std::thread::scope(|scope| {
            let lives: Vec<_> = plans
                .into_iter()
                .zip(seeds)
                .map(|((n, plans), seed)| scope.spawn(move || world.lives(n, plans, &Seeded::from(seed))))
                .collect();
            let relayed = world.relay();
            let lives: Result<Vec<_>, String> = lives.into_iter().map(|life| life.join().unwrap()).collect();
            relayed.and_then(|killed| Ok((killed, lives?)))
        });
        let (killed, lives) = lived?;
        self.killed += killed;
        let mut processes = Vec::new();
        for (process, killed) in lives {
            self.killed += killed;
            processes.push(process);
        }
        Ok(processes)
    }

    /// A process and those that follow it when it is killed; the last one waits for the end.
    fn lives(&self, n: usize, mut plans: Vec<Plan>, random: &Seeded) -> Result<(Process, u64), String> {
        let mut first: Vec<Operation> = Vec::new();
        let last = random.below(3);
        for life in 0..=last {
            let clients = (0..=random.below(2)).map(|client| {
                let name = format!("p{n}.{life}.{client}");
                (first.pop(), name, random.next(), 8 + random.below(12))
            });
            let spec = Spec {
                path: self.path.display().to_string(),
                clients: clients.collect(),
                streams: plans.clone(),
            };
            let mut process = Process::start(&spec);
            if life == last {
                process.hear("done", u64::MAX)?;
                return Ok((process, last));
            }
            process.hear("done", 1 + random.below(60))?;
            std::thread::sleep(Duration::from_micros(random.below(1_500)));
            let mut lines = process.kill()?;
            plans = resumed(&plans, &lines);
            first = self.try_again(&lines, &format!("p{n}.{life} again"), random);
            self.lines.lock().unwrap().append(&mut lines);
        }
        unreachable!("the last life returns");
    }

    /// Tries again what a process that died has left open, here or, as is returned, in the next one.
    fn try_again(&self, lines: &[Line], name: &str, random: &Seeded) -> Vec<Operation> {
        let mut left = Vec::new();
        let mut client = Client::new(name.to_owned(), random.next(), self.journal.clone());
        for record in records(lines).iter().filter(|record| record.completed.is_none()) {
            let Operation::Write(write) = &record.operation else { continue };
            let Some(again) = client.again(write) else { continue };
            match self.stores.first().filter(|_| random.below(3) > 0) {
                Some(store) => drop(self.runtime.block_on(client.act(&store.shared(), again))),
                None => left.push(again),
            }
        }
        left
    }

    /// One client that asks one process after the other, and this one: what it was told by one, the
    /// next one must know. Returns how many were killed.
    fn relay(&self) -> Result<u64, String> {
        let mut places: Vec<Place> = self.stores.iter().map(|store| Place::Here(store.shared())).collect();
        for _ in 0..2 - places.len().min(1) {
            places.push(Place::There(Servant::start(&self.path)?));
        }
        let mut client = self.client("relay".into());
        let mut killed = 0;
        for _ in 0..6 + self.random.below(8) {
            let at = self.random.below(places.len() as u64);
            let mut at = usize::try_from(at).unwrap();
            let mut operation = client.plan_write();
            let dies = self.random.below(12) == 0;
            if let (true, Place::There(_)) = (dies, &places[at]) {
                let place = std::mem::replace(&mut places[at], Place::There(Servant::start(&self.path)?));
                killed += 1;
                self.kill(place, &mut client, &operation);
                at = (at + 1) % places.len();
                let Operation::Write(write) = &operation else { unreachable!() };
                let Some(again) = client.again(write) else { continue };
                operation = again;
            }
            self.ask(&mut places[at], &mut client, &operation)?;
            for _ in 0..=self.random.below(3) {
                at = (at + 1) % places.len();
                let read = client.plan_read_of(&operation);
                self.ask(&mut places[at], &mut client, &read)?;
            }
        }
        Ok(killed)
    }

    fn ask(&self, place: &mut Place, client: &mut Client, operation: &Operation) -> Result<(), String> {
        match place {
            Place::Here(store) => drop(self.runtime.block_on(client.act(store, operation.clone()))),
            Place::There(servant) => {
                client.ask(operation);
                let (invoked, completed, answer) = servant.act(operation)?;
                client.hear(operation, invoked, completed, answer);
            }
        }
        Ok(())
    }

    fn kill(&self, place: Place, client: &mut Client, operation: &Operation) {
        let Place::There(servant) = place else { return };
        client.ask(operation);
        let after = Duration::from_micros(self.random.below(1_000));
        if let Some((invoked, completed, answer)) = servant.die_of(operation, after) {
            client.hear(operation, invoked, completed, answer);
        }
    }

    /// The last commit, which every stream waits for.
    fn end(&self) -> Result<(), String> {
        let store = match self.stores.first() {
            Some(store) => store.shared(),
            None => Arc::new(self.runtime.block_on(options().open(&self.path)).unwrap()),
        };
        let answer = self.runtime.block_on(self.client("last".into()).act(&store, ending()));
        if matches!(answer, Answer::Receipt { .. }) {
            Ok(())
        } else {
            Err(format!("the end was not recorded: {answer:?}"))
        }
    }

    fn finish(self, kind: Kind) -> History {
        let store = match self.stores.first() {
            Some(store) => store.clone(),
            None => Local::Sqlite(self.runtime.block_on(options().open(&self.path)).unwrap()),
        };
        let log = self.runtime.block_on(audit(&store));
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        History { kind: kind.name(), log, lines, streams: self.streams, killed: self.killed }
    }
}

/// Where the relay asks.
enum Place {
    Here(Arc<dyn StateStore>),
    There(Servant),
}

/// Sets a key of every pattern.
pub(crate) fn ending() -> Operation {
    let mut keys: Vec<&str> = PATTERNS.iter().map(|(_, key)| *key).collect();
    keys.sort_unstable();
    keys.dedup();
    let writes = keys.into_iter().map(|key| (key.to_owned(), Some(END.to_owned()))).collect();
    let (verb, tag) = (Verb::Commit, END.to_owned());
    Operation::Write(Write { verb, tag, conditions: Vec::new(), writes, commit_id: None })
}
