//! What becomes of a batch does not depend on which batches share its storage transaction.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::Config;

use super::group::record;
use super::group_state::Verdict;
use super::proposal::Proposal;
use crate::backend::{Backend, FoldedState, Memory, Snapshot};
use crate::error::StateError;
use crate::key::CONSUMERS_PREFIX;
use crate::limits::Limits;
use crate::log::{ChangeKind, Cursor, Draft, Head, Meta, Prev, StoreId, Timestamp, Tip, seal};
use crate::seq::Seq;
use crate::state::{Batch, ConsumerRecord, Refusal};
#[cfg(feature = "sqlite")]
use crate::store::Options;
use crate::store::transfer::exporting;
use crate::store::verify::verify;
use crate::store::{Export, Verify};

const STORE: StoreId = StoreId::from_bytes([3; 16]);
const KEYS: [&str; 7] = ["/p/a", "/p/b", "/p/c", "/p", "/q/a", "/q/a/b", "/.x"];
const PREFIXES: [&str; 5] = ["", "/p", "/p/", "/q/", "/none/"];

#[derive(Debug, Clone)]
enum Step {
    Set(usize, u8),
    Delete(usize),
    Expect(usize, u64),
    ExpectUnchangedSince(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    prop_oneof![
        6 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Set(key, value)),
        2 => key.clone().prop_map(Step::Delete),
        1 => (key, 0..3_u64).prop_map(|(key, version)| Step::Expect(key, version)),
        3 => (0..PREFIXES.len(), 0..30_u64).prop_map(|(prefix, seq)| Step::ExpectUnchangedSince(prefix, seq)),
    ]
}

/// A batch and what it is sealed with: its steps, the limit of keys under a prefix, its commit id if it
/// has one, and its clock.
fn request() -> impl Strategy<Value = (Batch, i64)> {
    let steps = prop::collection::vec(step(), 0..5);
    (steps, 1..7_usize, prop::option::weighted(0.3, 0..4_u8), -5..60_i64).prop_map(
        |(steps, limit, id, clock)| {
            let batch = steps.into_iter().fold(Batch::new(), |batch, step| match step {
                Step::Set(key, value) => batch.set(KEYS[key], vec![value]),
                Step::Delete(key) => batch.delete(KEYS[key]),
                Step::Expect(key, version) => batch.expect(KEYS[key], version),
                Step::ExpectUnchangedSince(prefix, seq) => {
                    batch.expect_unchanged_since(PREFIXES[prefix], seq)
                }
            });
            let batch = batch.meta(Meta::new().actor(format!("limit {limit}")));
            let batch = id.into_iter().fold(batch, |batch, id| batch.commit_id(format!("id {id}")));
            let limits = Limits { page_entries: limit, ..Limits::default() };
            (batch.bounded(&limits).unwrap(), clock)
        },
    )
}

fn proposals(requests: &[(Batch, i64)]) -> Vec<Proposal<'_>> {
    let mut salt = 0_u128;
    let mut salts = |batch: &Batch| {
        let each = (0..batch.values()).map(|_| {
            salt += 1;
            salt.to_be_bytes()
        });
        each.collect()
    };
    requests
        .iter()
        .map(|(batch, clock)| Proposal { batch, clock: Timestamp::from_micros(*clock), salts: salts(batch) })
        .collect()
}

/// Records the proposals in groups of these sizes, then one by one; returns the verdicts, the log as a
/// file.
fn grouped<B: Backend + Snapshot>(
    mut backend: B,
    proposals: &[Proposal<'_>],
    sizes: &[usize],
    known: impl Fn(&B) -> Option<FoldedState>,
) -> (Vec<Verdict>, Vec<u8>) {
    let (mut rest, mut verdicts) = (proposals, Vec::new());
    for size in sizes.iter().chain(std::iter::repeat(&1)) {
        if rest.is_empty() {
            break;
        }
        let (group, others) = rest.split_at((*size).min(rest.len()));
        let folded = known(&backend);
        let run = record(backend.begin().unwrap(), group, folded.as_ref());
        verdicts.extend(run.unwrap_or_else(|failure| panic!("{failure:?}")).verdicts);
        rest = others;
    }
    let report = verify(&backend, &Verify::full(), &|| false).unwrap();
    assert!(report.is_intact(), "{report:?}");
    let (_, file) = exporting::export_snapshot(&backend, &Export::new(), Vec::new(), &|| false).unwrap();
    (verdicts, file)
}

fn memory() -> Memory {
    Memory::new(STORE)
}

/// A store on SQLite, in memory or in a file.
#[cfg(feature = "sqlite")]
fn sqlite(location: crate::backend::sqlite::Location) -> crate::backend::sqlite::Sqlite {
    let options = Options::new().store_id(STORE);
    options.opening(location).unwrap().first().unwrap()
}

/// How many of a run's verdicts were of each kind: receipts, rejections, limits, used ids.
fn kinds(verdicts: &[Verdict]) -> [usize; 4] {
    let mut kinds = [0; 4];
    for verdict in verdicts {
        let kind = match verdict {
            Ok(_) => 0,
            Err(Refusal::Rejected(_)) => 1,
            Err(Refusal::LimitExceeded(_)) => 2,
            Err(Refusal::CommitIdReused(_)) => 3,
            Err(Refusal::EndOfTime) => unreachable!("the clocks stand near the epoch"),
        };
        kinds[kind] += 1;
    }
    kinds
}

fn requests() -> impl Strategy<Value = Vec<(Batch, i64)>> {
    prop::collection::vec(request(), 1..40)
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..12_usize, 0..10)
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, cases: 256, ..Config::default() })]

    #[test]
    fn any_grouping_of_the_same_batches_gives_the_same_verdicts_and_logs(
        requests in requests(), one in sizes(), other in sizes(),
    ) {
        let proposals = proposals(&requests);
        let alone = grouped(memory(), &proposals, &[], |_| None);
        for sizes in [&one, &other, &vec![usize::MAX]] {
            prop_assert!(grouped(memory(), &proposals, sizes, |_| None) == alone, "in memory {sizes:?}");
            let known = |memory: &Memory| Some(memory.folded().clone());
            prop_assert!(grouped(memory(), &proposals, sizes, known) == alone, "with a known state {sizes:?}");
            #[cfg(feature = "sqlite")]
            {
                let sqlite = sqlite(crate::backend::sqlite::Location::Memory);
                prop_assert!(grouped(sqlite, &proposals, sizes, |_| None) == alone, "on SQLite {sizes:?}");
            }
        }
    }
}

#[cfg(feature = "sqlite")]
proptest! {
    // Each group of a file is synced.
    #![proptest_config(Config { failure_persistence: None, cases: 12, ..Config::default() })]

    #[test]
    fn any_grouping_gives_the_same_in_a_file(requests in requests(), sizes in sizes()) {
        let folder = tempfile::tempdir().unwrap();
        let proposals = proposals(&requests);
        let alone = grouped(memory(), &proposals, &[], |_| None);
        let file = sqlite(crate::backend::sqlite::Location::File(folder.path().join("state.db")));
        prop_assert!(grouped(file, &proposals, &sizes, |_| None) == alone, "in a file {sizes:?}");
    }
}

#[test]
fn the_random_batches_meet_every_kind_of_verdict() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut met = [0; 4];
    for _ in 0..100 {
        let requests = requests().new_tree(&mut runner).unwrap().current();
        let (verdicts, _) = grouped(memory(), &proposals(&requests), &[usize::MAX], |_| None);
        met.iter_mut().zip(kinds(&verdicts)).for_each(|(met, new)| *met += new);
    }
    assert!(met.iter().all(|met| *met > 20), "{met:?}");
}

// Two batches that were queued together once shared a transaction in which the keys of the first did not
// count: the second was accepted, but alone it was over the limit.
#[test]
fn keys_that_were_created_just_before_count_for_a_condition_on_their_prefix() {
    let limits = Limits { page_entries: 2, ..Limits::default() };
    let batches = [
        Batch::new().set("/p/1", "x").set("/p/2", "x"),
        Batch::new().set("/p/3", "x"),
        Batch::new().expect_unchanged_since("/p/", 3).set("/out", "x"),
    ];
    let requests = batches.map(|batch| (batch.bounded(&limits).unwrap(), 1));
    let proposals = proposals(&requests);
    for sizes in [&[1, 1, 1][..], &[2, 1], &[1, 2], &[3]] {
        let (verdicts, _) = grouped(memory(), &proposals, sizes, |_| None);
        let Err(Refusal::LimitExceeded(exceeded)) = &verdicts[2] else { panic!("{:?}", verdicts[2]) };
        assert_eq!((exceeded.limit, exceeded.actual), (2, 3), "{sizes:?}");
    }
}

#[test]
fn who_is_behind_a_floor_is_read_in_the_transaction_that_moves_it() {
    let record = |name: &str, reached: u64| {
        let head = Head { seq: Seq::new(reached), ..Head::genesis(STORE) };
        let record = ConsumerRecord::new("/*", Cursor::new(STORE, head), Duration::ZERO);
        let batch = Batch::new().set(format!("{CONSUMERS_PREFIX}{name}"), record.encode());
        batch.may_write(CONSUMERS_PREFIX)
    };
    let judged =
        |floor| Batch::new().expect_none_behind(Seq::new(floor), Seq::ZERO, Vec::new()).set("/a", "x");
    let batches =
        [record("a", 9), record("b", 3), judged(3), judged(4), record("b", 4), judged(4), judged(10)];
    let requests = batches.map(|batch| (batch, 1));
    let proposals = proposals(&requests);
    let check = |verdicts: &[Verdict]| {
        let who = |verdict: &Verdict| match verdict {
            Ok(_) => None,
            Err(refusal) => Some(StateError::from(refusal.clone()).to_string()),
        };
        let found: Vec<_> = verdicts.iter().map(who).collect();
        assert!(found[3].as_ref().is_some_and(|why| why.contains("/.univrs/consumers/b")), "{found:?}");
        assert!(found[6].as_ref().is_some_and(|why| why.contains("/.univrs/consumers/a")), "{found:?}");
        assert!([0, 1, 2, 4, 5].iter().all(|place| found[*place].is_none()), "{found:?}");
    };
    check(&grouped(memory(), &proposals, &[], |_| None).0);
    check(&grouped(memory(), &proposals, &[], |memory| Some(memory.folded().clone())).0);
    #[cfg(feature = "sqlite")]
    check(&grouped(sqlite(crate::backend::sqlite::Location::Memory), &proposals, &[], |_| None).0);
}

// The last moment that the format can hold was once a failure of the machine, which failed the whole group.
#[test]
fn at_the_end_of_time_a_batch_is_refused_and_not_its_group() {
    let near = || {
        let tip = Tip { at: Timestamp::from_micros(i64::MAX - 2), ..Tip::genesis(STORE) };
        let draft = Draft {
            kind: ChangeKind::Created,
            key: "/x".into(),
            version: 1,
            created_at: None,
            prev: Prev::Recorded(Seq::ZERO),
            until: None,
            value: Some(Arc::from(&b"1"[..])),
        };
        let mut memory = memory();
        seal(vec![draft], None, tip, Timestamp::EPOCH, || [1; 16])
            .0
            .into_iter()
            .for_each(|change| memory.push(change));
        memory
    };
    let requests = ["/a", "/b"].map(|key| (Batch::new().set(key, "1"), 1));
    let proposals = proposals(&requests);
    for sizes in [&[1, 1][..], &[2]] {
        let (verdicts, _) = grouped(near(), &proposals, sizes, |_| None);
        assert!(matches!(verdicts[..], [Ok(_), Err(Refusal::EndOfTime)]), "{sizes:?} {verdicts:?}");
    }
}
