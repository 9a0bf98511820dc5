//! A database file under a log that is not its own.
//!
//! A store works and rests, again and again. Every state in which its database file rested, and every copy that
//! `VACUUM INTO` made, is then laid under the log of every other moment: with the head file of the one, of the
//! other, of a version without pairs, and without any; by copies that keep times and copies that do not. Each of
//! them must give the answers of the log, or be refused and left as it is, byte for byte. And whatever a kill or a
//! loss of power leaves of a log that is started over, moved in part or as a whole, or closed, must open.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::commit::commit_group;
use super::power::world::{FILE, open, opening, sources};
use super::verify::judge;
use crate::backend::LogView;
use crate::backend::sqlite::sim::{Disk, Files, Replay, Rng, Times, VARIANTS};
use crate::backend::sqlite::{Checkpoint, Durability, Judge, Opening, Sqlite};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::seq::Seq;
use crate::state::Batch;

const WAL: &str = "state.db-wal";
const HEAD: &str = "state.db-head";
const TRUNCATE: Checkpoint = Checkpoint::Empty(Duration::ZERO);

/// Everything that a store answers.
type Content = String;

fn content(sqlite: &Sqlite) -> Result<Content> {
    let mut lines = Vec::new();
    sqlite.with_snapshot(|snapshot| {
        let snapshot = snapshot?;
        snapshot.rows(&KeyRange::prefix(""), None, true, &mut |row| {
            lines.push(format!("{row:?}"));
            Ok(ControlFlow::Continue(()))
        })?;
        snapshot.changes(Seq::ZERO, &mut |change| {
            lines.push(format!("{} {change:?}", change.head()));
            Ok(ControlFlow::Continue(()))
        })
    })?;
    Ok(lines.join("\n"))
}

/// The last position in the log of a content.
fn end(sqlite: &Sqlite) -> Seq {
    sqlite.with_snapshot(|snapshot| snapshot.and_then(LogView::tip)).unwrap().head.seq
}

/// A store that was not closed, at a moment when nobody works on it.
struct Moment {
    files: Files,
    content: Content,
    seq: Seq,
    /// A copy that `VACUUM INTO` made of the database then.
    copy: Option<Vec<u8>>,
}

impl Moment {
    fn of(disk: &Disk, sqlite: &Sqlite) -> Self {
        let mut files = disk.files();
        files.retain(|name, _| [FILE, WAL, HEAD].contains(&name.as_str()));
        Self { files, content: content(sqlite).unwrap(), seq: end(sqlite), copy: None }
    }

    fn has_log(&self) -> bool {
        self.files.get(WAL).is_some_and(|log| log.len() > 32)
    }
}

fn commit(sqlite: &mut Sqlite, rng: &mut Rng) {
    let key = |rng: &mut Rng| format!("/k/{}", rng.below(9));
    let value = |rng: &mut Rng| vec![rng.byte(); [10, 400, 6000][rng.below(3)]];
    let batch = (0..=rng.below(3)).fold(Batch::new(), |batch, _| batch.set(key(rng), value(rng)));
    let batch = if rng.once_in(3) { batch.delete(key(rng)) } else { batch };
    let outcome = commit_group(sqlite, &sources(rng.next()), &[batch], None);
    outcome.results.into_iter().for_each(|result| drop(result.unwrap()));
}

/// A plain connection, as another program has it.
fn raw(disk: &Disk) -> rusqlite::Connection {
    rusqlite::Connection::open_with_flags_and_vfs(
        disk.path(FILE),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX,
        "univrs-sim",
    )
    .unwrap()
}

/// The moments of a store, as seldom as a file of its own is left by each of them.
fn history(durability: Durability, seed: u64, rounds: usize) -> Vec<Moment> {
    let disk = Disk::new(&Files::new(), false);
    let mut rng = Rng::new(seed);
    let mut sqlite = open(&disk, Some(durability), false).unwrap();
    let mut moments = Vec::new();
    for round in 0..rounds {
        for _ in 0..=rng.below(2) {
            commit(&mut sqlite, &mut rng);
        }
        moments.push(Moment::of(&disk, &sqlite));
        match round % 6 {
            // All of the log is moved, and the next commit starts it over.
            0 | 5 => drop(sqlite.checkpoint(Checkpoint::Passive).unwrap()),
            // A reader keeps a part of it from being moved.
            1 | 3 => {
                let reader = sqlite.another(true).unwrap();
                reader.with_snapshot(|snapshot| {
                    snapshot.and_then(LogView::tip).unwrap();
                    commit(&mut sqlite, &mut rng);
                    sqlite.checkpoint(Checkpoint::Passive).unwrap();
                });
            }
            2 => drop(sqlite.checkpoint(TRUNCATE).unwrap()),
            _ => {
                drop(sqlite);
                sqlite = open(&disk, None, false).unwrap();
            }
        }
        let mut moment = Moment::of(&disk, &sqlite);
        if round % 4 == 0 {
            let conn = raw(&disk);
            conn.execute_batch("PRAGMA temp_store = MEMORY").unwrap();
            conn.execute("VACUUM INTO ?1", [disk.path("copy.db")]).unwrap();
            moment.copy = disk.files().get("copy.db").cloned();
            disk.remove_file("copy.db");
        }
        moments.push(moment);
    }
    drop(sqlite);
    disk.remove();
    moments
}

/// An opening that counts how often it verifies.
fn counting(opening: Opening) -> (Opening, Arc<AtomicUsize>) {
    let (counter, real) = (Arc::new(AtomicUsize::new(0)), judge(None));
    let count = counter.clone();
    let counts = Judge::new(move |snapshot| {
        count.fetch_add(1, Ordering::Relaxed);
        real.judge(snapshot)
    });
    (Opening { judge: counts, ..opening }, counter)
}

/// A head file as a version wrote it that knew no pairs: the second half of each slot was never written.
fn without_pairs(head: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    for slot in [72..512, 512 + 72..bytes.len()] {
        bytes[slot].fill(0);
    }
    bytes
}

/// The newest head that a head file names, which of a buffered store may be an older one.
fn named(head: &[u8]) -> Seq {
    let slots = [0, 512].into_iter().filter_map(|slot| head.get(slot + 16..slot + 24)?.try_into().ok());
    Seq::new(slots.map(u64::from_be_bytes).max().unwrap_or(0))
}

/// What came of opening files: whether it opened, and how often it verified.
struct Opened {
    content: Option<Content>,
    verified: usize,
}

/// Opens files; a refusal must leave them as they are, whoever asks again.
fn opened(files: &Files, times: Times, read_only: bool) -> std::result::Result<Opened, String> {
    let disk = Disk::new(files, false);
    disk.set_times(times);
    let is_unchanged = |disk: &Disk| {
        let now = disk.files();
        [FILE, WAL].iter().all(|name| now.get(*name) == files.get(*name))
    };
    let done = (|| {
        let (first, verified) = counting(opening(&disk, None, read_only));
        let once = || verified.load(Ordering::Relaxed);
        match first.first() {
            Ok(sqlite) => {
                let found = content(&sqlite).map_err(|error| format!("it opens, but {error}"))?;
                drop(sqlite);
                let verified = once();
                let again = match open(&disk, None, false) {
                    // SQLite refuses to move a log into a file that is much too short for it, though every page that
                    // is in use is in the log.
                    Err(StateError::Corrupted(_)) if is_unchanged(&disk) => {
                        return Ok(Opened { content: None, verified });
                    }
                    again => again.map_err(|error| format!("it opens once, but {error}"))?,
                };
                if content(&again).as_ref() != Ok(&found) {
                    return Err("it answers differently when it is opened again".into());
                }
                Ok(Opened { content: Some(found), verified })
            }
            Err(error @ StateError::Corrupted(_)) => {
                let verified = once();
                for (read_only, accept_loss) in [(true, false), (false, false), (false, true)] {
                    let again = Opening { accept_loss, ..opening(&disk, None, read_only) };
                    // Whoever only reads moves no log, so SQLite may refuse a writer alone.
                    let by_sqlite = error.to_string().contains("SQLite cannot read");
                    let again = again.first().err();
                    if !accept_loss && !by_sqlite && again.as_ref() != Some(&error) {
                        return Err(format!("it is refused only once: {error}"));
                    }
                    if !accept_loss && !is_unchanged(&disk) {
                        return Err(format!("it was changed although it was refused: {error}"));
                    }
                }
                Ok(Opened { content: None, verified })
            }
            Err(error) => Err(format!("it is refused as {error:?}")),
        }
    })();
    disk.remove();
    done
}

/// One database under one log.
struct Trial<'a> {
    database: &'a Vec<u8>,
    log: &'a Moment,
    head: Option<Vec<u8>>,
    what: String,
    /// What it may answer.
    right: Vec<&'a Content>,
    /// Whether nothing was exchanged.
    own: bool,
}

fn trials(moments: &[Moment]) -> Vec<Trial<'_>> {
    let mut trials = Vec::new();
    let mut seen = HashSet::new();
    for (j, log) in moments.iter().enumerate().filter(|(_, moment)| moment.has_log()) {
        for (i, older) in moments.iter().enumerate() {
            let copies = older.copy.iter().map(|copy| (copy, "a copy"));
            for (database, kind) in [(&older.files[FILE], "the file")].into_iter().chain(copies) {
                let is_his = *database == log.files[FILE];
                let (his, its) = (&older.files[HEAD], &log.files[HEAD]);
                let heads = [
                    ("its log", Some(its.clone())),
                    ("it", Some(his.clone())),
                    ("none", None),
                    ("before pairs", Some(without_pairs(its))),
                ];
                for (name, head) in heads {
                    if !seen.insert((j, database, head.clone())) {
                        continue;
                    }
                    // An older log under a newer file may be a store of a moment before, if no head file knows better.
                    let least = head.as_deref().map_or(Seq::ZERO, named);
                    let right = if i <= j || is_his {
                        vec![&log.content]
                    } else {
                        moments
                            .iter()
                            .filter(|moment| moment.seq >= least)
                            .map(|moment| &moment.content)
                            .collect()
                    };
                    let what = format!("{kind} of moment {i} under the log of {j}, head file of {name}");
                    let own = moments.iter().any(|moment| {
                        let files = &moment.files;
                        (Some(&files[HEAD]), &files[FILE]) == (head.as_ref(), database)
                            && files.get(WAL) == log.files.get(WAL)
                    });
                    trials.push(Trial { database, log, head, what, right, own });
                }
            }
        }
    }
    trials
}

impl Trial<'_> {
    fn files(&self) -> Files {
        let log = self.log.files[WAL].clone();
        let mut files = Files::from([(FILE.into(), self.database.clone()), (WAL.into(), log)]);
        files.extend(self.head.clone().map(|head| (HEAD.to_owned(), head)));
        files
    }

    /// Tries it; whether it was refused, and whether it was verified.
    fn run(&self, times: Times, read_only: bool) -> std::result::Result<(bool, bool), String> {
        let opened = opened(&self.files(), times, read_only);
        let told = opened.and_then(|opened| match (&opened.content, self.own, times) {
            (Some(content), ..) if !self.right.contains(&content) => Err("it answers wrong".to_owned()),
            (None, true, _) => Err("it is refused, though it is the store".to_owned()),
            (_, true, Times::Kept) if opened.verified > 0 => Err("it is doubted without a reason".to_owned()),
            // A file that is refused before that needs no doubt.
            (Some(_), _, Times::Copied(_)) if opened.verified == 0 => Err("it is not doubted".to_owned()),
            _ => Ok((opened.content.is_none(), opened.verified > 0)),
        });
        told.map_err(|error| format!("{} ({times:?}, read-only: {read_only}): {error}", self.what))
    }
}

#[test]
fn a_file_under_a_log_that_is_not_its_own_answers_right_or_is_refused_and_left_as_it_is() {
    let (mut tried, mut refused, mut verified) = (0, 0, 0);
    for (durability, seed, rounds) in [(Durability::Synced, 1, 9), (Durability::Buffered, 2, 6)] {
        let moments = history(durability, seed, rounds);
        let trials = trials(&moments);
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let Some(trial) = trials.get(n) else { return };
                        for (n, times) in (n..).zip([Times::Kept, Times::Copied(1)]) {
                            let result = trial.run(times, n % 2 == 0);
                            done.lock().unwrap().push(result);
                        }
                    }
                });
            }
        });
        for result in done.into_inner().unwrap() {
            let (was_refused, was_verified) =
                result.unwrap_or_else(|error| panic!("{durability:?}: {error}"));
            tried += 1;
            refused += usize::from(was_refused);
            verified += usize::from(was_verified);
        }
    }
    println!("doubt: {tried} files under logs, {verified} verified, {refused} refused");
    assert!(refused > 100 && verified - refused > 100 && tried - verified > 20, "the premise");
}

/// Something that is done to a log; the store as it was before.
type Scene = (&'static str, fn(&Disk, Sqlite, &mut dyn FnMut(&Disk, &Sqlite)));

const SCENES: [Scene; 4] = [
    ("the log is started over", |disk, mut sqlite, told| {
        sqlite.checkpoint(Checkpoint::Passive).unwrap();
        told(disk, &sqlite);
        for n in 0..3 {
            commit(&mut sqlite, &mut Rng::new(70 + n));
            told(disk, &sqlite);
        }
    }),
    ("a reader keeps a part of the log", |disk, mut sqlite, told| {
        let reader = sqlite.another(true).unwrap();
        reader.with_snapshot(|snapshot| {
            snapshot.and_then(LogView::tip).unwrap();
            commit(&mut sqlite, &mut Rng::new(80));
            told(disk, &sqlite);
            sqlite.checkpoint(Checkpoint::Passive).unwrap();
            sqlite.checkpoint(TRUNCATE).unwrap();
        });
        commit(&mut sqlite, &mut Rng::new(81));
        told(disk, &sqlite);
    }),
    ("the log is emptied", |disk, mut sqlite, told| {
        sqlite.checkpoint(TRUNCATE).unwrap();
        commit(&mut sqlite, &mut Rng::new(90));
        told(disk, &sqlite);
    }),
    ("the last one closes", |_, sqlite, _| drop(sqlite)),
];

/// A store with commits in the database and in the log, as a kill leaves it.
fn killed(durability: Durability) -> Files {
    let disk = Disk::new(&Files::new(), false);
    let mut sqlite = open(&disk, Some(durability), false).unwrap();
    for n in 0..6 {
        commit(&mut sqlite, &mut Rng::new(50 + n));
        if n == 2 {
            sqlite.checkpoint(TRUNCATE).unwrap();
        }
    }
    let mut files = disk.files();
    files.retain(|name, _| [FILE, WAL, HEAD].contains(&name.as_str()));
    drop(sqlite);
    disk.remove();
    files
}

#[test]
fn whatever_a_kill_or_a_loss_of_power_leaves_of_a_log_opens() {
    let (mut images, mut verified, mut kills, mut doubted) = (0, 0, 0, 0);
    for (name, scene) in SCENES {
        // The opening of a store that was killed moves its log, too, and is cut like everything that follows.
        let start = killed(Durability::Synced);
        let disk = Disk::after(&start, &[]);
        let mut sqlite = open(&disk, None, false).unwrap();
        // All states, by their ends, and when they were told.
        let mut states = vec![(disk.now(), content(&sqlite).unwrap())];
        let begun = disk.now();
        for n in 0..3 {
            commit(&mut sqlite, &mut Rng::new(60 + n));
            states.push((disk.now(), content(&sqlite).unwrap()));
        }
        scene(&disk, sqlite, &mut |disk, sqlite| states.push((disk.now(), content(sqlite).unwrap())));
        let events = disk.events();
        disk.remove();
        let mut rng = Rng::new(3);
        for at in 0..=events.len() {
            let told = states.iter().rposition(|(when, _)| *when <= at).unwrap_or(0);
            let mut disks = vec![Disk::after(&start, &events[..at])];
            let replay = Replay::after(&start, &events[..at]);
            disks.extend(VARIANTS.iter().map(|variant| Disk::new(&replay.image(*variant, &mut rng), false)));
            for (n, disk) in disks.iter().enumerate() {
                let copied = rng.once_in(3);
                if copied {
                    disk.set_times(Times::Copied(1));
                }
                let (first, counter) = counting(opening(disk, None, rng.once_in(3)));
                let found = first.first().and_then(|sqlite| content(&sqlite));
                let right = |found: &Content| states[told..].iter().any(|(_, content)| content == found);
                // Before the opening was done, nothing was told of its store but what was there before.
                assert!(
                    found.as_ref().is_ok_and(|found| right(found) || at < begun),
                    "{name}, {} at event {at}: {found:?}",
                    if n == 0 { "killed".to_owned() } else { format!("power lost ({:?})", VARIANTS[n - 1]) }
                );
                let times = counter.load(Ordering::Relaxed);
                images += 1;
                verified += times;
                if n == 0 && !copied {
                    kills += 1;
                    doubted += times;
                }
                disk.remove();
            }
        }
    }
    println!("doubt: {images} images of cut checkpoints, {verified} verified; of {kills} kills, {doubted}");
    assert!(doubted > 0 && doubted < kills / 2, "most of them are known by their head file");
}

/// Opens a store that nobody has open, and says whether it was verified.
fn is_doubted(disk: &Disk, read_only: bool) -> bool {
    let (first, verified) = counting(opening(disk, None, read_only));
    content(&first.first().unwrap()).unwrap();
    verified.load(Ordering::Relaxed) > 0
}

#[test]
fn a_store_that_was_closed_or_killed_at_rest_is_never_doubted() {
    for durability in [Durability::Synced, Durability::Buffered] {
        for seed in 0..24 {
            let mut rng = Rng::new(seed);
            let disk = Disk::new(&Files::new(), false);
            let mut openers = vec![open(&disk, Some(durability), false).unwrap()];
            for _ in 0..12 {
                let one = rng.below(openers.len());
                match rng.below(8) {
                    0 => openers.push(open(&disk, None, rng.once_in(2)).unwrap()),
                    1 => drop((openers.len() > 1).then(|| openers.swap_remove(one))),
                    2 if !openers[one].opening().read_only => {
                        openers[one].checkpoint(Checkpoint::Passive).unwrap();
                    }
                    3 if !openers[one].opening().read_only => {
                        openers[one].checkpoint(TRUNCATE).unwrap();
                    }
                    _ if !openers[one].opening().read_only => commit(&mut openers[one], &mut rng),
                    _ => drop(content(&openers[one]).unwrap()),
                }
                let killed = Disk::new(&disk.files(), false);
                assert!(!is_doubted(&killed, rng.once_in(2)), "killed: {durability:?}, seed {seed}");
                killed.remove();
            }
            while !openers.is_empty() {
                let one = openers.swap_remove(rng.below(openers.len()));
                if !one.opening().read_only {
                    one.checkpoint(TRUNCATE).unwrap();
                }
                drop(one);
            }
            let closed = disk.files();
            for times in [Times::Kept, Times::Copied(1)] {
                let copy = Disk::new(&closed, false);
                copy.set_times(times);
                // Where the last one could not write, its log is left, and only the head file knows it.
                if times == Times::Kept || !closed.contains_key(WAL) {
                    assert!(!is_doubted(&copy, rng.once_in(2)), "closed: {durability:?}, seed {seed}");
                }
                copy.remove();
            }
            disk.remove();
        }
    }
}

/// What happens when somebody opens the store in the middle of something, at each of its operations.
fn visited(
    files: &Files,
    times: Times,
    act: fn(&Disk) -> Result<()>,
) -> Vec<(Result<()>, Result<()>, usize)> {
    let mut all = Vec::new();
    for after in 1.. {
        let disk = Disk::new(files, false);
        disk.set_times(times);
        let visit = Arc::new(Mutex::new(None));
        let (first, verified) = counting(opening(&disk, None, after % 3 == 0));
        let note = visit.clone();
        let visitor = move || *note.lock().unwrap() = Some(first.first().map(drop));
        let mut act = Some(|| act(&disk));
        let host = {
            disk.visit(after, visitor);
            act.take().unwrap()()
        };
        disk.stop_visits();
        let visit = visit.lock().unwrap().take();
        disk.remove();
        match visit {
            Some(visit) => all.push((visit, host, verified.load(Ordering::Relaxed))),
            None => return all,
        }
    }
    unreachable!("it ends")
}

// Whoever has it open vouched for any file with its identity: an answer was wrong, and a commit went into the file.
#[test]
fn a_file_that_was_written_over_in_its_place_is_doubted_whoever_has_it_open() {
    let mut refusals = 0;
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let disk = Disk::new(&Files::new(), false);
        let mut writer = open(&disk, Some(Durability::Synced), false).unwrap();
        let mut work = |writer: &mut Sqlite| (0..4).for_each(|_| commit(writer, &mut rng));
        work(&mut writer);
        writer.checkpoint(TRUNCATE).unwrap();
        let older = disk.files()[FILE].clone();
        work(&mut writer);
        writer.checkpoint(TRUNCATE).unwrap();
        work(&mut writer);
        let right = disk.files()[FILE].clone();
        let (idle, verified) = counting(opening(&disk, None, true));
        let idle = idle.first().unwrap();
        drop(writer);
        let (beside, verified_too) = counting(opening(&disk, None, true));
        let told = content(&beside.first().unwrap()).unwrap();
        assert_eq!(
            [verified, verified_too].map(|times| times.load(Ordering::Relaxed)),
            [0, 0],
            "the premise"
        );

        disk.write_at(FILE, 0, &older).unwrap();
        if seed % 3 == 0 {
            // Whoever brings a copy back may take this for a part of what was there before.
            disk.remove_file(HEAD);
        }
        let before = disk.files();
        let is_refused = |read_only| match open(&disk, None, read_only).map(|sqlite| content(&sqlite)) {
            // All that the older file lacks may be in the log.
            Ok(found) => {
                assert_eq!(found, Ok(told.clone()), "seed {seed}");
                false
            }
            Err(StateError::Corrupted(_)) => true,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        if is_refused(true) {
            assert!(is_refused(false), "seed {seed}");
            refusals += 1;
            let now = disk.files();
            assert!([FILE, WAL].iter().all(|name| now[*name] == before[*name]), "it is left as it is");
            // With another time than before.
            disk.write_at(FILE, 0, &right).unwrap();
            assert!(!is_refused(false), "seed {seed}");
        }
        drop(idle);
        disk.remove();
    }
    assert!(refusals > 6, "the premise: {refusals}");
}

#[test]
fn whoever_comes_while_the_log_is_moved_does_not_doubt() {
    let met = visited(&killed(Durability::Synced), Times::Kept, |disk| {
        let mut sqlite = open(disk, None, false)?;
        for n in 0..3 {
            commit(&mut sqlite, &mut Rng::new(n));
            sqlite.checkpoint(if n == 1 { TRUNCATE } else { Checkpoint::Passive })?;
        }
        Ok(())
    });
    let (mut opened, mut doubted) = (0, Vec::new());
    for (after, (visit, host, verified)) in met.iter().enumerate() {
        assert!(matches!(host, Ok(()) | Err(StateError::Busy(_))), "{after}: {host:?}");
        assert!(matches!(visit, Ok(()) | Err(StateError::Busy(_))), "{after}: {visit:?}");
        opened += usize::from(visit.is_ok());
        doubted.extend((*verified > 0).then_some(after));
    }
    println!("doubt: {} visits of a store at work, {opened} opened, doubted at {doubted:?}", met.len());
    assert!(opened > 50, "the premise");
    // A visitor of a disk in memory does not wait until the head file is written after a checkpoint.
    assert!(doubted.len() <= 3 * 5, "{doubted:?}");
}

#[test]
fn two_who_open_a_store_in_doubt_at_once_are_both_told_the_truth() {
    let moments = history(Durability::Synced, 3, 9);
    let newest = moments.iter().rev().find(|moment| moment.has_log()).unwrap();
    let right = newest.files.clone();
    let mut wrong = right.clone();
    let older = moments.iter().find(|moment| {
        wrong.insert(FILE.into(), moment.files[FILE].clone());
        opened(&wrong, Times::Kept, false).unwrap().content.is_none()
    });
    assert!(older.is_some(), "the premise");
    for (files, times, is_right) in [(&right, Times::Copied(1), true), (&wrong, Times::Kept, false)] {
        let met = visited(files, times, |disk| {
            let before = disk.files();
            let opened = open(disk, None, false).map(drop);
            if opened.is_err() {
                let now = disk.files();
                assert!([FILE, WAL].iter().all(|name| now[*name] == before[*name]), "it is left as it is");
            }
            opened
        });
        let mut sure = 0;
        for (visit, host, _) in &met {
            for told in [visit, host] {
                match told {
                    Ok(()) => assert!(is_right, "it was opened"),
                    Err(StateError::Corrupted(_)) => assert!(!is_right, "{told:?}"),
                    Err(StateError::Busy(_)) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            sure += usize::from(!matches!(visit, Err(StateError::Busy(_))));
        }
        println!("doubt: {} visits of an opening in doubt, {sure} told", met.len());
        assert!(sure > 10, "the premise");
    }
}
