//! Random batches, watches and reopenings against a plain map: memory and a file in the same run,
//! compared change by change. `UNIVRS_MODEL_CASES` makes it longer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use univrs_state::error::FailedCondition;
use univrs_state::log::{ChangeKind, Timestamp};
use univrs_state::options::{Clock, Durability};
use univrs_state::pattern::Pattern;
use univrs_state::{Batch, Cursor, Options, Seq, StateError, StateStore, WatchEvent, WatchStream};

use crate::support::audit::entries;
use crate::support::{START, STORE, Seeded, Subject, folder};

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Part>, i64),
    /// A watch of a pattern from so many changes before the head, or from now on.
    Watch(usize, Option<u64>),
    /// Reads at most so many events of a watch, then resumes it from its printed cursor.
    Read(usize, usize, bool),
    Reopen,
}

#[derive(Debug, Clone)]
enum Part {
    Set(usize, u8),
    Delete(usize),
    /// Expects the version that is there, off by this.
    Expect(usize, u64),
    /// Expects a prefix unchanged since so many changes before the head.
    Unchanged(usize, u64),
    Id(u8),
}

const KEYS: [&str; 7] = ["/a", "/a/1", "/a/2", "/ab", "/b/x/1", "/b/x/2", "/b/y"];
const PREFIXES: [&str; 4] = ["", "/a", "/a/", "/b/x/"];
const PATTERNS: [&str; 7] = ["/*", "/a", "/a/*", "/a*", "/b/*/1", "/**/2", "/none/*"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..KEYS.len();
    let part = prop_oneof![
        6 => (key(), any::<u8>()).prop_map(|(key, value)| Part::Set(key, value)),
        4 => key().prop_map(Part::Delete),
        1 => (key(), prop_oneof![5 => Just(0), 1 => 1..3_u64]).prop_map(|(key, off)| Part::Expect(key, off)),
        1 => (0..PREFIXES.len(), 0..6_u64).prop_map(|(prefix, back)| Part::Unchanged(prefix, back)),
        1 => (0..6_u8).prop_map(Part::Id),
    ];
    let clock = prop_oneof![4 => 0..5_i64, 1 => -2_000..2_000_i64];
    let step = prop_oneof![
        10 => (prop::collection::vec(part, 0..5), clock).prop_map(|(parts, clock)| Step::Commit(parts, clock)),
        2 => (0..PATTERNS.len(), prop::option::of(0..8_u64)).prop_map(|(pattern, back)| Step::Watch(pattern, back)),
        4 => (0..4_usize, 0..6_usize, any::<bool>()).prop_map(|(watch, most, resume)| Step::Read(watch, most, resume)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..14)
}

/// The plain map: what the store should be.
#[derive(Clone, Default)]
struct Model {
    keys: BTreeMap<&'static str, Last>,
    log: Vec<Record>,
    at: i64,
    ids: BTreeMap<u8, Remembered>,
}

/// Of the changes of a commit with an id: the versions, the last position, and keys and kinds.
type Remembered = (Vec<u64>, u64, Vec<(usize, bool)>);

#[derive(Clone, Default)]
struct Last {
    version: u64,
    seq: u64,
    value: Option<Vec<u8>>,
    created_at: i64,
}

#[derive(Clone)]
struct Record {
    key: &'static str,
    kind: ChangeKind,
    version: u64,
    commit: u64,
    at: i64,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

/// What a commit should come to: versions and the last position, or why not.
#[derive(Debug, PartialEq)]
enum Expected {
    Done(Vec<u64>, u64),
    Rejected(usize),
    Reused,
}

impl Model {
    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    fn failed(&self, part: &Part, head: u64) -> bool {
        match part {
            Part::Expect(_, off) => *off != 0,
            Part::Unchanged(prefix, back) => {
                let since = head.saturating_sub(*back);
                let under = self.keys.iter().filter(|(key, _)| key.starts_with(PREFIXES[*prefix]));
                under.into_iter().any(|(_, last)| last.seq > since)
            }
            _ => false,
        }
    }

    fn commit(&mut self, parts: &[Part], clock: i64) -> Expected {
        let id = parts.iter().rev().find_map(|part| if let Part::Id(id) = part { Some(*id) } else { None });
        let writes: Vec<(usize, bool)> = parts
            .iter()
            .filter_map(|part| match part {
                Part::Set(key, _) => Some((*key, true)),
                Part::Delete(key) => Some((*key, false)),
                _ => None,
            })
            .collect();
        if let Some((versions, last, recorded)) = id.and_then(|id| self.ids.get(&id)) {
            // A deletion of an absent key left nothing, so that it may be there or not.
            let mut recorded = recorded.iter().peekable();
            let mut answered = Vec::new();
            let mut version = versions.iter();
            for write in &writes {
                match (recorded.next_if(|recorded| *recorded == write), write.1) {
                    (Some(_), _) => answered.push(*version.next().unwrap()),
                    (None, false) => answered.push(0),
                    (None, true) => return Expected::Reused,
                }
            }
            return if recorded.next().is_none() {
                Expected::Done(answered, *last)
            } else {
                Expected::Reused
            };
        }
        let head = self.head();
        let failed = parts.iter().filter(|part| self.failed(part, head)).count();
        if failed > 0 {
            return Expected::Rejected(failed);
        }
        let at = clock.max(self.at + 1);
        let (mut versions, mut effective) = (Vec::new(), Vec::new());
        for part in parts {
            let (key, new) = match part {
                Part::Set(key, value) => (*key, Some(vec![*value; usize::from(*value) % 5])),
                Part::Delete(key) => (*key, None),
                _ => continue,
            };
            let last = self.keys.get(KEYS[key]).cloned().unwrap_or_default();
            if new.is_none() && last.value.is_none() {
                versions.push((0, false));
                continue;
            }
            let kind = match (&last.value, &new) {
                (None, _) => ChangeKind::Created,
                (Some(_), Some(_)) => ChangeKind::Updated,
                (Some(_), None) => ChangeKind::Deleted,
            };
            let version = last.version + 1;
            let created_at = if kind == ChangeKind::Created { at } else { last.created_at };
            let old = last.value.clone();
            self.log.push(Record { key: KEYS[key], kind, version, commit: 0, at, old, new: new.clone() });
            effective.push((key, new.is_some()));
            versions.push((if new.is_some() { version } else { 0 }, true));
            self.keys.insert(KEYS[key], Last { version, seq: self.head(), value: new, created_at });
        }
        let last = self.head();
        if last > head {
            self.at = at;
            for record in self.log.iter_mut().rev().take(effective.len()) {
                record.commit = last;
            }
            if let Some(id) = id {
                let recorded = versions.iter().filter(|(_, recorded)| *recorded);
                self.ids.insert(id, (recorded.map(|(version, _)| *version).collect(), last, effective));
            }
        }
        Expected::Done(versions.into_iter().map(|(version, _)| version).collect(), last)
    }

    /// The end of the last whole commit at or before a position.
    fn round_down(&self, seq: u64) -> u64 {
        (0..=seq).rev().find(|seq| *seq == 0 || self.at(*seq).commit == *seq).unwrap()
    }

    fn at(&self, seq: u64) -> &Record {
        &self.log[usize::try_from(seq).unwrap() - 1]
    }

    /// The positions after another of the changes that a pattern matches.
    fn matching(&self, pattern: &str, after: u64) -> Vec<u64> {
        let pattern: Pattern = pattern.parse().unwrap();
        (after + 1..=self.head()).filter(|seq| pattern.matches(self.at(*seq).key)).collect()
    }

    fn check_event(&self, event: &WatchEvent) {
        let record = self.at(event.seq.as_u64());
        let version = if record.new.is_some() { record.version } else { 0 };
        assert_eq!(
            (event.key.as_str(), event.event_type, event.new_version),
            (record.key, record.kind, version)
        );
        let old = if record.kind == ChangeKind::Created { &None } else { &record.old };
        assert_eq!((&event.old_value, &event.new_value), (old, &record.new));
        assert_eq!((event.commit_seq.as_u64(), event.at.as_micros()), (record.commit, record.at));
    }
}

/// A clock that stands where the case put it.
#[derive(Clone)]
struct Set(std::sync::Arc<std::sync::atomic::AtomicI64>);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

struct Watch {
    pattern: &'static str,
    stream: WatchStream,
    /// Where it started.
    start: u64,
    /// The position up to which the model has been read.
    read: u64,
}

/// One store, its watches, and how to open it again.
struct Run {
    subject: Subject,
    watches: Vec<Watch>,
    clock: Set,
}

impl Run {
    async fn new(path: Option<&std::path::Path>) -> Self {
        let clock = Set(std::sync::Arc::new(START.into()));
        let options = Options::new().clock(clock.clone()).entropy(Seeded::from(3)).store_id(STORE);
        let subject = match path {
            Some(path) => Subject::open(options.durability(Durability::Buffered), path).await,
            None => Subject::memory_with(options),
        };
        Self { subject, watches: Vec::new(), clock }
    }

    async fn step(&mut self, step: &Step, model: &Model, expected: Option<&Expected>, now: i64) {
        let store = self.subject.shared();
        match step {
            Step::Commit(parts, _) => {
                self.clock.0.store(now, Ordering::SeqCst);
                let mut batch = Batch::new();
                let head = store.head().await.unwrap().seq.as_u64();
                for part in parts {
                    batch = match part {
                        Part::Set(key, value) => batch.set(KEYS[*key], vec![*value; usize::from(*value) % 5]),
                        Part::Delete(key) => batch.delete(KEYS[*key]),
                        Part::Expect(key, off) => {
                            batch.expect(KEYS[*key], store.version(KEYS[*key]).await.unwrap() + off)
                        }
                        Part::Unchanged(prefix, back) => {
                            batch.expect_unchanged_since(PREFIXES[*prefix], head.saturating_sub(*back))
                        }
                        Part::Id(id) => batch.commit_id(id.to_string()),
                    };
                }
                let result = match store.commit(batch).await {
                    Ok(receipt) => Expected::Done(receipt.versions, receipt.last.as_u64()),
                    Err(StateError::CommitIdReused(_)) => Expected::Reused,
                    Err(StateError::Rejected(rejection)) => {
                        for failed in &rejection.failed {
                            if let FailedCondition::ChangedSince { found, key, .. } = failed {
                                let last = &model.keys[key.as_deref().unwrap()];
                                assert_eq!(last.seq, found.as_u64());
                            }
                        }
                        Expected::Rejected(rejection.failed.len())
                    }
                    Err(error) => panic!("{error}"),
                };
                assert_eq!(Some(&result), expected);
            }
            Step::Watch(pattern, back) => {
                let after = model.head().saturating_sub(back.unwrap_or(0));
                let pattern = PATTERNS[*pattern];
                let stream = match back {
                    None => store.watch(pattern),
                    Some(_) => store.watch_after(pattern, Seq::new(after).into()),
                };
                self.watches.push(Watch {
                    pattern,
                    stream: stream.unwrap(),
                    start: after,
                    read: model.round_down(after),
                });
            }
            Step::Read(watch, most, resume) => {
                let count = self.watches.len();
                if let Some(watch) = self.watches.get_mut(watch % count.max(1)) {
                    watch.read(model, *most).await;
                    if *resume {
                        watch.resume(model, &self.subject);
                    }
                }
            }
            Step::Reopen => {
                self.subject = self.subject.reopened().await;
                for watch in &mut self.watches {
                    watch.resume(model, &self.subject);
                }
            }
        }
    }
}

impl Watch {
    /// Reads events, which must be the model's.
    async fn read(&mut self, model: &Model, most: usize) {
        for seq in model.matching(self.pattern, self.read).into_iter().take(most) {
            let event = self.stream.try_next().await.unwrap().unwrap();
            assert_eq!(event.seq.as_u64(), seq, "watch of {}", self.pattern);
            model.check_event(&event);
            self.read = seq;
        }
        // Up to the cursor everything was delivered, and it is the end of a commit (or still as it
        // was given).
        let cursor = self.stream.cursor().seq().as_u64();
        let whole = model.round_down(cursor);
        assert!(model.matching(self.pattern, self.read).first().is_none_or(|next| *next > whole));
        assert!(cursor == self.start || model.at(cursor).commit == cursor);
    }

    /// From the printed cursor: what was delivered of a commit that is not whole comes again.
    fn resume(&mut self, model: &Model, subject: &Subject) {
        let cursor: Cursor = self.stream.cursor().to_string().parse().unwrap();
        self.stream = subject.shared().watch_after(self.pattern, cursor).unwrap();
        self.start = cursor.seq().as_u64();
        self.read = model.round_down(self.start);
    }
}

async fn case(steps: Vec<Step>, path: &std::path::Path) {
    let mut model = Model::default();
    let mut runs = [Run::new(None).await, Run::new(Some(path)).await];
    let mut now = START;
    for step in &steps {
        // The conditions are made of the state before, so the stores go first with a copy's answer.
        let mut expected = None;
        let mut after = None;
        if let Step::Commit(parts, clock) = step {
            now += clock;
            let mut next = model.clone();
            expected = Some(next.commit(parts, now));
            after = Some(next);
        }
        for run in &mut runs {
            run.step(step, &model, expected.as_ref(), now).await;
        }
        model = after.unwrap_or(model);
    }
    let mut logs = Vec::new();
    for run in &mut runs {
        for watch in &mut run.watches {
            watch.read(&model, usize::MAX).await;
        }
        // The audit also sees that the times strictly increase.
        logs.push(run.subject.audit().await);
        let found = entries(&run.subject.shared(), "").await;
        let living = model.keys.iter().filter_map(|(key, last)| Some((*key, last, last.value.as_ref()?)));
        let living: Vec<_> = living.map(|(key, last, value)| (key, value, last.version, last.seq)).collect();
        let found: Vec<_> =
            found.iter().map(|e| (e.key.as_str(), &e.value, e.version, e.seq.as_u64())).collect();
        assert_eq!(found, living);
    }
    assert_eq!(logs[0], logs[1], "memory and file differ");
    let recorded =
        logs[0].iter().map(|c| (&*c.key, c.kind, c.version, c.commit_seq.as_u64(), c.at.as_micros()));
    assert!(recorded.eq(model.log.iter().map(|r| (r.key, r.kind, r.version, r.commit, r.at))));
}

#[test]
fn random_batches_watches_and_reopenings_do_what_a_plain_map_does() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let cases = u32::try_from(number("UNIVRS_MODEL_CASES").unwrap_or(2_000)).unwrap();
    let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let seed = number("UNIVRS_MODEL_SEED").unwrap_or_else(|| nanos.into());
    println!("seed {seed}; UNIVRS_MODEL_SEED={seed} repeats it");
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let bytes = [seed.to_le_bytes(), [1; 8], [2; 8], [3; 8]].concat();
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = folder();
    let count = AtomicU64::new(0);
    let result = runner.run(&steps(), |steps| {
        let name = count.fetch_add(1, Ordering::Relaxed).to_string();
        let path = folder.path().join(&name).join("state.db");
        let run = || runtime.block_on(case(steps, &path));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        outcome.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            TestCaseError::fail(
                text.or_else(|| Some((*panic.downcast_ref::<&str>()?).into())).unwrap_or_default(),
            )
        })
    });
    if let Err(error) = result {
        panic!("seed {seed}: {error}");
    }
}
