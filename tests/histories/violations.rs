//! The checker finds what it is there to find: each violation, planted in a history that is sound.

use std::sync::{Arc, Mutex};

use univrs_state::log::Change;
use univrs_state::{MemoryStore, Seq, StateStore};

use super::checker::{Tally, check};
use super::client::Client;
use super::journal::{Journal, records};
use super::operation::{Answer, Condition, Operation, Record, Sight, Verb, Write};
use crate::support::plant::{Plant, each_is_found};
use crate::support::{log_of, seq};

/// A history in which one thing follows the other.
#[derive(Clone)]
struct Sound {
    log: Vec<Change>,
    records: Vec<Record>,
    sights: Vec<Sight>,
}

impl Sound {
    fn check(&self) -> Result<Tally, String> {
        check(&self.log, &self.records, &self.sights)
    }

    /// The record of the only operation of this kind, or of the write of this tag.
    fn record(&mut self, what: &str) -> &mut Record {
        let is = |record: &&mut Record| match &record.operation {
            Operation::Write(write) => write.tag == what,
            operation => format!("{operation:?}").to_lowercase().starts_with(what),
        };
        self.records.iter_mut().find(is).unwrap()
    }

    fn write(&mut self, tag: &str) -> &mut Write {
        match &mut self.record(tag).operation {
            Operation::Write(write) => write,
            _ => unreachable!(),
        }
    }

    /// Takes these operations to be one after the other, in this order.
    fn at_times(&mut self, order: &[(&str, u64, u64)]) {
        for (what, invoked, completed) in order {
            let record = self.record(what);
            (record.invoked, record.completed) = (*invoked, record.completed.map(|_| *completed));
        }
    }
}

fn write(verb: Verb, tag: &str, writes: &[(&str, Option<&str>)]) -> Write {
    let owned = |value: &str| value.to_owned();
    let writes = writes.iter().map(|(key, value)| (owned(key), value.map(owned))).collect();
    Write { verb, tag: owned(tag), conditions: Vec::new(), writes, commit_id: None }
}

/// Writes of every kind, each read. Operation `n` is invoked at `10 n` and completed at `10 n + 5`.
async fn sound() -> Sound {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    let lines = Arc::new(Mutex::new(Vec::new()));
    let mut client = Client::new("client".into(), 1, Journal::Kept(lines.clone()));
    let expect = |key: &str, expected| Condition::Version { key: key.into(), expected };
    let batch = Write {
        commit_id: Some("id".into()),
        ..write(Verb::Commit, "batch", &[("/a", Some("2")), ("/b", Some("2")), ("/none", None)])
    };
    let repeated = Write { tag: "repeated".into(), ..batch.clone() };
    let swapped = Write {
        conditions: vec![expect("/a", 2)],
        ..write(Verb::CompareAndSet, "swapped", &[("/a", Some("3"))])
    };
    let refused = Write { tag: "refused".into(), ..swapped.clone() };
    let create =
        |tag| Write { conditions: vec![expect("/c", 0)], ..write(Verb::Create, tag, &[("/c", Some("1"))]) };
    let rejected = Write {
        conditions: vec![
            Condition::Unchanged { prefix: "/".into(), since: 3 },
            expect("/a", 3),
            expect("/b", 7),
        ],
        ..write(Verb::Commit, "rejected", &[("/d", Some("1"))])
    };
    let keys = || vec!["/b".to_owned(), "/a".to_owned(), "/none".to_owned()];
    let operations = [
        Operation::Write(write(Verb::Set, "set", &[("/a", Some("1"))])),
        Operation::Watch("/*".into()),
        Operation::Write(batch),
        Operation::GetMany(keys()),
        Operation::Write(repeated),
        Operation::Write(swapped),
        Operation::Get("/a".into()),
        Operation::Write(refused),
        Operation::Write(create("created")),
        Operation::Write(create("exists")),
        Operation::Write(rejected),
        Operation::Scan("/".into(), 2),
        Operation::Head,
        Operation::Write(write(Verb::Delete, "deleted", &[("/c", None)])),
        Operation::Write(write(Verb::Delete, "absent", &[("/c", None)])),
        Operation::Write(write(Verb::Commit, "empty", &[("/c", None)])),
        Operation::Exists("/c".into()),
        Operation::Version("/b".into()),
        Operation::List("/".into()),
    ];
    for operation in operations {
        client.act(&store, operation).await;
    }
    let mut records = records(&lines.lock().unwrap());
    for (record, n) in records.iter_mut().zip(1..) {
        (record.invoked, record.completed) = (10 * n, Some(10 * n + 5));
    }
    // A watch saw each commit right after it.
    let sights = [(35, 3), (65, 4), (95, 5), (145, 6)].map(|(at, seq)| Sight { at, seq }).to_vec();
    Sound { log: log_of(&store).await, records, sights }
}

#[tokio::test]
async fn a_sound_history_is_found_sound() {
    let tally = sound().await.check().unwrap();
    let expected = Tally {
        writes: 8,
        refusals: 3,
        reads: 8,
        sights: 4,
        unknown_recorded: 0,
        unknown_absent: 0,
        repeated: 1,
    };
    assert_eq!(tally, expected);
}

#[tokio::test]
async fn what_overlaps_may_have_happened_in_either_order() {
    let mut sound = sound().await;
    // A head that is read while the batch and the swap are under way.
    for head in [1, 3, 4] {
        sound.at_times(&[("head", 26, 40), ("batch", 27, 40), ("swapped", 28, 40), ("getmany", 29, 40)]);
        sound.record("head").answer = Answer::Position(head);
        sound.check().unwrap();
    }
    // What was asked for first is recorded last.
    sound.at_times(&[("swapped", 26, 30), ("batch", 27, 40)]);
    sound.check().unwrap();
}

#[tokio::test]
async fn an_unknown_outcome_is_recorded_once_or_not_at_all() {
    let mut recorded = sound().await;
    let unknown = |record: &mut Record| (record.completed, record.answer) = (None, Answer::Unknown);
    for tag in ["set", "batch", "deleted", "absent"] {
        unknown(recorded.record(tag));
    }
    let tally = recorded.check().unwrap();
    assert_eq!((tally.unknown_recorded, tally.unknown_absent), (3, 1));
    // It may happen long after it was asked for.
    let mut late = sound().await;
    unknown(late.record("swapped"));
    late.record("swapped").invoked = 1;
    late.check().unwrap();
}

#[tokio::test]
async fn each_planted_read_is_found() {
    let plants: [Plant<Sound>; 14] = [
        ("a stale read", "it is stale: it was true at 3", |sound| {
            // What the get before the swap would have answered.
            let stale = Answer::Entry(None);
            let Answer::Pages(_, entries) = sound.record("getmany").answer.clone() else { unreachable!() };
            sound.record("get(").answer =
                entries.last().cloned().map_or(stale, |entry| Answer::Entry(Some(entry)));
        }),
        ("a read of what was never there", "it was never true", |sound| {
            let Answer::Entry(Some(entry)) = &mut sound.record("get(").answer else { unreachable!() };
            entry.value = b"never".to_vec();
        }),
        ("a read of another version than its value", "it was never true", |sound| {
            let Answer::Entry(Some(entry)) = &mut sound.record("get(").answer else { unreachable!() };
            entry.version += 1;
        }),
        ("a torn multi-key read", "the state at 3 is another", |sound| {
            let Answer::Pages(_, entries) = &mut sound.record("getmany").answer else { unreachable!() };
            entries[1].value = b"1".to_vec();
        }),
        ("a key that a multi-key read leaves out", "the state at 3 is another", |sound| {
            let Answer::Pages(_, entries) = &mut sound.record("getmany").answer else { unreachable!() };
            entries.pop();
        }),
        ("half a commit", "it is of half a commit", |sound| {
            let Answer::Pages(pages, entries) = &mut sound.record("getmany").answer else { unreachable!() };
            pages[0] = 2;
            entries.remove(0);
            sound.at_times(&[("batch", 11, 99), ("getmany", 12, 13)]);
            sound.sights.clear();
        }),
        ("pages of several states", "its pages are of several states", |sound| {
            let Answer::Pages(pages, _) = &mut sound.record("scan").answer else { unreachable!() };
            pages[1] -= 1;
        }),
        ("a position that goes back", "it is stale: it is of 4", |sound| {
            sound.record("head").answer = Answer::Position(4);
        }),
        ("a position beyond what was asked for", "it is of 6, which nobody had asked for", |sound| {
            sound.record("head").answer = Answer::Position(6);
        }),
        ("a watch from now on that begins too early", "it is stale: it is of 0", |sound| {
            sound.record("watch").answer = Answer::Position(0);
        }),
        ("an event before its write was asked for", "a watch showed 4 when only 3", |sound| {
            sound.sights[1].at = 59;
        }),
        ("a read behind a watch that has seen more", "it is stale: it was true at 3", |sound| {
            // The write is unknown, and its event the only sign of it.
            let record = sound.record("swapped");
            (record.completed, record.answer) = (None, Answer::Unknown);
            let Answer::Pages(_, entries) = sound.record("getmany").answer.clone() else { unreachable!() };
            sound.record("get(").answer = Answer::Entry(entries.last().cloned());
        }),
        ("a key that exists no more and was created", "it is stale: it was true at 5", |sound| {
            sound.at_times(&[("exists", 181, 182)]);
        }),
        ("an error where there is nothing to fail", "that is no answer", |sound| {
            sound.record("version").answer = Answer::Failed("corrupted".into());
        }),
    ];
    each_is_found(&sound().await, Sound::check, &plants);
}

#[tokio::test]
async fn each_planted_write_is_found() {
    let plants: [Plant<Sound>; 17] = [
        ("a lost write", "it is lost", |sound| sound.log.truncate(3)),
        ("a write that is nowhere", "it is lost", |sound| {
            let record = sound.record("set").clone();
            let operation = Operation::Write(write(Verb::Set, "other", &[("/a", Some("9"))]));
            sound.records.push(Record { operation, ..record });
        }),
        (
            "a write that is recorded before one that was acknowledged",
            "at 4, behind what had been asked",
            |sound| {
                // The swap is recorded behind the batch, which was not asked for before it was done.
                sound.at_times(&[("swapped", 26, 27), ("batch", 28, 29)]);
            },
        ),
        (
            "an unknown outcome that is recorded before it was asked for",
            "at 5, behind what had been asked",
            |sound| {
                let record = sound.record("swapped");
                (record.invoked, record.completed, record.answer) = (99, None, Answer::Unknown);
                sound.records.retain(|record| match &record.operation {
                    Operation::Write(write) => write.tag != "refused",
                    operation => !matches!(operation, Operation::Get(_)),
                });
                sound.sights.remove(1);
            },
        ),
        ("an unknown outcome that is applied twice", "the commit id Some(\"id\") is recorded at", |sound| {
            let mut again: Vec<Change> = sound.log[1..3].to_vec();
            for (change, at) in again.iter_mut().zip(7..) {
                let mut meta = change.meta.as_deref().unwrap().clone();
                meta.correlation = Some("repeated".into());
                (change.seq, change.commit_seq, change.meta) = (seq(at), seq(8), Some(Arc::new(meta)));
            }
            sound.log.extend(again);
        }),
        ("an attempt that is recorded twice", "set is recorded at 7 and at 1", |sound| {
            sound.log.push(Change { seq: seq(7), commit_seq: seq(7), ..sound.log[0].clone() });
        }),
        ("a retry that is told of another commit", "is recorded at 2 to 3", |sound| {
            let Answer::Receipt { first, .. } = &mut sound.record("repeated").answer else { unreachable!() };
            *first -= 1;
        }),
        ("a receipt of another version", "is recorded at 4 to 4", |sound| {
            sound.record("swapped").answer = Answer::Version(2);
        }),
        ("a refusal that is recorded", "it is recorded all the same", |sound| {
            sound.record("swapped").answer = Answer::Conflict { expected: 2, found: 3 };
        }),
        ("a write that timed out and is recorded", "it is recorded all the same", |sound| {
            sound.record("swapped").answer = Answer::Busy;
        }),
        ("a refusal by what was not there any more", "it is stale", |sound| {
            // Only before the batch was the version 1.
            sound.record("refused").answer = Answer::Conflict { expected: 2, found: 1 };
        }),
        ("a refusal that does not tell all", "it was never true", |sound| {
            let Answer::Refused(failed) = &mut sound.record("rejected").answer else { unreachable!() };
            failed.pop();
        }),
        ("a write against its condition", "should have refused it", |sound| {
            sound.write("swapped").conditions = vec![Condition::Version { key: "/a".into(), expected: 1 }];
        }),
        ("a commit of half a batch", "is not what batch asked for", |sound| {
            let kept = |change: &Change| change.seq != Seq::new(3);
            sound.log.retain(kept);
            sound.log[1].commit_seq = seq(2);
            for (change, at) in sound.log.iter_mut().zip(1..).skip(2) {
                (change.seq, change.commit_seq) = (seq(at), seq(at));
            }
        }),
        ("a deletion that left the key", "got Deleted, between 5 and 5: it is stale", |sound| {
            sound.log.truncate(5);
        }),
        ("an empty commit that had something to do", "it was never true", |sound| {
            sound.at_times(&[("empty", 101, 102)]);
            sound.record("empty").answer = Answer::Receipt { first: 6, last: 5, versions: vec![0] };
        }),
        ("a commit that nobody asked for", "nobody asked for the commit at 4", |sound| {
            sound.records.retain(
                |record| !matches!(&record.operation, Operation::Write(write) if write.tag == "swapped"),
            );
        }),
    ];
    each_is_found(&sound().await, Sound::check, &plants);
}
