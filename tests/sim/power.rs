//! Power loss, at every event of a store at work.
//!
//! A world is a seed. In it, a store works on a simulated disk: it is created, commits, reads,
//! checkpoints, is closed and opened, read-only too, and other openers do the same in the middle
//! of all that. Then the power is cut after each event, and the disk rebuilt as it may be then
//! (see `image`). From some of these points, life goes on first: after all processes died but not the
//! system, so that what was never synced is read, served, and only then lost; or after the power
//! loss itself, so that recovery and what comes after it are cut, too. Each image is opened, and
//! must hold everything that was acknowledged or served, end with a whole commit that was really
//! made, and verify; a part of them take a new commit, too. In one of three no time of a file is kept,
//! so that its database is doubted. Buffered stores may end earlier, but
//! no less whole. Of some, the tail of the log is taken away as well: the head file must tell.
//!
//! `UNIVRS_POWER_IMAGES` sets how many images to check, `UNIVRS_SEED` the world to begin with.
//!
//! Limits of the model: devices honour flushes and damage nothing but what is being written
//! ("powersafe overwrite"); what was synced does not rot; folders keep their changes in order; one
//! page size; other openers run where an operation on the disk begins, not between any two
//! machine steps, and the shared memory dies with the last of them. SQLite draws the salts of its
//! log from a generator that the seed does not reach.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub(super) mod compacting;
mod erasing;
mod lost_tail;
mod threads;
pub(super) mod world;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use self::world::{Trace, batch, go_on, open, sources};
use super::commit::commit_group;
use super::verify;
use crate::audit::VerifyReport;
use crate::backend::sqlite::sim::{Disk, Event, Files, Replay, Rng, Times, VARIANTS};
use crate::backend::sqlite::{Durability, Sqlite};
use crate::log::Head;

/// Images of a run that is not told otherwise, and the time after which it ends anyway.
const IMAGES: u64 = 50_000;
const TIME: Duration = Duration::from_secs(90);

/// The sum of all worlds.
#[derive(Default)]
struct Totals {
    /// Images opened and checked; those that equal one of the same world are not counted again.
    images: AtomicU64,
    same: AtomicU64,
    worlds: AtomicU64,
    lives: AtomicU64,
    busy: AtomicU64,
    died: AtomicU64,
    /// Images that lost the tail of their log as well, and how many of them the head file refused.
    cut: AtomicU64,
    refused: AtomicU64,
    violations: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Totals {
    fn violation(&self, what: String) {
        eprintln!("power: VIOLATION {what}");
        let mut violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        violations.push(what);
        if violations.len() >= 20 {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

#[test]
fn nothing_acknowledged_or_served_is_lost_with_the_power() {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("UNIVRS_SEED").unwrap_or(clock.as_secs());
    let asked = number("UNIVRS_POWER_IMAGES");
    let (images, start) = (asked.unwrap_or(IMAGES), Instant::now());
    let time = if asked.is_some() { Duration::MAX } else { TIME };
    println!("power: UNIVRS_SEED={seed}");
    let (totals, next) = (Totals::default(), AtomicU64::new(seed));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !totals.is_over() {
                    World::new(next.fetch_add(1, Ordering::Relaxed), &totals).run();
                    totals.worlds.fetch_add(1, Ordering::Relaxed);
                    // A slow machine tries fewer, but enough for what is asked of all of them below.
                    let late = start.elapsed() >= time && totals.refused.load(Ordering::Relaxed) > 0;
                    if totals.images.load(Ordering::Relaxed) >= images || late {
                        totals.stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let violations = totals.violations.lock().unwrap_or_else(PoisonError::into_inner);
    println!(
        "power: {} images, {} violations ({} more that were the same, {} worlds, {} lives, {} times busy, {} died, \
         {:.0?}; {} more lost the tail of their log, which the head file told of {} times)",
        count(&totals.images),
        violations.len(),
        count(&totals.same),
        count(&totals.worlds),
        count(&totals.lives),
        count(&totals.busy),
        count(&totals.died),
        start.elapsed(),
        count(&totals.cut),
        count(&totals.refused),
    );
    assert!(violations.is_empty(), "{}", violations[0]);
    assert!(count(&totals.refused) > 0, "no image was without a tail that the head file knew");
}

/// One seed's images.
struct World<'a> {
    seed: u64,
    rng: Rng,
    totals: &'a Totals,
    /// Images checked, with what they had to hold.
    seen: HashSet<blake3::Hash>,
}

impl<'a> World<'a> {
    fn new(seed: u64, totals: &'a Totals) -> Self {
        Self { seed, rng: Rng::new(seed), totals, seen: HashSet::new() }
    }

    fn run(&mut self) {
        let durability = if self.rng.once_in(6) { Durability::Buffered } else { Durability::Synced };
        let beginning = Trace::beginning(durability, self.rng.once_in(2));
        let steps = 6 + self.rng.below(14);
        let Some(first) = self.live("first life", beginning, steps) else { return };
        self.cut("first life", &first, 0, VARIANTS.len());
        for at in 0..=first.events.len() {
            if self.totals.is_over() {
                return;
            }
            let life = format!("killed after event {at} of the first life");
            // Just before a sync, what nobody acknowledged is already there to be read.
            let unsynced = matches!(first.events.get(at), Some(Event::Sync { .. }));
            if unsynced || self.rng.once_in(6) {
                let killed = first.killed(at, &mut self.rng);
                let from = killed.events.len();
                let steps = 1 + self.rng.below(3);
                if let Some(second) = self.live(&life, killed, steps) {
                    self.cut(&life, &second, from, 3);
                }
            }
            if self.rng.once_in(12) {
                let replay = Replay::after(&first.files, &first.events[..at]);
                let variant = VARIANTS[self.rng.below(VARIANTS.len())];
                let life = format!("power lost after event {at} of the first life, {variant:?}");
                let lost = first.lost(at, replay.image(variant, &mut self.rng));
                let steps = 1 + self.rng.below(3);
                if let Some(second) = self.live(&life, lost, steps) {
                    self.cut(&life, &second, 0, 3);
                }
            }
        }
    }

    fn live(&mut self, life: &str, trace: Trace, steps: usize) -> Option<Trace> {
        self.totals.lives.fetch_add(1, Ordering::Relaxed);
        let died = trace.died;
        match go_on(trace, steps, &mut self.rng) {
            Ok(trace) => {
                self.totals.died.fetch_add((trace.died - died) as u64, Ordering::Relaxed);
                self.totals.busy.fetch_add(trace.busy as u64, Ordering::Relaxed);
                Some(trace)
            }
            Err(error) => {
                self.totals.violation(format!("UNIVRS_SEED={}, {life}: {error}", self.seed));
                None
            }
        }
    }

    /// Cuts the power after each event from `from` on, each time in so many variants.
    fn cut(&mut self, life: &str, trace: &Trace, from: usize, variants: usize) {
        let mut replay = Replay::new(&trace.files);
        for at in 0..=trace.events.len() {
            if at >= from && !self.totals.is_over() {
                let count = if replay.is_durable() { 1 } else { variants };
                let first = if variants == VARIANTS.len() { 0 } else { self.rng.below(VARIANTS.len()) };
                for variant in VARIANTS.iter().cycle().skip(first).take(count) {
                    let image = replay.image(*variant, &mut self.rng);
                    let mut checked = self.check_once(&image, trace, trace.floor(at));
                    if self.rng.once_in(8) {
                        checked = checked.and(self.lose_tail(&image, trace));
                    }
                    if let Err(error) = checked {
                        let seed = self.seed;
                        self.totals.violation(format!(
                            "UNIVRS_SEED={seed}, {life}, power lost after event {at}, {variant:?}: {error}"
                        ));
                    }
                }
            }
            if let Some(event) = trace.events.get(at) {
                replay.advance(event);
            }
        }
    }

    fn check_once(&mut self, image: &Files, trace: &Trace, floor: Option<Head>) -> Result<(), String> {
        // Drawn in any case: equal salts in two logs must not change what comes after.
        let mut chance = Rng::new(self.rng.next());
        let mut hasher = blake3::Hasher::new();
        for (name, data) in image {
            hasher.update(name.as_bytes()).update(&(data.len() as u64).to_le_bytes()).update(data);
        }
        hasher.update(format!("{floor:?}").as_bytes());
        if !self.seen.insert(hasher.finalize()) {
            self.totals.same.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.totals.images.fetch_add(1, Ordering::Relaxed);
        let disk = Disk::new(image, false);
        if chance.once_in(3) {
            disk.set_times(Times::Copied(1));
        }
        let checked = check(&disk, trace, floor, chance);
        disk.remove();
        checked
    }
}

/// Opens what a power loss left, and demands what was promised.
fn check(disk: &Disk, trace: &Trace, floor: Option<Head>, mut rng: Rng) -> Result<(), String> {
    let read_only = floor.is_some() && rng.once_in(4);
    let create = floor.is_none().then_some(trace.durability);
    let mut sqlite = open(disk, create, read_only).map_err(|e| format!("it does not open: {e}"))?;
    let head = audit(&sqlite)?;
    if trace.known_heads().is_some_and(|heads| !heads.contains(&head)) {
        return Err(format!("it ends with {head}, which ends no commit that was made"));
    }
    if let Some(floor) = floor {
        let begins = sqlite.with_snapshot(|snapshot| snapshot?.floor());
        let begins = begins.map_err(|error| format!("it has no floor: {error}"))?.seq();
        let found = sqlite.with_snapshot(|snapshot| snapshot.and_then(|s| s.hash_at(floor.seq)));
        if begins <= floor.seq && found.as_ref().map(Option::as_ref) != Ok(Some(&floor.hash)) {
            return Err(format!("{floor} was acknowledged or served, but it ends with {head}"));
        }
    }
    if !read_only && rng.once_in(4) {
        let sources = sources(rng.next());
        let finished = compacting::finish(&mut sqlite, &sources, &mut rng);
        finished.map_err(|error| format!("its compaction cannot be finished: {error}"))?;
        audit(&sqlite)?;
    }
    if !read_only && rng.once_in(4) {
        erasing::finish(&mut sqlite).map_err(|error| format!("its erasures cannot be ended: {error}"))?;
        audit(&sqlite)?;
    }
    if !read_only && rng.once_in(8) {
        let written = commit_group(&mut sqlite, &sources(rng.next()), &[batch(&mut rng)], None);
        match (&written.results[..], written.tip) {
            ([Ok(_)], Some(tip)) if audit(&sqlite)? == tip.head => {}
            ([Err(crate::StateError::Rejected(_))], _) => {}
            ([result], _) => return Err(format!("it takes no commit: {result:?}")),
            _ => return Err("it gave no result".into()),
        }
    }
    Ok(())
}

/// Verifies the whole store; its head.
pub(super) fn audit(sqlite: &Sqlite) -> Result<Head, String> {
    let report: crate::Result<VerifyReport> = sqlite.with_snapshot(|snapshot| {
        snapshot.and_then(|s| verify::verify(s, &super::Verify::full(), &|| false))
    });
    let report = report.map_err(|error| format!("it cannot be verified: {error}"))?;
    if report.is_intact() { Ok(report.head) } else { Err(format!("it is not intact: {:?}", report.findings)) }
}
