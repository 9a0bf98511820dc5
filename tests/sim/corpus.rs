//! Damaged stores: every bit of several small ones turned over, pages exchanged and lost, files
//! cut, deleted, out of date, or another store's; frames of the write-ahead log exchanged, and logs
//! spliced.
//!
//! Each damaged copy is opened, once read-only and once for writing (bits in turn the one or the other),
//! and read in every way. No answer may be wrong: it is right, or an error, or (a damaged index) the entry is not
//! found, or is named in a list. Where whole pages of sound rows are put in a wrong place (an old page that came back,
//! another store's), single rows are right by themselves, and reads may answer with them: then verification must find
//! it. Opening or verification must tell of every damage, unless it changes nothing that a store holds: then every
//! table, index and mark is read by SQLite alone and found to be the same. Nothing panics.
//!
//! `UNIVRS_CORPUS=all` checks all copies instead of a part, `UNIVRS_CORPUS=100` every hundredth bit, and
//! `UNIVRS_CORPUS='NAME: DAMAGE'` the one that a failure names.
//!
//! Limits: one damage at a time; the head file is read after the checkpoint of an opening, not
//! before; memory is bounded by what SQLite and the decoders check, and not measured here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod damage;
mod truth;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::OpenFlags;
use rusqlite::types::ValueRef;

use self::damage::{Damage, Subject, WITNESS, raw};
use self::truth::{Answers, Truth};
use super::power::world::{FILE, open};
use super::verify;
use crate::backend::sqlite::sim::{Disk, Files, Times, loss};
use crate::error::StateError;
use crate::log::StoreId;

/// Of the bits, every so-many-th is turned over, if not all are.
const STRIDE: usize = 701;
/// Bits of an index that once had a read by key answer with the row of another one.
const ONCE_WRONG: [usize; 8] = [16_477, 16_510, 19_978, 20_178, 131_165, 131_198, 163_338, 163_538];
/// The longest that a damaged copy may take: nothing hangs.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Default)]
struct Totals {
    images: usize,
    /// Those of them with one bit turned over.
    flips: usize,
    /// How often each outcome came.
    outcomes: BTreeMap<&'static str, usize>,
    hidden: usize,
    invented: usize,
    failed_reads: usize,
    silent: Vec<String>,
    wrong: Vec<String>,
}

#[test]
fn damage_is_found_and_never_answers() {
    let asked = std::env::var("UNIVRS_CORPUS").unwrap_or_default();
    let start = Instant::now();
    let totals = Mutex::new(Totals::default());
    for (name, page, checkpointed, compacted) in [
        ("small pages", 512, true, false),
        ("log", 512, false, false),
        ("large pages", 4096, true, false),
        ("compacted", 512, true, true),
    ] {
        let subject = Subject::new(name, page, checkpointed, compacted);
        let damages: Vec<Damage> = match asked.as_str() {
            "all" => subject.damages(),
            some if stride(some).is_some() => {
                let stride = stride(some).unwrap_or(STRIDE);
                subject.damages().into_iter().filter(|damage| is_chosen(damage, page, stride)).collect()
            }
            one => subject.damages().into_iter().filter(|d| format!("{name}: {d}") == one).collect(),
        };
        run(&subject, &damages, &totals);
    }
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "corpus: {} images, {} of them flips, {} silent, {} wrong ({:?}; {} reads failed, {} entries hidden and {} keys invented \
         by indexes, {:.0?})",
        totals.images,
        totals.flips,
        totals.silent.len(),
        totals.wrong.len(),
        totals.outcomes,
        totals.failed_reads,
        totals.hidden,
        totals.invented,
        start.elapsed(),
    );
    for violation in totals.wrong.iter().chain(&totals.silent).take(60) {
        println!("corpus: VIOLATION UNIVRS_CORPUS='{violation}");
    }
    assert!(totals.images > 0, "UNIVRS_CORPUS names no damage");
    assert!(totals.wrong.is_empty() && totals.silent.is_empty(), "see the violations above");
}

/// Of how many bits one is turned over, where a part is asked for.
fn stride(asked: &str) -> Option<usize> {
    if asked.is_empty() { Some(STRIDE) } else { asked.parse().ok() }
}

/// Whether a shorter run does it.
fn is_chosen(damage: &Damage, page: usize, stride: usize) -> bool {
    /// Where a page says how many rows it has: one too many is one that was there once, and is sound.
    const CELLS: usize = 4;
    match damage {
        Damage::Bit(WITNESS, bit) => bit % 7 == 0,
        Damage::Bit(FILE, bit) if bit / 8 % page == CELLS || ONCE_WRONG.contains(bit) => true,
        Damage::Bit(_, bit) => bit % stride == 0,
        Damage::Swap(a, b)
        | Damage::Duplicate(a, b)
        | Damage::SwapFrames(a, b)
        | Damage::DuplicateFrame(a, b) => (a * 31 + b) % 5 == 0,
        _ => true,
    }
}

fn run(subject: &Subject, damages: &[Damage], totals: &Mutex<Totals>) {
    let disk = disk(&subject.files);
    let sqlite = open(&disk, None, true).unwrap();
    let truth = Truth::of(&sqlite);
    let answers = truth.ask(&sqlite);
    assert_eq!((answers.wrong.len(), answers.hidden, answers.failed), (0, 0, 0), "{:?}", answers.wrong);
    let intact = Intact { truth, store: sqlite.id(), content: content(&disk).unwrap() };
    drop(sqlite);
    let found = check(&subject.files, true, false, &intact).map(|found| found.outcome);
    assert_eq!(found, Ok("harmless"), "the intact store is no damage");
    disk.remove();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(damage) = damages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Some(files) = subject.damaged(damage) else { continue };
                    for &read_only in damage.modes() {
                        let began = Instant::now();
                        let one = || check(&files, read_only, damage.moves_sound_rows(), &intact);
                        let checked = catch_unwind(AssertUnwindSafe(one))
                            .unwrap_or_else(|_| Err("it panics".to_owned()))
                            .and_then(|found| match began.elapsed() {
                                took if took > PATIENCE => Err(format!("it took {took:?}")),
                                _ => Ok(found),
                            });
                        let label = format!("{}: {damage}' (read-only: {read_only})", subject.name);
                        totals.lock().unwrap_or_else(PoisonError::into_inner).count(&label, damage, checked);
                    }
                }
            });
        }
    });
}

/// A disk that tells of no time. What rots in a file does not change when it was last written, so nobody doubts that
/// it is the file of its log, and reads meet the damage.
fn disk(files: &Files) -> Arc<Disk> {
    let disk = Disk::new(files, false);
    disk.set_times(Times::None);
    disk
}

/// What a store is before the damage.
struct Intact {
    truth: Truth,
    store: StoreId,
    content: String,
}

/// What became of a damaged copy.
struct Found {
    outcome: &'static str,
    hidden: usize,
    invented: usize,
    failed: usize,
}

impl Found {
    fn told(outcome: &'static str) -> Self {
        Self { outcome, hidden: 0, invented: 0, failed: 0 }
    }
}

impl Totals {
    fn count(&mut self, label: &str, damage: &Damage, checked: std::result::Result<Found, String>) {
        self.images += 1;
        self.flips += usize::from(matches!(damage, Damage::Bit(..)));
        match checked {
            Ok(found) => {
                *self.outcomes.entry(found.outcome).or_default() += 1;
                self.hidden += found.hidden;
                self.invented += found.invented;
                self.failed_reads += found.failed;
                if found.outcome == "silent" {
                    self.silent.push(format!("{label}: nothing tells of it"));
                }
            }
            Err(wrong) => self.wrong.push(format!("{label}: {wrong}")),
        }
    }
}

/// Opens a damaged copy, asks it everything, verifies it.
fn check(
    files: &Files,
    read_only: bool,
    sound_rows: bool,
    intact: &Intact,
) -> std::result::Result<Found, String> {
    let disk = disk(files);
    let checked = (|| {
        let sqlite = match open(&disk, None, read_only) {
            Ok(sqlite) => sqlite,
            Err(error) => return told(&error).map(Found::told),
        };
        match loss(&sqlite, files.get(WITNESS).map_or(&[], Vec::as_slice)) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(Found::told("refused: the head file says that changes are missing")),
            Err(error) => return told(&error).map(Found::told),
        }
        if sqlite.id() != intact.store && files.get(WITNESS).is_some_and(|file| !file.is_empty()) {
            let verified = sqlite
                .with_snapshot(|s| s.and_then(|s| verify::verify(s, &super::Verify::full(), &|| false)));
            if verified.is_ok_and(|report| report.is_intact()) {
                return Ok(Found::told("another store, and a whole one"));
            }
        }
        let answers = intact.truth.ask(&sqlite);
        let report =
            sqlite.with_snapshot(|s| s.and_then(|s| verify::verify(s, &super::Verify::full(), &|| false)));
        drop(sqlite);
        let outcome = match report {
            Err(error) => told(&error)?,
            Ok(report) if !report.is_intact() => "found by verification",
            Ok(_) if content(&disk).is_ok_and(|found| found == intact.content) => "harmless",
            Ok(_) => "silent",
        };
        let Answers { hidden, invented, failed, .. } = answers;
        let found = Found { outcome, hidden, invented, failed };
        if outcome == "harmless" && (failed, hidden, invented) != (0, 0, 0) {
            return Err("reads fail or miss something, and verification finds nothing".into());
        }
        if outcome == "found by verification" && sound_rows && !answers.wrong.is_empty() {
            return Ok(Found {
                outcome: "answers with sound rows in a wrong place, found by verification",
                ..found
            });
        }
        match answers.wrong.first() {
            Some(wrong) => Err(format!("{outcome}, but a wrong answer: {wrong}")),
            None => Ok(found),
        }
    })();
    disk.remove();
    checked
}

/// The outcome that an error is; a damaged store is neither busy nor out of space.
fn told(error: &StateError) -> std::result::Result<&'static str, String> {
    match error {
        StateError::CannotOpen { .. } => Ok("refused: no store"),
        StateError::Corrupted(_) => Ok("refused: corrupted"),
        StateError::Storage(_) => Ok("refused: SQLite cannot read it"),
        other => Err(format!("damage is called {other:?}")),
    }
}

/// Everything in the file that means anything, as SQLite reads it: tables without their indexes,
/// indexes without their tables, the schema and the marks. `jump` is derived and never compared.
fn content(disk: &Disk) -> std::result::Result<String, rusqlite::Error> {
    let conn = raw(disk, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut content = blake3::Hasher::new();
    for query in [
        "SELECT seq, commit_seq, at, kind, key, version, created_at, prev, value, salt, value_hash, meta, hash, before \
         FROM changes NOT INDEXED",
        "SELECT rowid, * FROM kv_store NOT INDEXED",
        "SELECT key, rowid FROM kv_store ORDER BY key",
        "SELECT rowid, * FROM tombstones NOT INDEXED",
        "SELECT key, rowid FROM tombstones ORDER BY key",
        "SELECT * FROM commit_ids",
        "SELECT * FROM meta",
        "SELECT type, name, tbl_name, sql FROM sqlite_schema",
        "PRAGMA application_id",
        "PRAGMA user_version",
        "PRAGMA encoding",
        "PRAGMA integrity_check",
    ] {
        let mut statement = conn.prepare(query)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                match row.get_ref(column)? {
                    ValueRef::Null => content.update(b"null"),
                    ValueRef::Integer(n) => content.update(b"i").update(&n.to_le_bytes()),
                    ValueRef::Real(n) => content.update(b"r").update(&n.to_le_bytes()),
                    ValueRef::Text(bytes) => {
                        content.update(format!("t{}", bytes.len()).as_bytes()).update(bytes)
                    }
                    ValueRef::Blob(bytes) => {
                        content.update(format!("b{}", bytes.len()).as_bytes()).update(bytes)
                    }
                };
            }
        }
    }
    Ok(content.finalize().to_hex().to_string())
}
