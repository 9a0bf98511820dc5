//! A scheduler writes desired state, an agent acts on it and is killed, again and again.
//!
//! ```text
//! cargo run --example reconciler [-- SEED]
//! ```
//!
//! Three processes share one file. The **scheduler** writes what should run. The **agent** watches
//! that and acts. Their **parent** kills the agent with SIGKILL at random moments, starts it anew,
//! and at the end reads the log: each desired change was acted on exactly once. Whatever the agent
//! said was recorded before it died is there.
//!
//! The trick is one line long: the agent records *what it did* and *how far it came* in one batch.
//! Either both are there after the kill, or neither, and the next agent goes on from what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use univrs_state::log::Commit;
use univrs_state::prelude::*;

/// What should be: written by the scheduler.
const DESIRED: &str = "/desired/";
/// What the agent did: one key for each desired change, named after its position in the log.
const EFFECTS: &str = "/effects/";
/// How far the agent came: a cursor.
const POSITION: &str = "/agents/a1/position";
/// Written by the parent when the agent was killed often enough.
const STOP: &str = "/scheduler/stop";
/// Written by the scheduler at its end.
const DONE: &str = "/scheduler/done";

/// Desired changes that the scheduler makes at least.
const CHANGES: u64 = 300;
/// How often the agent is killed.
const KILLS: usize = 20;
/// Long enough for any machine; a run takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(120);

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Serialize, Deserialize)]
struct Effect {
    /// What was acted on.
    key: String,
    desired: Option<String>,
    /// The process that acted.
    agent: u32,
    /// How long after the commit it was seen; none where the agent was not yet watching then.
    lag_micros: Option<u64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["agent", path] => agent(path.as_ref()).await,
        ["scheduler", path, seed] => scheduler(path.as_ref(), seed.parse()?).await,
        [] => parent(RandomState::new().hash_one("reconciler")).await,
        [seed] => parent(seed.parse()?).await,
        _ => Err("usage: reconciler [SEED]".into()),
    }
}

/// Writes, changes and withdraws what should run; several keys at once now and then.
async fn scheduler(path: &Path, seed: u64) -> Outcome {
    let store = SqliteStore::open(path).await?.with_meta(Meta::new().actor("scheduler"));
    let mut random = Random(seed);
    let mut written = 0;
    while written < CHANGES || !store.exists(STOP).await? {
        let mut batch = Batch::new();
        for _ in 0..=random.below(3) {
            let key = format!("{DESIRED}w{:02}", random.below(20));
            batch = match random.below(8) {
                0 => batch.delete(key),
                _ => batch.set(key, format!("{} replicas", random.below(100))),
            };
        }
        let receipt = store.commit(batch).await?;
        written += receipt.last.as_u64() + 1 - receipt.first.as_u64();
        tokio::time::sleep(Duration::from_millis(random.below(16))).await;
    }
    store.set(DONE, Vec::new()).await?;
    Ok(())
}

/// Acts on each change of the desired state, exactly once, whenever it is killed.
async fn agent(path: &Path) -> Outcome {
    let store = SqliteStore::open(path).await?;
    let position = store.get_json_versioned::<Cursor>(POSITION).await?;
    let (cursor, mut version) = position.unwrap_or((Seq::ZERO.into(), 0));
    let begun = SystemTime::now();
    let mut desired = store.watch_after(&format!("{DESIRED}*"), cursor)?.commits();

    while let Some(events) = desired.try_next().await? {
        let mut batch = Batch::new().meta(Meta::new().actor("agent a1").reason("reconcile"));
        for event in events {
            let at = SystemTime::from(event.at);
            let lag = at.elapsed().ok().filter(|_| at > begun).map(|lag| lag.as_micros());
            let effect = Effect {
                key: event.key,
                desired: event.new_value.map(String::from_utf8).transpose()?,
                agent: std::process::id(),
                lag_micros: lag.map(u64::try_from).transpose()?,
            };
            batch = batch.set(effect_key(event.seq), serde_json::to_vec(&effect)?);
        }
        // The line that matters: effects and position in one commit. The expected version fences
        // off another agent that believes it is at this place, too.
        let batch = batch.expect(POSITION, version).set(POSITION, serde_json::to_vec(&desired.cursor())?);
        version = store.commit(batch).await?.versions.last().copied().unwrap_or_default();
        println!("{}", desired.cursor().seq()); // Acknowledged: the parent holds the store to it.
    }
    Err("the watch ended".into())
}

fn effect_key(desired: Seq) -> String {
    format!("{EFFECTS}{:08}", desired.as_u64())
}

/// Starts both, kills the agent, and checks what came of it.
async fn parent(seed: u64) -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(&path).await?;
    println!("reconciler, seed {seed} (give it as an argument to choose the same moments again)\n");

    let begun = Instant::now();
    let mut scheduler = Role::start("scheduler", &path, Some(seed))?;
    let mut random = Random(!seed);
    tokio::time::timeout(PATIENCE, async {
        for kill in 1..=KILLS {
            let mut agent = Role::start("agent", &path, None)?;
            let moment = random_moment(&store, &mut random).await?;
            let acknowledged = agent.kill()?;
            let position = position(&store).await?;
            assert!(position >= acknowledged, "{acknowledged} was acknowledged, {position} is there");
            println!("  kill -9  {kill:>2}  {moment:<44} position {position}");
        }
        store.set(STOP, Vec::new()).await?;
        let _last = Role::start("agent", &path, None)?;
        wait_until_done(&store).await
    })
    .await
    .map_err(|_| "the agent did not get to the end in time")??;
    scheduler.succeeded()?;
    println!("\n  done in {:.1} s", begun.elapsed().as_secs_f32());

    check(&store).await
}

/// Waits for one of two kinds of moment: some time after the start of the agent, so that it dies
/// while it opens or catches up, or some effects later and a little time more, so that it dies at work.
async fn random_moment(store: &SqliteStore, random: &mut Random) -> Outcome<String> {
    let mut effects = store.watch(&format!("{EFFECTS}*"))?;
    let millis = random.below(60);
    let count = if random.below(3) == 0 { 0 } else { random.below(20) };
    let mut last = Seq::ZERO;
    for _ in 0..count {
        last = effects.try_next().await?.ok_or("the watch ended")?.commit_seq;
    }
    tokio::time::sleep(Duration::from_millis(millis / (1 + count))).await;
    Ok(match last {
        Seq::ZERO => format!("{millis} ms after its start"),
        last => format!("after {count} effects, at {last}"),
    })
}

/// How far the agent came.
async fn position(store: &SqliteStore) -> Result<Seq> {
    Ok(store.get_json::<Cursor>(POSITION).await?.map_or(Seq::ZERO, |cursor| cursor.seq()))
}

/// Waits until the agent has passed the scheduler's last change.
async fn wait_until_done(store: &SqliteStore) -> Outcome {
    let mut watch = store.watch_after("/**", Seq::ZERO.into())?;
    let (mut last, mut done) = (Seq::ZERO, false);
    while let Some(event) = watch.try_next().await? {
        match event.key.as_str() {
            DONE => done = true,
            key if key.starts_with(DESIRED) => last = event.seq,
            _ => {}
        }
        if done && position(store).await? >= last {
            return Ok(());
        }
    }
    Err("the watch ended".into())
}

/// Reads the whole log and compares what was desired with what was done.
async fn check(store: &SqliteStore) -> Outcome {
    let mut desired = BTreeMap::new();
    let mut agents = BTreeSet::new();
    let mut lags = Vec::new();
    let mut acted_on = BTreeSet::new();
    let mut after = Seq::ZERO;
    loop {
        let commits: Vec<Commit> = store.changes(after, 1000).await?;
        let Some(last) = commits.last() else { break };
        after = last.last;
        for commit in commits {
            let acts = commit.changes.iter().any(|change| change.key.starts_with(EFFECTS));
            let moves = commit.changes.iter().any(|change| &*change.key == POSITION);
            assert_eq!(acts, moves, "commit {} has effects without their position", commit.last);
            for change in commit.changes {
                let value = change.value.as_deref().unwrap_or_default();
                if change.key.starts_with(DESIRED) {
                    let text = change.value.is_some().then(|| String::from_utf8_lossy(value).into_owned());
                    desired.insert(effect_key(change.seq), (change.key, text));
                } else if change.key.starts_with(EFFECTS) {
                    assert_eq!(change.version, 1, "{} was done again at {}", change.key, change.seq);
                    let effect: Effect = serde_json::from_slice(value)?;
                    let (key, text) = desired.get(&*change.key).ok_or("an effect that nobody desired")?;
                    assert_eq!((&*effect.key, &effect.desired), (&**key, text), "{}", change.key);
                    let in_order = acted_on.last().is_none_or(|last| last < &change.key);
                    assert!(in_order, "{} was done out of order", change.key);
                    acted_on.insert(change.key);
                    agents.insert(effect.agent);
                    lags.extend(effect.lag_micros);
                }
            }
        }
    }
    let lost: Vec<_> = desired.keys().filter(|key| !acted_on.contains(key.as_str())).collect();
    assert!(lost.is_empty(), "nobody acted on {lost:?}");
    assert!(desired.len() as u64 >= CHANGES, "{} desired changes", desired.len());
    let report = store.verify().await?;
    assert!(report.is_intact(), "{:?}", report.findings);

    lags.sort_unstable();
    let lag = |percent: usize| lags.get(lags.len() * percent / 100).copied().unwrap_or(0) / 1000;
    println!("  desired changes   {:>4}", desired.len());
    println!(
        "  acted on          {:>4}  each exactly once and in order: none lost, none repeated",
        acted_on.len()
    );
    println!(
        "  agents            {:>4}  killed {KILLS} times; {} of them got to act",
        KILLS + 1,
        agents.len()
    );
    println!(
        "  seen after       {:>5} ms (half of them), {} ms (95 %), from the other process",
        lag(50),
        lag(95)
    );
    println!("  verified          {:>4}  changes of the log, head {}", report.changes, report.head);
    Ok(())
}

/// A child process, killed when it goes out of scope.
struct Role(Child);

impl Role {
    fn start(role: &str, path: &Path, seed: Option<u64>) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role).arg(path).args(seed.map(|seed| seed.to_string()));
        Ok(Self(command.stdout(Stdio::piped()).spawn()?))
    }

    /// Kills it as `kill -9` does; returns the last position that it said was recorded. A role that
    /// has ended by itself is an error.
    fn kill(&mut self) -> Outcome<Seq> {
        if let Some(status) = self.0.try_wait()? {
            return Err(format!("the agent ended by itself: {status}").into());
        }
        self.0.kill()?;
        self.0.wait()?;
        let mut said = String::new();
        self.0.stdout.take().ok_or("it has no output")?.read_to_string(&mut said)?;
        let last = said.lines().last().map_or(Ok(Seq::ZERO), str::parse);
        Ok(last?)
    }

    fn succeeded(&mut self) -> Outcome {
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the scheduler failed: {status}").into()) }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Numbers from a seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
