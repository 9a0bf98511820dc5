//! What leaves the log by a policy, when somebody asks for it and on a schedule.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use univrs_state::history::Point;
use univrs_state::log::Timestamp;
use univrs_state::options::Clock;
use univrs_state::pattern::Pattern;
use univrs_state::retain::{HoldBack, Policy, Retained, Retention, Scheduled};
use univrs_state::{Batch, LocalStore, Meta, Options, Seq, StateError, StateStore, WithMeta};

use crate::consumer::open;
use crate::consumer_time::Steady;
use crate::support::audit::log_after;
use crate::support::{START, Seeded, Subject, folder, options, seed, value};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

/// One store of each kind, with a clock.
async fn each() -> Vec<(Subject, Arc<dyn LocalStore>, Steady)> {
    each_with(|options| options).await
}

async fn each_with(with: impl Fn(Options) -> Options) -> Vec<(Subject, Arc<dyn LocalStore>, Steady)> {
    let mut all = Vec::new();
    for kind in 0..3 {
        let clock = Steady::default();
        let options = with(options().clock(clock.clone()));
        let subject = match kind {
            0 => Subject::memory_with(options),
            1 => Subject::disk_with(options).await,
            _ => Subject::sqlite_memory_with(options).await,
        };
        let local = subject.local.opened();
        all.push((subject, local, clock));
    }
    all
}

/// The time that was so long ago.
fn before(clock: &Steady, time: Duration) -> Timestamp {
    Timestamp::from_micros(clock.now().as_micros() - i64::try_from(time.as_micros()).unwrap())
}

/// Sets a key each hour of so many hours.
async fn hourly(local: &Arc<dyn LocalStore>, clock: &Steady, hours: u64) {
    for hour in 0..hours {
        clock.pass(HOUR);
        local.set("/a", value(hour)).await.unwrap();
    }
}

/// The time of the commit at the floor, in whole hours after the start.
async fn floor_hour(local: &Arc<dyn LocalStore>) -> u64 {
    let floor = local.floor().await.unwrap().seq;
    if floor == Seq::ZERO {
        return 0;
    }
    let at = local.at(floor.into()).await.unwrap().at().unwrap();
    u64::try_from(at.as_micros() - START).unwrap() / 3_600_000_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_the_age_leaves_and_every_later_state_is_as_it_was() {
    let seed = seed();
    for (subject, local, clock) in each().await {
        let random = Seeded::from(seed);
        let policy =
            Policy::new().age(20 * DAY).keep(pattern("/kept/*")).forget().values(pattern("/k/*"), 5 * DAY, 2);
        local.set_policy(Some(policy.clone())).await.unwrap();
        assert_eq!(local.policy().await.unwrap(), Some(policy));
        let mut states: BTreeMap<u64, (Timestamp, BTreeMap<String, Vec<u8>>)> = BTreeMap::new();
        let mut state = BTreeMap::new();
        let mut most = 0;
        for hour in 0..24 * 60_u64 {
            clock.pass(HOUR);
            let prefix = ["/k/", "/kept/", "/other/"][usize::try_from(random.below(3)).unwrap()];
            let key = format!("{prefix}{}", random.below(6));
            let receipt = if random.below(4) == 0 {
                state.remove(&key);
                local.commit(Batch::new().delete(&key)).await.unwrap()
            } else {
                state.insert(key.clone(), value(hour));
                local.commit(Batch::new().set(&key, value(hour))).await.unwrap()
            };
            states.insert(receipt.head.seq.as_u64(), (clock.now(), state.clone()));
            if hour % 24 == 5 {
                let plan = local.plan_retention().await.unwrap();
                let done = local.retain().await.unwrap();
                assert_eq!(
                    plan.compaction.map(|plan| plan.floor),
                    done.compacted.as_ref().map(|done| done.floor)
                );
                assert!(done.held_back.is_empty(), "{done:?}");
                let floor = local.floor().await.unwrap().seq.as_u64();
                // The floor may be at a record of retention. The state there is that of the commit before.
                let above = states.split_off(&(floor + 1));
                let at_floor = states.pop_last().map(|(_, state)| (floor, state));
                states = at_floor.into_iter().filter(|_| floor > 0).chain(above).collect();
                let due = before(&clock, 20 * DAY);
                if done.compacted.is_some() {
                    let mut above = states.iter().filter(|(seq, _)| **seq > floor);
                    assert!(
                        above.all(|(_, (at, _))| *at > due),
                        "everything of that age has left, seed {seed}"
                    );
                }
                if floor > 0 {
                    let at = local.at(Seq::new(floor).into()).await.unwrap().at().unwrap();
                    assert!(at <= due, "nothing younger has, seed {seed}");
                }
                most = most.max(log_after(&local, Seq::new(floor)).await.len());
            }
        }
        assert!(local.floor().await.unwrap().seq > Seq::new(800));
        assert!(most < 24 * 21 + 200, "{most} changes");
        for (seq, (at, state)) in &states {
            let past = local.at(Seq::new(*seq).into()).await.unwrap();
            for (key, value) in state {
                match past.get(key).await {
                    Ok(found) => assert_eq!(&found.unwrap().value, value, "{key} at {seq}, seed {seed}"),
                    Err(StateError::Erased(_)) => {
                        assert!(key.starts_with("/k/"), "{key} has no rule, seed {seed}");
                        assert!(*at < before(&clock, 5 * DAY), "{key} at {seq}, seed {seed}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(
                past.list("/k/").await.unwrap().len(),
                state.keys().filter(|key| key.starts_with("/k/")).count()
            );
        }
        // The history of kept keys goes on below the floor.
        let first = local.history("/kept/1", None, 10_000).await.unwrap();
        assert_eq!(first.last().unwrap().version, 1, "seed {seed}");
        let records = local.list("/.univrs/thinned/").await.unwrap();
        assert_eq!(records.len(), 1, "a later record of a rule takes the place of the one before");
        subject.audit().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_policy_everything_stays_and_an_idle_run_writes_nothing() {
    for (subject, local, clock) in each().await {
        hourly(&local, &clock, 50).await;
        assert_eq!(local.policy().await.unwrap(), None);
        assert_eq!(local.retain().await.unwrap(), Retained::default());
        local.set_policy(Some(Policy::new())).await.unwrap();
        clock.pass(100 * DAY);
        let kept = local.retain().await.unwrap();
        assert_eq!((kept.policy, kept.compacted), (Some(Policy::new()), None));
        assert_eq!(local.floor().await.unwrap().seq, Seq::ZERO);

        let policy = Policy::new().age(DAY).values(pattern("/a"), HOUR, 1);
        local.set_policy(Some(policy)).await.unwrap();
        let done = local.retain().await.unwrap();
        assert_eq!(
            (done.compacted.unwrap().dropped, done.thinned.len()),
            (49, 0),
            "no value was left to drop"
        );
        let head = local.head().await.unwrap();
        for _ in 0..5 {
            clock.pass(50 * DAY);
            let idle = local.retain().await.unwrap();
            assert!(idle.compacted.is_none() && idle.thinned.is_empty() && idle.held_back.is_empty());
            assert_eq!(local.plan_retention().await.unwrap().compaction, None);
        }
        assert_eq!(
            local.head().await.unwrap(),
            head,
            "the records of retention are no reason for another one"
        );
        local.set_policy(None).await.unwrap();
        assert_eq!(local.policy().await.unwrap(), None);
        subject.audit().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_needs_the_log_holds_a_run_back_and_is_named() {
    for (subject, local, clock) in each().await {
        let mut watch = local.watch("/a").unwrap();
        let mut consumer = local.consumer("c").pattern("/a").hold(400 * DAY).open().await.unwrap();
        hourly(&local, &clock, 100).await;
        let marked = local.head().await.unwrap();
        local.mark("m", Point::Head).await.unwrap();
        hourly(&local, &clock, 100).await;
        local
            .set_policy(Some(Policy::new().age(DAY).spare_marks().values(pattern("/a"), DAY, 1)))
            .await
            .unwrap();
        clock.pass(50 * DAY);

        let held = local.retain().await.unwrap();
        let names = |held: &Retained| {
            let name = |held: &HoldBack| match held {
                HoldBack::Consumer { name, .. } => name.clone(),
                HoldBack::Mark { name, at } => format!("{name} at {at}"),
                HoldBack::Watch { pattern, .. } => pattern.clone(),
                other => panic!("{other:?}"),
            };
            let mut names: Vec<_> = held.held_back.iter().map(name).collect();
            names.sort();
            names
        };
        assert_eq!(names(&held), ["/a".to_owned(), "c".into(), format!("m at {}", marked.seq)]);
        assert!(held.compacted.is_none() && held.thinned.is_empty());
        assert_eq!(local.floor().await.unwrap().seq, Seq::ZERO);

        // The watch goes on for ten changes, the consumer for twenty.
        for _ in 0..10 {
            watch.next().await.unwrap();
        }
        for _ in 0..20 {
            consumer
                .process(|commit| Batch::new().set("/out", commit.cursor.seq().to_string()))
                .await
                .unwrap();
        }
        let held = local.retain().await.unwrap();
        let floor = held.compacted.unwrap().floor.seq;
        assert!(floor > Seq::ZERO && floor <= Seq::new(12), "{floor}");
        watch.next().await.unwrap();
        drop(watch);
        consumer.close().await.unwrap();
        local.remove_consumer("c").await.unwrap();
        let held = local.retain().await.unwrap();
        assert_eq!(names(&held), [format!("m at {}", marked.seq)]);
        assert_eq!(local.floor().await.unwrap().seq, marked.seq);
        local.unmark("m").await.unwrap();
        let free = local.retain().await.unwrap();
        assert!(free.held_back.is_empty() && free.compacted.is_some());
        subject.audit().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_hold_has_passed_holds_nothing_back() {
    for (subject, local, clock) in each().await {
        let mut consumer = open(&local, "/a").await;
        hourly(&local, &clock, 100).await;
        local.set_policy(Some(Policy::new().age(DAY))).await.unwrap();
        clock.pass(8 * DAY);
        let done = local.retain().await.unwrap();
        assert!(done.held_back.is_empty() && done.compacted.is_some());
        assert_eq!(consumer.next().await.unwrap_err().code(), "compacted");
        subject.audit().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_nobody_can_mean_is_refused_and_nothing_is_written() {
    for (subject, local, _) in each().await {
        local.set("/a", value(1)).await.unwrap();
        let head = local.head().await.unwrap();
        for (policy, says) in [
            (Policy::new().age(Duration::from_secs(599)), "600"),
            (Policy::new().forget(), "set an age"),
            (Policy::new().values(pattern("/.univrs/*"), DAY, 1), "of the store itself"),
        ] {
            match local.set_policy(Some(policy)).await {
                Err(StateError::InvalidArgument(why)) => assert!(why.contains(says), "{why}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(
            local.set("/.univrs/retention", b"{}".to_vec()).await,
            Err(StateError::InvalidKey(_))
        ));
        assert_eq!(local.head().await.unwrap(), head);
        // It is in the log who set it and why.
        let said = Meta::new().actor("operator").reason("the disk is small");
        WithMeta::new(local.clone(), said).set_policy(Some(Policy::new().age(DAY))).await.unwrap();
        let change = local.history("/.univrs/retention", None, 1).await.unwrap().remove(0);
        assert_eq!(change.meta.unwrap().actor.as_deref(), Some("operator"));
        subject.audit().await;
    }
    let every = |interval| options().retain_every(interval);
    let zero = every(Duration::ZERO).memory();
    assert!(matches!(zero, Err(StateError::InvalidArgument(why)) if why.contains("retain_every")));
    let folder = folder();
    let path = folder.path().join("state.db");
    let zero = every(Duration::ZERO).open(&path).await;
    assert!(matches!(zero, Err(StateError::InvalidArgument(why)) if why.contains("retain_every")));
    let reads = every(DAY).read_only(true).open(&path).await;
    assert!(matches!(reads, Err(StateError::InvalidArgument(why)) if why.contains("retain_every")));
    assert!(!path.exists());
}

/// The next run of the schedule that begins after this call.
async fn next_run(local: &Arc<dyn LocalStore>, clock: &Steady) -> Scheduled {
    // One may be under way. It has looked at the clock before it began.
    for _ in 0..2 {
        clock.pass(Duration::from_micros(1));
        let from = clock.now();
        while local.last_retention().is_none_or(|last| last.at < from) {
            tokio::task::yield_now().await;
        }
    }
    local.last_retention().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_waits_for_the_first_run_and_then_goes_at_its_pace() {
    for (subject, local, clock) in each_with(|options| options.retain_every(Duration::from_millis(1))).await {
        hourly(&local, &clock, 24 * 20).await;
        assert_eq!(next_run(&local, &clock).await.result, Ok(Retained::default()));
        local.set_policy(Some(Policy::new().age(10 * DAY))).await.unwrap();
        let waits = next_run(&local, &clock).await.result.unwrap();
        assert_eq!((waits.held_back, waits.compacted), (vec![HoldBack::FirstRun], None));
        assert_eq!(local.floor().await.unwrap().seq, Seq::ZERO);

        assert!(local.retain().await.unwrap().compacted.is_some());
        let asked = floor_hour(&local).await;
        assert_eq!(asked, 24 * 10);
        // Ten days go by, by the clock of the store. The opening has lasted for some seconds.
        hourly(&local, &clock, 24 * 10).await;
        // The policy has dropped something before it drops a sixteenth of ten days more.
        let paced =
            |run: &Scheduled| matches!(run.result.as_ref().unwrap().held_back[..], [HoldBack::Pace { .. }]);
        while floor_hour(&local).await == asked || !paced(&next_run(&local, &clock).await) {}
        let scheduled = floor_hour(&local).await;
        assert!(scheduled >= asked + 15 && scheduled <= asked + 26, "{scheduled} after {asked}");
        // Whoever asks is not held back.
        assert!(local.retain().await.unwrap().held_back.is_empty());
        assert_eq!(floor_hour(&local).await, 24 * 20);
        local.close().await.unwrap();
        subject.audit().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_waits_if_the_clock_was_far_ahead_at_the_opening() {
    for accepted in [true, false] {
        let folder = folder();
        let path = folder.path().join("state.db");
        let clock = Steady::default();
        let at_rest = options().clock(clock.clone());
        let first = Subject::open(at_rest.clone(), &path).await;
        let local = first.local.opened();
        local.set_policy(Some(Policy::new().age(DAY))).await.unwrap();
        local.retain().await.unwrap();
        hourly(&local, &clock, 100).await;
        local.close().await.unwrap();

        clock.pass(3 * DAY);
        let subject = Subject::open(at_rest.clone().retain_every(Duration::from_millis(1)), &path).await;
        let local = subject.local.opened();
        local.set("/a", value("after")).await.unwrap();
        let waits = next_run(&local, &clock).await.result.unwrap();
        assert_eq!((waits.held_back, waits.compacted), (vec![HoldBack::Clock], None));
        let mut floor = local.floor().await.unwrap().seq;
        if accepted {
            local.accept_clock().await.unwrap();
        } else {
            floor = local.retain().await.unwrap().compacted.unwrap().floor.seq;
            hourly(&local, &clock, 100).await;
        }
        while local.floor().await.unwrap().seq == floor {
            let run = next_run(&local, &clock).await.result.unwrap();
            assert!(!run.held_back.contains(&HoldBack::Clock), "{run:?}");
        }
        local.close().await.unwrap();
        Subject::open(at_rest, &path).await.audit().await;
    }
}

/// How many files of a folder this process has open.
#[cfg(target_os = "linux")]
fn open_files(folder: &std::path::Path) -> usize {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    files.filter(|file| std::fs::read_link(file.path()).is_ok_and(|path| path.starts_with(folder))).count()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_ends_with_the_last_handle_or_when_the_store_is_closed() {
    let folder = folder();
    let path = folder.path().join("state.db");
    for closes in [true, false] {
        for interval in [Duration::from_micros(1), 100 * DAY] {
            let store = options().clock(Steady::default()).retain_every(interval).open(&path).await.unwrap();
            store.set_policy(Some(Policy::new().age(DAY).values(pattern("/a"), DAY, 1))).await.unwrap();
            store.retain().await.unwrap();
            if closes {
                store.close().await.unwrap();
            }
            drop(store);
            while open_files(folder.path()) > 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_two_processes_do_the_same_once() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let clock = Steady::default();
    let opened = || Subject::open(options().clock(clock.clone()).unshared(), &path);
    let (one, two) = (opened().await, opened().await);
    let (first, second) = (one.local.opened(), two.local.opened());
    first.set_policy(Some(Policy::new().age(DAY).values(pattern("/a"), HOUR, 1))).await.unwrap();
    for _ in 0..5 {
        hourly(&first, &clock, 60).await;
        let (a, b) = tokio::join!(first.retain(), second.retain());
        let mut compacted = 0;
        for run in [a, b] {
            match run {
                Ok(run) => compacted += usize::from(run.compacted.is_some()),
                Err(StateError::Busy(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(compacted <= 1);
        // Whatever one of them left to the other is done by the next run.
        first.retain().await.unwrap();
        let due = before(&clock, DAY);
        assert_eq!(first.at(due.into()).await.unwrap().seq(), first.floor().await.unwrap().seq);
    }
    one.audit().await;
    two.audit().await;
}
