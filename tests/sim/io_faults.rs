//! A fault at every operation on the disk.
//!
//! A small story is told to a store: open, commit, read, checkpoint, close, open again. It is told
//! once for every operation that it needs, and for every way in which that one may fail: an I/O
//! error, a full disk, half a write, a failed sync that loses what it was to sync; once, or from
//! then on. Whatever is acknowledged or served must be there in the end, also when the power goes
//! then or on the way; what failed for certain must not; a failure is named as it is; and what fails once does
//! not stop the store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rusqlite::ffi;

use super::commit::commit_group;
use super::power::audit;
use super::power::world::{FILE, STORE, open, sources};
use crate::backend::LogView;
use crate::backend::sqlite::sim::{Disk, Event, Fault, Files, Op, Plain, Replay, Rng, VARIANTS, Variant};
use crate::backend::sqlite::{Checkpoint, Durability, HeadFile, RecordedHead, Sqlite};
use crate::error::{Result, StateError};
use crate::log::Head;
use crate::state::Batch;

const SYNCED: Option<Durability> = Some(Durability::Synced);

/// How each kind of operation fails.
const CODES: [(Op, i32); 10] = [
    (Op::Open, ffi::SQLITE_CANTOPEN),
    (Op::Read, ffi::SQLITE_IOERR_READ),
    (Op::Write, ffi::SQLITE_IOERR_WRITE),
    (Op::Write, ffi::SQLITE_FULL),
    (Op::Truncate, ffi::SQLITE_IOERR_TRUNCATE),
    (Op::Sync, ffi::SQLITE_IOERR_FSYNC),
    (Op::Delete, ffi::SQLITE_IOERR_DELETE),
    (Op::Rename, ffi::SQLITE_IOERR),
    (Op::Lock, ffi::SQLITE_IOERR_LOCK),
    (Op::Lock, ffi::SQLITE_IOERR_SHMLOCK),
];

/// What is known of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Recorded,
    Refused,
    Unknown,
}

/// One telling of the story.
struct Story<'a> {
    disk: &'a Disk,
    fault: Option<Fault>,
    fates: BTreeMap<usize, Fate>,
    /// The heads that were acknowledged or served, after so many events.
    served: Vec<(usize, Head)>,
    rng: Rng,
}

/// Batches are named by numbers; each writes two keys, so that half of one would show.
fn keys(number: usize) -> [String; 2] {
    [format!("/{number}/a"), format!("/{number}/b")]
}

impl Story<'_> {
    fn tell(&mut self) -> Result<(), String> {
        for chapter in 0..2 {
            let Some(mut sqlite) = self.try_again(|story| open(story.disk, SYNCED, false))? else {
                return Ok(());
            };
            let Some(reader) = self.try_again(|_| sqlite.another(true))? else { return Ok(()) };
            for round in 0..3 {
                let first = chapter * 100 + round * 10;
                if !self.commit(&mut sqlite, first, 1 + round)? {
                    return Ok(()); // Closed, as the writer's thread would.
                }
                self.serve(&reader)?;
                let how = if round == 1 { Checkpoint::Empty(Duration::ZERO) } else { Checkpoint::Passive };
                if round > 0
                    && let Err(error) = sqlite.checkpoint(how)
                {
                    self.must_have_struck(&error)?;
                }
                self.serve(&reader)?;
            }
        }
        Ok(())
    }

    /// What fails once must succeed when it is tried again; none where it goes on failing.
    fn try_again<T>(&mut self, act: impl Fn(&Self) -> Result<T>) -> Result<Option<T>, String> {
        for _ in 0..2 {
            match act(self) {
                Ok(done) => return Ok(Some(done)),
                Err(error) => self.must_have_struck(&error)?,
            }
        }
        if self.fault.is_some_and(|fault| fault.sticky) { Ok(None) } else { Err("it fails for ever".into()) }
    }

    fn must_have_struck(&self, error: &StateError) -> Result<(), String> {
        match (error, self.fault) {
            _ if self.disk.struck() == 0 => Err(format!("nothing failed, but: {error}")),
            (StateError::Storage(_) | StateError::ConnectionError(_), _)
            | (StateError::StorageFull(_), Some(Fault { op: Op::Write, .. })) => Ok(()),
            _ => Err(format!("a fault is called by another name: {error:?}")),
        }
    }

    /// Commits a group; false if the store is closed for good.
    fn commit(&mut self, sqlite: &mut Sqlite, first: usize, count: usize) -> Result<bool, String> {
        let struck = self.disk.struck();
        let value = vec![self.rng.byte(); if count == 3 { 5000 } else { 20 }];
        let write = |n: usize| keys(n).into_iter().fold(Batch::new(), |b, key| b.set(key, value.clone()));
        let batches: Vec<Batch> = (first..first + count).map(write).collect();
        let outcome = commit_group(sqlite, &sources(first as u64), &batches, None);
        for (number, result) in (first..).zip(outcome.results) {
            let fate = match (result, self.fault.map(|fault| fault.op)) {
                (Ok(_), _) => Fate::Recorded,
                (Err(error), _) if self.disk.struck() == struck => {
                    return Err(format!("nothing failed meanwhile, but: {error}"));
                }
                (Err(StateError::OutcomeUnknown(_)), Some(Op::Sync | Op::Lock)) if outcome.unknown => {
                    Fate::Unknown
                }
                (Err(StateError::StorageFull(_)), Some(Op::Write))
                | (Err(StateError::Storage(_)), Some(Op::Read | Op::Lock)) => Fate::Refused,
                (Err(error), op) => return Err(format!("a failed {op:?} is called {error:?}")),
            };
            self.fates.insert(number, fate);
        }
        if let Some(tip) = outcome.tip {
            self.served.push((self.disk.now(), tip.head));
        }
        if outcome.unknown {
            // As the writer does: the connection that failed is not trusted.
            match sqlite.renewed() {
                Ok(fresh) => *sqlite = fresh,
                Err(error) => {
                    self.must_have_struck(&error)?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn serve(&mut self, reader: &Sqlite) -> Result<(), String> {
        match reader.with_snapshot(|snapshot| snapshot.and_then(LogView::tip)) {
            Ok(tip) => self.served.push((self.disk.now(), tip.head)),
            Err(error) => self.must_have_struck(&error)?,
        }
        Ok(())
    }

    /// What was served when so many events had happened must be there.
    fn still_serves(&self, sqlite: &Sqlite, at: usize) -> Result<(), String> {
        let told = self.served.iter().filter(|(when, _)| *when <= at).map(|(_, head)| head);
        let Some(head) = told.max_by_key(|head| head.seq) else { return Ok(()) };
        match sqlite.with_snapshot(|snapshot| snapshot.and_then(|s| s.hash_at(head.seq))) {
            Ok(Some(hash)) if hash == head.hash => Ok(()),
            found => Err(format!("{head} was served, but there is {found:?}")),
        }
    }

    /// Cuts the power somewhere on the way.
    fn cut(&mut self, start: &Files, events: &[Event]) -> Result<(), String> {
        let at = self.rng.below(events.len() + 1);
        let variant = VARIANTS[self.rng.below(VARIANTS.len())];
        let disk = Disk::new(&Replay::after(start, &events[..at]).image(variant, &mut self.rng), false);
        let checked = open(&disk, SYNCED, false).map_err(|error| format!("it does not open: {error}"));
        let checked = checked.and_then(|sqlite| audit(&sqlite).and(self.still_serves(&sqlite, at)));
        disk.remove();
        checked.map_err(|error| format!("after a power loss at event {at} ({variant:?}), {error}"))
    }

    /// Opens what is left, without faults.
    fn check(&self, files: &Files) -> Result<(), String> {
        let disk = Disk::new(files, false);
        let checked = self.check_on(&disk);
        disk.remove();
        checked
    }

    fn check_on(&self, disk: &Disk) -> Result<(), String> {
        let mut sqlite = open(disk, SYNCED, false).map_err(|error| format!("it does not open: {error}"))?;
        audit(&sqlite)?;
        for (number, fate) in &self.fates {
            let found = keys(*number).map(|key| sqlite.with_snapshot(|s| s.and_then(|s| s.exists(&key))));
            let [Ok(a), Ok(b)] = found else { return Err(format!("{number} cannot be read: {found:?}")) };
            if a != b || (a && *fate == Fate::Refused) || (!a && *fate == Fate::Recorded) {
                return Err(format!("batch {number} was {fate:?}, but its keys are there: {a}, {b}"));
            }
        }
        self.still_serves(&sqlite, usize::MAX)?;
        let one = [Batch::new().set("/after", "1")];
        let outcome = commit_group(&mut sqlite, &sources(1), &one, None);
        outcome.results[0].as_ref().map_err(|error| format!("it takes no commit: {error}"))?;
        audit(&sqlite).map(|_| ())
    }
}

/// Tells the story with this fault; how many operations of each kind it took.
fn tell(start: &Files, fault: Option<Fault>, seed: u64) -> Result<(bool, [usize; CODES.len()]), String> {
    let disk = Disk::after(start, &[]);
    disk.plant(fault);
    let mut story =
        Story { disk: &disk, fault, fates: BTreeMap::new(), served: Vec::new(), rng: Rng::new(seed) };
    let told = story.tell();
    let counts = CODES.map(|(op, _)| disk.count(op));
    let struck = disk.struck() > 0;
    disk.remove();
    told?;
    story.check(&disk.files()).map_err(|error| format!("in the end, {error}"))?;
    let events = disk.events();
    let image = Replay::after(start, &events).image(Variant::Lost, &mut story.rng);
    story.check(&image).map_err(|error| format!("after a power loss in the end, {error}"))?;
    story.cut(start, &events)?;
    Ok((struck, counts))
}

/// A store that its process left without closing it, so that there is something to recover.
fn killed() -> Files {
    let disk = Disk::new(&Files::from([(FILE.to_owned(), Vec::new())]), false);
    let mut sqlite = open(&disk, SYNCED, false).unwrap();
    for n in 900..903_u64 {
        let batch = Batch::new().set(format!("/{n}"), "before");
        assert!(commit_group(&mut sqlite, &sources(n), &[batch], None).results[0].is_ok());
    }
    let files = disk.files();
    disk.remove();
    files
}

/// All faults: what the disk holds, and what fails then.
fn faults() -> Vec<(&'static str, Files, Fault)> {
    let mut faults = Vec::new();
    for (name, start) in [("a new store", Files::new()), ("a killed store", killed())] {
        let (_, counts) = tell(&start, None, 1).unwrap();
        for ((op, code), count) in CODES.into_iter().zip(counts) {
            let partial: &[bool] = if matches!(op, Op::Write | Op::Sync) { &[false, true] } else { &[false] };
            for (skip, sticky, partial) in (0..count).flat_map(|skip| {
                [false, true]
                    .into_iter()
                    .flat_map(move |sticky| partial.iter().map(move |p| (skip, sticky, *p)))
            }) {
                faults.push((name, start.clone(), Fault { op, skip, code, sticky, partial }));
            }
        }
    }
    faults
}

#[test]
fn every_operation_may_fail() {
    let (faults, begin) = (faults(), Instant::now());
    let (next, struck, failures) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, start, fault)) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match tell(start, Some(*fault), fault.skip as u64) {
                        Ok((did, _)) => drop(struck.fetch_add(usize::from(did), Ordering::Relaxed)),
                        Err(error) => failures.lock().unwrap().push(format!("{name}, {fault:?}: {error}")),
                    }
                }
            });
        }
    });
    let (failures, struck) = (failures.into_inner().unwrap(), struck.into_inner());
    println!(
        "faults: {} planted, {struck} struck, {} violations ({:.0?})",
        faults.len(),
        failures.len(),
        begin.elapsed()
    );
    for failure in failures.iter().take(40) {
        println!("faults: VIOLATION {failure}");
    }
    assert!(failures.is_empty(), "{}", failures[0]);
    assert_eq!(struck, faults.len(), "every fault strikes");
}

#[test]
fn a_full_disk_fails_only_what_does_not_fit() {
    let start = killed();
    let disk = Disk::new(&start, true);
    let mut sqlite = open(&disk, SYNCED, false).unwrap();
    let small = |n: u64| Batch::new().set(format!("/small/{n}"), "1");
    let large = Batch::new().set("/large", vec![7; 300_000]);
    disk.limit(Some(150_000));
    let group = [small(1), large.clone(), small(2)];
    let outcome = commit_group(&mut sqlite, &sources(1), &group, None);
    assert!(
        matches!(outcome.results[..], [Ok(_), Err(StateError::StorageFull(_)), Ok(_)]),
        "{:?}",
        outcome.results
    );
    disk.limit(Some(0));
    let full = commit_group(&mut sqlite, &sources(2), std::slice::from_ref(&large), None);
    assert!(matches!(full.results[..], [Err(StateError::StorageFull(_))]), "{:?}", full.results);
    assert_eq!(
        audit(&sqlite),
        Ok(outcome.tip.unwrap().head),
        "it is read as ever, and nothing of it is there"
    );

    let events = disk.events();
    let image = Replay::after(&start, &events).image(Variant::Lost, &mut Rng::new(1));
    let lost = Disk::new(&image, false);
    assert_eq!(audit(&open(&lost, SYNCED, false).unwrap()), Ok(outcome.tip.unwrap().head));
    lost.remove();

    disk.limit(None);
    let fits = commit_group(&mut sqlite, &sources(3), &[large], None);
    assert_eq!(audit(&sqlite), Ok(fits.tip.unwrap().head));
    assert!(fits.results[0].is_ok());
    drop(sqlite);
    disk.remove();
}

#[test]
fn a_head_file_that_fails_fails_no_commit_and_heals() {
    for op in [Op::Read, Op::Write, Op::Lock] {
        let disk = Disk::after(&killed(), &[]);
        let mut sqlite = open(&disk, SYNCED, false).unwrap();
        let mut commit = |n: u64| {
            let batch = Batch::new().set(format!("/{n}"), "1");
            commit_group(&mut sqlite, &sources(n), &[batch], None).results.remove(0).unwrap().head
        };
        let recorded = || {
            disk.fail_plain(None);
            let file = Plain::open(&disk.path("state.db-head"), false).unwrap().unwrap();
            HeadFile::new(Box::new(file), STORE).recorded().unwrap()
        };
        let before = commit(1);
        disk.fail_plain(Some(op));
        commit(2);
        commit(3);
        assert_eq!(recorded(), RecordedHead::Reached(before), "{op:?}");
        let told = commit(4);
        assert_eq!(recorded(), RecordedHead::Reached(told), "{op:?}");
        sqlite.checkpoint(Checkpoint::Passive).unwrap();
        drop(sqlite);
        assert_eq!(audit(&open(&disk, SYNCED, false).unwrap()), Ok(told));
        disk.remove();
    }
}

#[test]
fn a_head_file_that_cannot_be_read_is_a_warning_and_forgets_no_loss() {
    let disk = Disk::after(&killed(), &[]);
    drop(open(&disk, SYNCED, false).unwrap());
    let (database, other) = (disk.files()[FILE].clone(), "state.db-wal".to_owned());
    let mut sqlite = open(&disk, SYNCED, false).unwrap();
    let commit = |sqlite: &mut Sqlite, n: u64| {
        let batch = Batch::new().set(format!("/{n}"), "1");
        commit_group(sqlite, &sources(n), &[batch], None).results.remove(0).unwrap().head
    };
    commit(&mut sqlite, 1);
    let mut files = disk.files();
    drop(sqlite);
    disk.remove();

    // The commit is lost with its log, and the head file, which knows, cannot be read just then.
    files.insert(FILE.to_owned(), database);
    files.remove(&other);
    let disk = Disk::new(&files, false);
    for read_only in [true, false] {
        disk.fail_plain(Some(Op::Read));
        let mut sqlite = open(&disk, None, read_only).unwrap();
        assert!(sqlite.warning().is_some_and(|why| why.contains("state.db-head cannot be read")));
        disk.fail_plain(None);
        if !read_only {
            // What goes on does not write over what the head file knows.
            commit(&mut sqlite, 2);
            commit(&mut sqlite, 3);
            audit(&sqlite).unwrap();
        }
    }
    let told = open(&disk, None, false).unwrap_err();
    assert!(matches!(&told, StateError::Corrupted(why) if why.contains("another hash at 4")), "{told:?}");
    disk.fail_plain(Some(Op::Open));
    let refused = open(&disk, None, false).unwrap_err();
    assert!(matches!(&refused, StateError::Storage(why) if why.what().contains("-head")), "{refused:?}");
    disk.remove();
}

/// The accident: a sync failed, and the system took the pages for clean. The process died, the
/// next one found the commit in the page cache, synced it to no effect, served it, and the power
/// went.
#[test]
fn what_a_failed_sync_lost_is_never_served() {
    let start = killed();
    let disk = Disk::after(&start, &[]);
    let mut sqlite = open(&disk, SYNCED, false).unwrap();
    let before =
        commit_group(&mut sqlite, &sources(1), &[Batch::new().set("/before", "1")], None).tip.unwrap();
    let code = ffi::SQLITE_IOERR_FSYNC;
    disk.plant(Some(Fault { op: Op::Sync, skip: 0, code, sticky: false, partial: true }));
    let failed = commit_group(&mut sqlite, &sources(2), &[Batch::new().set("/failed", "1")], None);
    assert!(failed.unknown && disk.struck() == 1);
    let sqlite = sqlite.renewed().unwrap();
    let events = disk.events();

    let after = Disk::after(&start, &events);
    let served = audit(&open(&after, None, true).unwrap()).unwrap();
    let events = after.events();
    let image = Replay::after(&start, &events).image(Variant::Lost, &mut Rng::new(1));
    let lost = Disk::new(&image, false);
    assert_eq!(audit(&open(&lost, None, false).unwrap()), Ok(served));
    assert_eq!(served, before.head);
    drop(sqlite);
    for disk in [disk, after, lost] {
        disk.remove();
    }
}

/// The accident: the first sync of many commits is that of a checkpoint. It failed, and the next one said that all was
/// well: what was committed meanwhile went into the database over a log with a hole.
#[test]
fn a_buffered_log_whose_sync_failed_is_moved_nowhere_until_it_was_emptied() {
    let start = Files::new();
    let disk = Disk::after(&start, &[]);
    let mut sqlite = open(&disk, Some(Durability::Buffered), false).unwrap();
    let commit = |sqlite: &mut Sqlite, n: u64| {
        let batch = Batch::new().set(format!("/{}", n % 3), vec![7; 3000]);
        commit_group(sqlite, &sources(n), &[batch], None).tip.unwrap().head
    };
    let beside = sqlite.another(false).unwrap();
    let mut synced = commit(&mut sqlite, 1).seq;
    // A reader keeps the log, whose first part is synced.
    beside.with_snapshot(|snapshot| {
        snapshot.and_then(LogView::tip).unwrap();
        synced = commit(&mut sqlite, 2).seq;
        sqlite.checkpoint(Checkpoint::Passive).unwrap();
    });
    commit(&mut sqlite, 3);
    let code = ffi::SQLITE_IOERR_FSYNC;
    disk.plant(Some(Fault { op: Op::Sync, skip: 0, code, sticky: false, partial: true }));
    assert!(beside.checkpoint(Checkpoint::Passive).is_err() && disk.struck() == 1);
    let from = disk.now();
    assert!(sqlite.is_log_doubtful());
    let newest = commit(&mut sqlite, 4);
    for one in [&sqlite, &beside] {
        let refused = one.checkpoint(Checkpoint::Passive).unwrap_err();
        assert!(refused.to_string().contains("could not be synced"), "{refused}");
        assert_eq!(one.last_checkpoint(), Err(refused));
    }
    let mut sqlite = sqlite.renewed().unwrap();
    assert!(!beside.is_log_doubtful());
    assert_eq!(audit(&sqlite), Ok(newest), "nothing that was acknowledged is lost without a loss of power");
    let kept = disk.now();
    commit(&mut sqlite, 5);
    beside.checkpoint(Checkpoint::Passive).unwrap();
    let events = disk.events();
    let check = |at: usize, variant, seed| {
        let image = Replay::after(&start, &events[..at]).image(variant, &mut Rng::new(seed));
        let after = Disk::new(&image, false);
        let head = open(&after, None, false).map(|sqlite| audit(&sqlite).unwrap());
        assert!(
            head.as_ref().is_ok_and(|head| at < kept || head.seq >= newest.seq),
            "{at}, {variant:?}, {seed}: {head:?}"
        );
        after.remove();
    };
    (from..=events.len()).for_each(|at| VARIANTS.iter().for_each(|variant| check(at, *variant, at as u64)));
    // What is written anew may be damaged by a loss of power, and what was synced before must not be. There are few
    // moments in which that shows, so each is tried often.
    let synced = (from..kept).find(|at| matches!(events[*at], Event::Sync { .. })).unwrap();
    for (at, seed) in (synced - 2..=synced).flat_map(|at| (0..40).map(move |seed| (at, seed))) {
        check(at, Variant::Garbage(512), seed);
        check(at, Variant::Garbage(4096), seed);
    }
    drop((sqlite, beside));
    disk.remove();
}
