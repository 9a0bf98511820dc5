//! Properties of deciding and folding, on random sequences of batches.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use crate::error::{FailedCondition, Rejection};
use crate::log::{Cursor, Follow, Head, StoreId, Timestamp, Tip, seal};
use crate::seq::Seq;

/// A write or condition on one of a few keys.
#[derive(Debug, Clone)]
enum Step {
    Set(usize, Vec<u8>),
    Delete(usize),
    Expect(usize, u64),
    ExpectCurrent(usize),
    ExpectUnchangedSince(&'static str, u64),
}

const KEYS: [&str; 5] = ["/a", "/a/b", "/ab", "/c", "/c/d/e"];

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let prefix = prop::sample::select(vec!["/", "/a", "/a/", "/c", "/none"]);
    prop_oneof![
        6 => (key.clone(), prop::collection::vec(any::<u8>(), 0..4)).prop_map(|(k, v)| Step::Set(k, v)),
        3 => key.clone().prop_map(Step::Delete),
        1 => (key.clone(), 0..6_u64).prop_map(|(k, v)| Step::Expect(k, v)),
        2 => key.prop_map(Step::ExpectCurrent),
        1 => (prefix, 0..40_u64).prop_map(|(p, s)| Step::ExpectUnchangedSince(p, s)),
    ]
}

/// A plain map beside the store: value, count of changes, last seq.
#[derive(Default, Clone, PartialEq, Debug)]
struct Plain {
    keys: BTreeMap<&'static str, (Option<Vec<u8>>, u64, u64)>,
    seq: u64,
}

impl Plain {
    fn version(&self, key: &str) -> u64 {
        self.keys.get(key).map_or(0, |(value, version, _)| if value.is_some() { *version } else { 0 })
    }

    fn write(&mut self, key: &'static str, value: Option<&Vec<u8>>) {
        let version = self.keys.get(key).map_or(0, |(_, version, _)| *version);
        if value.is_some() || self.version(key) > 0 {
            self.seq += 1;
            self.keys.insert(key, (value.cloned(), version + 1, self.seq));
        }
    }

    /// How many of the conditions fail.
    fn failed(&self, steps: &[Step]) -> usize {
        let fails = |step: &&Step| match step {
            Step::Expect(key, version) => self.version(KEYS[*key]) != *version,
            Step::ExpectUnchangedSince(prefix, seq) => {
                let changed = |(key, (_, _, at)): (&&str, &(_, _, u64))| key.starts_with(prefix) && at > seq;
                *seq > self.seq || self.keys.iter().any(changed)
            }
            _ => false,
        };
        steps.iter().filter(fails).count()
    }
}

fn batch(steps: &[Step], plain: &Plain) -> Batch {
    steps.iter().fold(Batch::new(), |batch, step| match step {
        Step::Set(key, value) => batch.set(KEYS[*key], value.clone()),
        Step::Delete(key) => batch.delete(KEYS[*key]),
        Step::Expect(key, version) => batch.expect(KEYS[*key], *version),
        Step::ExpectCurrent(key) => batch.expect(KEYS[*key], plain.version(KEYS[*key])),
        Step::ExpectUnchangedSince(prefix, seq) => batch.expect_unchanged_since(*prefix, *seq),
    })
}

fn projected(projection: &Projection) -> BTreeMap<String, (Option<Vec<u8>>, u64, u64)> {
    let all = crate::key::KeyRange::prefix("");
    let row = |last: &KeyState| {
        (last.value.as_deref().map(<[u8]>::to_vec), last.key_version.version, last.key_version.seq.as_u64())
    };
    projection.range(&all, None).map(|last| (last.key.to_string(), row(last))).collect()
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, cases: 512, ..Config::default() })]

    #[test]
    fn the_fold_of_what_is_decided_equals_a_plain_map(
        batches in prop::collection::vec(prop::collection::vec(step(), 0..7), 1..12),
        clock in prop::collection::vec(-5..50_i64, 12),
    ) {
        let store = StoreId::from_bytes([1; 16]);
        let (mut tip, mut projection, mut plain) = (Tip::genesis(store), Projection::default(), Plain::default());
        let mut follow = Follow::genesis(store);
        let mut seen = std::collections::HashSet::new();
        for (steps, clock) in batches.iter().zip(clock) {
            let batch = batch(steps, &plain);
            let decision = match decide(&batch, tip.head.seq, &projection) {
                Ok(decision) => decision,
                Err(Refusal::Rejected(rejection)) => {
                    // Refused: every failed condition is listed, and there is nothing to record.
                    prop_assert_eq!(rejection.failed.len(), plain.failed(steps));
                    prop_assert!(!rejection.failed.is_empty());
                    for failed in &rejection.failed {
                        if let FailedCondition::Version { key, found, .. } = failed {
                            prop_assert_eq!(*found, plain.version(key));
                        }
                    }
                    continue;
                }
                Err(refusal) => return Err(TestCaseError::fail(format!("{refusal:?}"))),
            };
            prop_assert_eq!(plain.failed(steps), 0);
            let mut versions = Vec::new();
            for step in steps {
                let (key, value) = match step {
                    Step::Set(key, value) => (KEYS[*key], Some(value)),
                    Step::Delete(key) => (KEYS[*key], None),
                    _ => continue,
                };
                plain.write(key, value);
                versions.push(plain.version(key));
            }
            prop_assert_eq!(&decision.versions, &versions);
            let (changes, after) = seal(decision.drafts, None, tip, Timestamp::from_micros(clock), || [7; 16]);
            for change in changes {
                prop_assert!(follow.check(&change).is_ok(), "{:?}", follow.check(&change));
                let before = projection.key_version(&change.key).map_or(0, |key_version| key_version.version);
                prop_assert_eq!(change.version, before + 1, "a version grows by one with each change");
                prop_assert!(seen.insert((change.key.to_string(), change.version)), "a version never repeats");
                projection.fold(&change);
            }
            prop_assert_eq!(after.head.seq.as_u64(), plain.seq);
            tip = if after.head.seq > tip.head.seq { after } else { tip };
        }
        let expected: BTreeMap<String, _> = plain.keys.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        prop_assert_eq!(projected(&projection), expected);
        let live = plain.keys.values().filter(|(value, _, _)| value.is_some()).count();
        prop_assert_eq!(projection.live(), live);
        prop_assert_eq!(follow.head(), tip.head);
    }
}

#[test]
fn a_refused_batch_leaves_no_drafts() {
    let refused = decide(&Batch::new().expect("/a", 1).set("/a", "x"), Seq::ZERO, &Projection::default());
    let expected = FailedCondition::Version { key: "/a".into(), expected: 1, found: 0 };
    assert_eq!(refused.unwrap_err(), Refusal::Rejected(Rejection { failed: vec![expected] }));
}

#[test]
fn only_a_consumer_that_came_behind_the_floor_is_in_the_way_of_it() {
    let store = StoreId::from_bytes([7; 16]);
    let record = |reached: u64| {
        let head = Head { seq: Seq::new(reached), ..Head::genesis(store) };
        ConsumerRecord::new("/*", Cursor::new(store, head), Duration::ZERO).encode()
    };
    let (mut projection, mut tip) = (Projection::default(), Tip::genesis(store));
    // The records are the changes 1 to 4.
    for (name, reached) in [("behind", 3), ("before", 10), ("after", 11), ("moved", 20)] {
        let batch = Batch::new().set(format!("/.univrs/consumers/{name}"), record(reached));
        let drafts = decide(&batch, tip.head.seq, &projection).unwrap().drafts;
        let (changes, after) = seal(drafts, None, tip, Timestamp::EPOCH, || [7; 16]);
        for change in &changes {
            projection.fold(change);
        }
        tip = after;
    }
    let in_the_way = |floor: u64, seq: u64, but_for: &[&str]| {
        let but_for = but_for.iter().map(|name| format!("/.univrs/consumers/{name}")).collect();
        let batch = Batch::new().expect_none_behind(Seq::new(floor), Seq::new(seq), but_for);
        match decide(&batch, tip.head.seq, &projection) {
            Ok(_) => None,
            Err(Refusal::Rejected(Rejection { failed })) => match &failed[..] {
                [FailedCondition::ChangedSince { key: Some(key), .. }] => Some(key.clone()),
                other => panic!("{other:?}"),
            },
            Err(refusal) => panic!("{refusal:?}"),
        }
    };
    assert_eq!(in_the_way(11, 2, &[]), None, "those that were recorded before were judged before");
    assert_eq!(in_the_way(11, 1, &[]).as_deref(), Some("/.univrs/consumers/before"));
    assert_eq!(in_the_way(10, 1, &[]), None, "it is done with all up to the floor");
    assert_eq!(in_the_way(12, 2, &[]).as_deref(), Some("/.univrs/consumers/after"));
    assert_eq!(in_the_way(12, 0, &["after", "behind"]).as_deref(), Some("/.univrs/consumers/before"));
    assert_eq!(in_the_way(12, 0, &["after", "behind", "before"]), None);
}
