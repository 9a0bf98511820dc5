//! kill -9, at random points, of processes that tell each commit that is acknowledged to them.
//!
//! A file has a dozen lives. In each, one process or two at once open it, commit, read, close and
//! open again, until they are killed. Then the file is opened, by a writer or read-only, and must
//! hold everything that was acknowledged or read, where it was said to be, commits whole and each
//! once; verification finds nothing, and the head file gives no alarm and no warning.
//!
//! `UNIVRS_KILLS` sets how many kills, `UNIVRS_SEED` the file to begin with; moments are those of
//! the clock, which no seed repeats.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use univrs_state::log::Change;
use univrs_state::options::Durability;
use univrs_state::{Batch, LocalStore, Options, SqliteStore, StateError, StateStore};

use crate::support::child::{Child, say};
use crate::support::{Local, Seeded, audit, folder};

/// Kills of a run that is not told otherwise.
const KILLS: u64 = 1_000;
const LIVES: u64 = 12;

/// What the processes of one file were told.
#[derive(Default)]
struct Told {
    /// The tags of commits, with the positions of their first and last changes.
    commits: Vec<(String, u64, u64)>,
    heads: HashSet<String>,
}

#[derive(Default)]
struct Totals {
    kills: AtomicU64,
    files: AtomicU64,
    at_once: AtomicU64,
    /// Kills before the store was open for the first time.
    early: AtomicU64,
    told: AtomicU64,
    violations: Mutex<Vec<String>>,
    stop: AtomicBool,
}

fn options(durability: Durability) -> Options {
    Options::new().durability(durability).busy_timeout(Duration::from_secs(60))
}

/// In the child: works on the file until it is killed.
pub(crate) async fn churn(path: &str, buffered: bool, name: &str, seed: u64) -> Result<(), StateError> {
    let durability = if buffered { Durability::Buffered } else { Durability::Synced };
    let random = Seeded::from(seed);
    for round in 0.. {
        let store = options(durability).open(path).await?;
        say("@ok opened");
        let tasks: Vec<_> = (0..=random.below(3))
            .map(|task| write(store.clone(), format!("{name}-{round}-{task}"), random.next()))
            .map(tokio::spawn)
            .collect();
        for task in tasks {
            task.await.unwrap()?;
        }
        say(&format!("@ok head {}", store.head().await?));
        if random.below(2) == 0 {
            store.close().await?;
        }
    }
    Ok(())
}

/// A commit sets as many keys as its tag says, each to the tag and some filling.
async fn write(store: SqliteStore, name: String, seed: u64) -> Result<(), StateError> {
    let random = Seeded::from(seed);
    for n in 0..random.below(40) {
        if random.below(8) == 0 {
            store.delete(&format!("/{}", random.below(12))).await?;
        }
        let count = 1 + random.below(4);
        let tag = format!("{name}-{n}-{count}");
        let filling = if random.below(6) == 0 { 6000 } else { 10 };
        let value = format!("{tag};{}", "x".repeat(filling));
        let first = random.below(12);
        let set = |batch: Batch, n| batch.set(format!("/{}", (first + n) % 12), value.clone());
        let batch = (0..count).fold(Batch::new(), set);
        let batch = if random.below(4) == 0 { batch.commit_id(&tag) } else { batch };
        let receipt = store.commit(batch).await?;
        say(&format!("@ok commit {tag} {} {}", receipt.first, receipt.last));
    }
    Ok(())
}

/// One file and its lives.
struct File<'a> {
    path: &'a Path,
    durability: Durability,
    random: Seeded,
    told: Told,
    totals: &'a Totals,
}

impl File<'_> {
    fn live(&mut self, life: u64) -> Result<(), String> {
        let count = if self.random.below(3) == 0 { 2 } else { 1 };
        let mut children: Vec<Child> = (0..count).map(|_| Child::start()).collect();
        for (n, child) in children.iter_mut().enumerate() {
            let (path, buffered) = (self.path.display(), self.durability == Durability::Buffered);
            child.tell(&format!("churn\t{path}\t{buffered}\t{life}-{n}\t{}", self.random.next()));
        }
        // One in four dies while it comes up, the others at work.
        if self.random.below(4) > 0 {
            for child in &mut children {
                self.hear(child.answer().ok_or("a process died by itself")?)?;
            }
        }
        self.totals.at_once.fetch_add(count - 1, Ordering::Relaxed);
        for child in children {
            std::thread::sleep(Duration::from_micros(self.random.below(25_000)));
            let answers = child.kill_and_hear();
            self.totals.kills.fetch_add(1, Ordering::Relaxed);
            self.totals.early.fetch_add(u64::from(answers.is_empty()), Ordering::Relaxed);
            answers.into_iter().try_for_each(|answer| self.hear(answer))?;
        }
        Ok(())
    }

    fn hear(&mut self, answer: Result<String, String>) -> Result<(), String> {
        let answer = answer.map_err(|error| format!("a process was refused: {error}"))?;
        match answer.split(' ').collect::<Vec<_>>()[..] {
            ["opened"] => return Ok(()),
            ["head", head] => drop(self.told.heads.insert(head.to_owned())),
            ["commit", tag, first, last] => {
                self.told.commits.push((tag.to_owned(), first.parse().unwrap(), last.parse().unwrap()));
            }
            _ => return Err(format!("an answer that was not asked for: {answer}")),
        }
        self.totals.told.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn check(&self) -> Result<(), String> {
        // A store that nobody was told of may not be there.
        let read_only = !self.told.commits.is_empty() && self.random.below(2) == 0;
        let opened = options(self.durability).read_only(read_only).open(self.path).await;
        let store = opened.map_err(|error| format!("it does not open (read-only: {read_only}): {error}"))?;
        if let Some(warning) = store.warning() {
            return Err(format!("a warning: {warning}"));
        }
        let log = audit(&Local::Sqlite(store.clone())).await;
        whole(&log)?;
        for (tag, first, last) in &self.told.commits {
            let place = usize::try_from(first - 1).unwrap()..usize::try_from(*last).unwrap();
            let found = log.get(place).is_some_and(|found| found.iter().all(|c| tag_of(c) == Some(tag)));
            if !found {
                return Err(format!("{tag} was acknowledged at {first} to {last}, and is not there"));
            }
        }
        let heads: HashSet<String> = log.iter().map(|c| c.head().to_string()).collect();
        match self.told.heads.iter().find(|head| !heads.contains(*head)) {
            Some(head) if !head.starts_with('0') => return Err(format!("{head} was read, and is not there")),
            _ => {}
        }
        if self.random.below(2) == 0 {
            store.close().await.map_err(|error| format!("it does not close: {error}"))?;
        }
        Ok(())
    }
}

fn tag_of(change: &Change) -> Option<&str> {
    std::str::from_utf8(change.value.as_deref()?).unwrap().split(';').next()
}

/// Every commit is all that its tag says, and there once.
fn whole(log: &[Change]) -> Result<(), String> {
    let mut commits: BTreeMap<_, Vec<&Change>> = BTreeMap::new();
    for change in log {
        commits.entry(change.commit_seq).or_default().push(change);
    }
    let mut seen = HashSet::new();
    for (seq, changes) in commits {
        let Some(tag) = tag_of(changes[0]) else { continue };
        let count = tag.rsplit('-').next().unwrap().parse() == Ok(changes.len());
        if !count || changes.iter().any(|change| tag_of(change) != Some(tag)) {
            return Err(format!("the commit {tag} that ends at {seq} has {} changes", changes.len()));
        }
        if !seen.insert(tag) {
            return Err(format!("the commit {tag} is there twice"));
        }
    }
    Ok(())
}

/// The lives of one file.
fn run(seed: u64, kills: u64, totals: &Totals) -> Result<(), String> {
    let (folder, random) = (folder(), Seeded::from(seed));
    let durability = if random.below(4) == 0 { Durability::Buffered } else { Durability::Synced };
    let path = folder.path().join("state.db");
    let mut file = File { path: &path, durability, random, told: Told::default(), totals };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for life in 0..LIVES {
        if totals.kills.load(Ordering::Relaxed) >= kills || totals.stop.load(Ordering::Relaxed) {
            break;
        }
        let lived =
            catch_unwind(AssertUnwindSafe(|| file.live(life).and_then(|()| runtime.block_on(file.check()))));
        let lived = lived.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            Err(said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned())
        });
        lived.map_err(|error| format!("in life {life}, {durability:?}: {error}"))?;
    }
    totals.files.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

#[test]
fn nothing_acknowledged_or_read_is_lost_by_kill_9() {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("UNIVRS_SEED").unwrap_or(clock.as_secs());
    let (kills, start) = (number("UNIVRS_KILLS").unwrap_or(KILLS), Instant::now());
    println!("kills: UNIVRS_SEED={seed}");
    let (totals, next) = (Totals::default(), AtomicU64::new(seed));
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while count(&totals.kills) < kills && !totals.stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = run(seed, kills, &totals) {
                        println!("kills: VIOLATION UNIVRS_SEED={seed}, {error}");
                        totals.violations.lock().unwrap().push(format!("UNIVRS_SEED={seed}, {error}"));
                        totals.stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let violations = totals.violations.lock().unwrap();
    println!(
        "kills: {}, violations {} ({} files, {} with two processes at once, {} answers, {} kills without any, {:.0?})",
        count(&totals.kills),
        violations.len(),
        count(&totals.files),
        count(&totals.at_once),
        count(&totals.told),
        count(&totals.early),
        start.elapsed(),
    );
    assert!(violations.is_empty(), "{}", violations[0]);
    assert!(count(&totals.told) > kills, "the processes were killed before they did anything");
}
