//! Log files with a base: what a compaction leaves of a log, and all that came after it.
//!
//! Each is written from the changes of a store, read, and read again with bits turned over and cut at every byte: it is read
//! as it was written, or refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use self::based_log::{COMPACTION, Case, Log, PLAIN, STORE, Without, cases};
use super::{Earlier, Form, LogReader, LoggedChange, Start, contradicts, log_item};
use crate::error::{Result, StateError};
use crate::log::{Change, Decoder, Hash, Head, LastMeta, cause};
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::state::{BaseSeal, Compaction, Forgetting, KeyVersion};

mod based_log;

/// What a file has: its start, its base, and its changes; of what is withheld the chain before it and the hash of the header.
#[derive(Debug, PartialEq)]
struct Read {
    start: Start,
    base: Vec<(Hash, std::result::Result<Change, Hash>)>,
    changes: Vec<std::result::Result<Change, Hash>>,
    head: Head,
}

/// Reads a file to its end, as what makes a store of it does.
fn read(bytes: &[u8]) -> Result<Read> {
    let mut reader = LogReader::new(bytes)?;
    let start = reader.start();
    let (mut base, mut changes) = (Vec::new(), Vec::new());
    let mut last: BTreeMap<Arc<str>, KeyVersion> = BTreeMap::new();
    let mut forgetting = Forgetting::default();
    let mut follow = |change: &Change, is_part| {
        let before = last.insert(change.key.clone(), KeyVersion::from_change(change));
        let before = before.filter(|last| last.is_live() || !forgetting.covers(&change.key, last.seq));
        let wrong = contradicts(change, before, Earlier::at(start.floor.seq, is_part, forgetting.version()));
        forgetting.take(&change.key, change.value.as_deref());
        wrong.map_or(Ok(()), |what| Err(StateError::Corrupted(format!("change {}: {what}", change.seq))))
    };
    let mut is_part = start.base.is_none();
    while let Some(logged) = reader.next()? {
        match logged {
            LoggedChange::Base { before, change } => {
                assert!(changes.is_empty(), "the base comes first");
                follow(&change, true)?;
                base.push((before, Ok(change)));
            }
            LoggedChange::WithheldBase { before, header } => {
                is_part = true;
                base.push((before, Err(header)));
            }
            LoggedChange::Change(change) => {
                follow(&change, is_part)?;
                changes.push(Ok(change));
            }
            LoggedChange::Withheld(header) => changes.push(Err(header)),
        }
    }
    Ok(Read { start, base, changes, head: reader.head() })
}

#[tokio::test]
async fn a_file_with_a_base_reads_as_it_was_written() {
    for case in cases().await {
        let Case { name, log, compaction, without } = &case;
        let (floor, left) = (log.at(compaction.floor), log.left(*compaction));
        let found = read(&case.file()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.head, log.tip().head);
        let count = Some(left.len() as u64);
        assert_eq!(found.start, Start { base: count, ..Start::new(STORE, floor.head(), Some(floor.at)) });
        let after = log.changes.iter().filter(|change| change.seq > floor.seq);
        let pattern: Option<Pattern> = without.keys.map(|keys| keys.parse().unwrap());
        let same = |found: &std::result::Result<Change, Hash>, change: &Change| match found {
            Ok(found) if without.values && found.value.is_none() => {
                *found == Change { value: None, salt: None, ..change.clone() }
            }
            Ok(found) => found == change,
            Err(header) => *header == change.header_hash() && pattern.as_ref().unwrap().matches(&change.key),
        };
        assert_eq!((found.base.len(), found.changes.len()), (left.len(), after.clone().count()));
        for ((before, found), change) in found.base.iter().zip(left) {
            assert!(same(found, change) && *before == log.before(change.seq), "{name}: {change:?}");
        }
        assert!(found.changes.iter().zip(after).all(|(found, change)| same(found, change)), "{name}");
    }
}

#[tokio::test]
async fn a_damaged_file_with_a_base_is_refused() {
    for case in cases().await {
        let (name, file) = (case.name, case.file());
        let whole = read(&file).unwrap();
        for length in 0..file.len() {
            assert!(read(&file[..length]).is_err(), "{name}: cut to {length}");
        }
        // Of all but one, every seventh bit.
        for bit in (0..file.len() * 8).step_by(if name == "plain" { 1 } else { 7 }) {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let Ok(taken) = read(&damaged) else { continue };
            // Nothing proves a base of which the log says nothing, nor the store and the time there.
            let is_proved = (&taken.changes, taken.head) == (&whole.changes, whole.head);
            assert!(!case.is_recorded() && is_proved, "{name}: bit {bit} is not missed");
        }
    }
}

/// The items of a file behind its start.
fn items(file: &[u8]) -> Vec<&[u8]> {
    let mut decoder = Decoder::new(file);
    log_item::read_start(&mut decoder).unwrap();
    let mut items = Vec::new();
    while !decoder.is_empty() {
        let before = decoder.rest();
        log_item::read_item(&mut decoder, &mut LastMeta::default()).unwrap();
        items.push(decoder.since(before));
    }
    items
}

#[tokio::test]
async fn a_file_with_a_base_has_its_items_in_their_order() {
    for case in cases().await.iter().filter(|case| case.is_recorded()) {
        let file = case.file();
        let (whole, items) = (read(&file).unwrap(), items(&file));
        let start = |more: u64| {
            let base = whole.start.base.map(|count| count + more - 1);
            log_item::start(&Start { base, ..whole.start })
        };
        let starts = [start(0), start(1), start(2)];
        let taken = |items: &[&[u8]]| {
            let files = starts.iter().map(|start| [start.as_slice(), &items.concat()].concat());
            files.filter(|file| read(file).is_ok()).count()
        };
        assert_eq!(taken(&items), 1, "{}", case.name);
        for one in 0..items.len() {
            let mut fewer = items.clone();
            let removed = fewer.remove(one);
            assert_eq!(taken(&fewer), 0, "{}: without {one}", case.name);
            for place in (0..items.len()).filter(|place| *place != one) {
                let mut moved = fewer.clone();
                moved.insert(place, removed);
                assert_eq!(taken(&moved), 0, "{}: {one} at {place}", case.name);
            }
            for place in 0..=items.len() {
                let mut twice = items.clone();
                twice.insert(place, removed);
                assert_eq!(taken(&twice), 0, "{}: {one} again at {place}", case.name);
            }
        }
    }
}

/// Reads a file to its end without looking at its keys.
fn drain(bytes: &[u8]) -> Result<Start> {
    let mut reader = LogReader::new(bytes)?;
    while reader.next()?.is_some() {}
    Ok(reader.start())
}

fn why<T: std::fmt::Debug>(read: Result<T>) -> String {
    match read.expect_err("it is refused") {
        StateError::Corrupted(why) => why,
        error => panic!("{error}"),
    }
}

/// The file of the first log, with this base instead of the one that was left.
fn file_with(log: &Log, base: &[&Change]) -> Vec<u8> {
    log.written(PLAIN.floor, Some(base), Without::default(), Form::Cbor)
}

/// A log that says nothing of its base.
async fn silent_log() -> Log {
    let mut log = Log::new().await;
    log.record("/.univrs/marks/m", "{}", "restored");
    log
}

#[tokio::test]
async fn a_base_is_the_one_that_its_log_names() {
    const NAMED: &str = "the base of the log file is not the one that its log says was left at 9";
    let log = &cases().await[0].log;
    let left = log.left(PLAIN);
    assert!(read(&file_with(log, &left)).is_ok());
    for at in 0..left.len() {
        let mut fewer = left.clone();
        fewer.remove(at);
        assert_eq!(why(drain(&file_with(log, &fewer))), NAMED, "without {:?}", left[at]);
    }
    let mut more = left.clone();
    more.insert(0, log.at(2));
    assert_eq!(why(drain(&file_with(log, &more))), NAMED);
    // Where the log names none, nothing tells.
    let log = silent_log().await;
    let left = log.left(PLAIN);
    assert!(read(&file_with(&log, &left[1..])).is_ok());
}

#[tokio::test]
async fn the_newest_record_of_its_floor_names_the_base() {
    let with = async |records: &[&Value]| {
        let mut log = Log::new().await;
        for record in records {
            log.record(COMPACTION, &record.to_string(), "compacted");
        }
        read(&log.file(PLAIN, Without::default())).is_ok()
    };
    let log = Log::new().await;
    let floor = log.at(PLAIN.floor);
    let (count, digest) = (log.left(PLAIN).len() as u64, log.digest(PLAIN));
    let base = Some(BaseSeal { count, digest });
    let (floor_head, at) = (floor.head(), floor.at);
    let right =
        Compaction { floor: floor_head, at, keep: Vec::new(), forgotten: None, lost: Vec::new(), base };
    let right: Value = serde_json::from_slice(&right.encode().unwrap()).unwrap();
    let but = |name: &str, value: Value| {
        let mut other = right.clone();
        other[name] = value;
        other
    };
    let without = |name: &str, from: &Value| {
        let mut other = from.clone();
        other.as_object_mut().unwrap().remove(name);
        other
    };
    let wrong = but("digest", json!(Hash::from_bytes([9; 32])));
    assert!(with(&[]).await && with(&[&right]).await);
    let hash = json!(Hash::from_bytes([9; 32]));
    let late = json!(floor.at.as_micros() + 1);
    for other in [wrong.clone(), but("count", json!(count + 1)), but("at", late), but("hash", hash)] {
        assert!(!with(&[&other]).await, "{other}");
        assert!(!with(&[&right, &other]).await, "{other}");
        assert!(with(&[&other, &right]).await, "{other}: a newer one holds");
    }
    let begun = without("digest", &without("count", &right));
    assert!(with(&[&wrong, &begun]).await, "another compaction goes on");
    assert!(!with(&[&wrong, &but("floor", json!(8))]).await, "one at another floor");
    assert!(!with(&[&without("v", &wrong)]).await, "a record without a format has the first one");
    for unknown in [but("v", json!(2)), json!("no record"), without("digest", &right)] {
        assert!(with(&[&wrong, &unknown]).await, "{unknown}");
    }
}

#[tokio::test]
async fn a_base_has_as_many_changes_as_its_start_says_directly_behind_it() {
    let log = silent_log().await;
    let start = |base| {
        let floor = log.at(PLAIN.floor);
        log_item::start(&Start { base, ..Start::new(STORE, floor.head(), Some(floor.at)) })
    };
    let left = log.left(PLAIN);
    let file = file_with(&log, &left);
    let items = &file[start(Some(left.len() as u64)).len()..];
    let claims = |base| [&start(base), items].concat();
    assert_eq!(claims(Some(5)), file);
    assert_eq!(
        why(drain(&claims(Some(6)))),
        "the base of the log file lacks 1 of the changes that its start says it has"
    );
    assert_eq!(
        why(drain(&claims(Some(9)))),
        "the base of the log file lacks 4 of the changes that its start says it has"
    );
    for fewer in [Some(4), Some(0), None] {
        assert_eq!(
            why(drain(&claims(fewer))),
            "the base of the log file has more changes than its start says"
        );
    }
    assert!(why(drain(&claims(Some(10)))).contains("says that it has what cannot be there"));
    let empty = drain(&file_with(&log, &[])).unwrap();
    assert_eq!(empty.base, Some(0), "all keys may have been forgotten");
    let empty = why(drain(&file_with(&log, &[log.at(10)])));
    assert!(empty.starts_with("change 10 is not in its place"), "{empty}");
}

// Whoever follows a file from key to key asks this of each change.
#[tokio::test]
async fn a_key_goes_on_from_the_base_or_begins_behind_it() {
    const WRONG: &str = "its version or prev does not continue the key's previous change";
    let log = silent_log().await;
    let left = log.left(PLAIN);
    let but = |seq| left.iter().copied().filter(|change| change.seq.as_u64() != seq).collect::<Vec<_>>();
    assert_eq!(why(read(&file_with(&log, &but(4)))), format!("change 10: {WRONG}"), "/a is not there");
    assert_eq!(why(read(&file_with(&log, &but(9)))), format!("change 12: {WRONG}"), "/e was deleted at 9");
    let mut replaced = but(4);
    replaced.insert(0, log.at(1));
    assert_eq!(why(read(&file_with(&log, &replaced))), format!("change 10: {WRONG}"), "/a had a newer state");
    let mut twice = left.clone();
    twice.insert(0, log.at(1));
    assert!(read(&file_with(&log, &twice)).is_ok(), "a history that goes on step by step");
    let hidden = Without { keys: Some("/a"), in_base: true, ..Without::default() };
    assert!(read(&log.file(PLAIN, hidden)).is_ok(), "/a may be what is withheld");
}

#[tokio::test]
async fn a_key_that_was_forgotten_begins_behind_all_versions_that_were() {
    let mut read_with = Vec::new();
    for version in [1, 9, 10, 11] {
        for migrated in [false, true] {
            let Case { mut log, compaction, .. } = cases().await.swap_remove(2);
            let again = log.changes.last().unwrap();
            assert_eq!((&*again.key, again.version, again.prev), ("/b", 10, Seq::ZERO));
            log.create("/x", version, migrated.then_some(cause::MIGRATED));
            let file = |base: Option<&[&Change]>| {
                let file = log.written(compaction.floor, base, Without::default(), Form::Cbor);
                read(&file).is_ok()
            };
            read_with.push((version, migrated, file(Some(&log.left(compaction))), file(None)));
        }
    }
    // With the base, and without it, where more may have been forgotten than is known.
    let expected = [
        (1, false, false, false),
        (1, true, true, true),
        (9, false, false, false),
        (9, true, true, true),
        (10, false, true, true),
        (10, true, true, true),
        (11, false, false, true),
        (11, true, true, true),
    ];
    assert_eq!(read_with, expected);
}

#[tokio::test]
async fn lines_of_json_show_the_base() {
    let log = silent_log().await;
    let without = Without { keys: Some("/k/*"), ..Without::default() };
    let lines = log.written(PLAIN.floor, Some(&log.left(PLAIN)), without, Form::Ndjson);
    let lines: Vec<Value> =
        String::from_utf8(lines).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!(lines[0]["base"], 5);
    let shown: Vec<_> = of("base").iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(shown, [3, 4, 5, 9]);
    for line in of("base") {
        let seq = Seq::new(line["seq"].as_u64().unwrap());
        assert_eq!(line["before"], json!(log.before(seq)));
        assert_eq!(line["hash"], json!(log.at(seq.as_u64()).hash));
    }
    let [hidden] = of("withheld_base")[..] else { panic!("one is withheld") };
    let expected = (json!(log.before(Seq::new(7))), json!(log.at(7).header_hash()));
    assert_eq!((&hidden["before"], &hidden["header_hash"]), (&expected.0, &expected.1));
}

/// Files that were written once, and are written and read the same for ever.
#[tokio::test]
async fn files_with_a_base_are_what_they_were_when_they_were_frozen() {
    const FROZEN: [(&str, &[u8]); 2] = [
        ("plain", include_bytes!("../fixtures/base.log")),
        ("without a key", include_bytes!("../fixtures/base-part.log")),
    ];
    let cases = cases().await;
    for (name, frozen) in FROZEN {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let file = case.file();
        assert!(file == frozen, "{name}: it is written otherwise");
    }
}
