//! A store at work on a simulated disk: openers that commit, read, checkpoint, close and visit
//! each other in the middle of what they do, and a ledger of what the world was told.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::commit::{Sources, commit_group};
use super::super::verify::judge;
use super::super::{Clock, Entropy};
use super::{compacting, erasing};
use crate::backend::LogView;
use crate::backend::sqlite::sim::{Disk, Event, Files, Rng};
use crate::backend::sqlite::{Checkpoint, Durability, Location, Opening, Sqlite, WAL_CAP};
use crate::error::{Result, StateError};
use crate::log::{Head, StoreId, Timestamp};
use crate::state::Batch;

pub(crate) const FILE: &str = "state.db";
pub(crate) const STORE: StoreId = StoreId::from_bytes([7; 16]);

/// Once told, never to be taken back: a commit was acknowledged, or a read served this head, when
/// so many events had happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    pub(super) at: usize,
    pub(super) head: Head,
}

/// What happened to a disk, and what was told meanwhile.
#[derive(Clone)]
pub(super) struct Trace {
    /// Of the store: if it is buffered, the newest commits may be lost with the power.
    pub(super) durability: Durability,
    /// The disk in the beginning, all of it durable.
    pub(super) files: Files,
    pub(super) events: Vec<Event>,
    pub(super) notes: Vec<Note>,
    /// The ends of all groups that were ever written, acknowledged or not, and the beginning.
    pub(super) heads: HashSet<Head>,
    /// Operations that were refused because of another opener.
    pub(super) busy: usize,
    /// Processes that died while others lived on; what they were writing then may end the log,
    /// though its head is not known.
    pub(super) died: usize,
}

impl Trace {
    /// Nothing, or an empty file that somebody prepared.
    pub(super) fn beginning(durability: Durability, prepared: bool) -> Self {
        let files = prepared.then(|| (FILE.to_owned(), Vec::new())).into_iter().collect();
        let heads = HashSet::from([Head::genesis(STORE)]);
        let (events, notes) = (Vec::new(), Vec::new());
        Self { durability, files, events, notes, heads, busy: 0, died: 0 }
    }

    /// The last thing told when so many events had happened; none if the store may not be there.
    pub(super) fn floor(&self, at: usize) -> Option<Head> {
        let told = self.notes.iter().filter(|note| note.at <= at).map(|note| note.head);
        match (self.durability, told.max_by_key(|head| head.seq)) {
            (Durability::Buffered, Some(_)) => Some(Head::genesis(STORE)),
            (_, told) => told,
        }
    }

    /// Where the log may end, if that is known.
    pub(super) fn known_heads(&self) -> Option<&HashSet<Head>> {
        (self.died == 0).then_some(&self.heads)
    }

    /// All processes die after so many events, the last of which may be half a write.
    pub(super) fn killed(&self, at: usize, rng: &mut Rng) -> Self {
        let mut events = self.events[..at].to_vec();
        if let Some(Event::Write { inode, offset, data }) = self.events.get(at)
            && rng.once_in(4)
        {
            let data = data[..rng.below(data.len() + 1)].to_vec();
            events.push(Event::Write { inode: *inode, offset: *offset, data });
        }
        let notes = self.notes.iter().filter(|note| note.at <= at).copied().collect();
        Self { events, notes, busy: 0, ..self.clone() }
    }

    /// The power is lost after so many events, and leaves these files.
    pub(super) fn lost(&self, at: usize, files: Files) -> Self {
        let notes = self.floor(at).map(|head| Note { at: 0, head }).into_iter().collect();
        Self { files, events: Vec::new(), notes, busy: 0, ..self.clone() }
    }
}

/// A clock and salts that the seed repeats.
pub(crate) fn sources(seed: u64) -> Sources {
    struct Ticks(AtomicI64);
    impl Clock for Ticks {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0.fetch_add(1000, Ordering::Relaxed))
        }
    }
    struct Salts(AtomicU64);
    impl Entropy for Salts {
        fn fill(&self, buffer: &mut [u8]) -> bool {
            let mut rng = Rng::new(self.0.fetch_add(1, Ordering::Relaxed));
            for byte in buffer {
                *byte = rng.byte();
            }
            true
        }
    }
    let clock = Arc::new(Ticks(AtomicI64::new(1_700_000_000_000_000)));
    Sources::new(clock, Arc::new(Salts(AtomicU64::new(seed))))
}

/// Opens the store on a disk as a process does that is the first in it; with a durability, it is
/// made where there is none.
pub(crate) fn open(disk: &Disk, create: Option<Durability>, read_only: bool) -> Result<Sqlite> {
    opening(disk, create, read_only).first()
}

pub(crate) fn opening(disk: &Disk, create: Option<Durability>, read_only: bool) -> Opening {
    Opening {
        accept_loss: false,
        loss_meta: crate::log::Meta::new(),
        expected: None,
        location: Location::File(disk.path(FILE).into()),
        create: create.is_some(),
        read_only,
        durability: create,
        busy_timeout: Duration::from_millis(20),
        new_store: STORE,
        immutable: false,
        wal_cap: WAL_CAP,
        beside: Vec::new(),
        judge: judge(None),
        vfs: Some("univrs-sim"),
    }
}

/// An opener: as a process that has the store open.
struct Opener {
    sqlite: Sqlite,
    /// Its connection for reading.
    reader: Option<Sqlite>,
    read_only: bool,
    process: u64,
}

struct Ledger {
    durability: Durability,
    disk: Arc<Disk>,
    sources: Sources,
    openers: Mutex<Vec<Opener>>,
    notes: Mutex<Vec<Note>>,
    heads: Mutex<HashSet<Head>>,
    errors: Mutex<Vec<String>>,
    busy: AtomicU64,
    processes: AtomicU64,
    /// Whether processes die while others live on.
    mortal: bool,
    died: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Goes on with a trace for some steps; an error is one that no store at work may meet.
pub(super) fn go_on(trace: Trace, steps: usize, rng: &mut Rng) -> std::result::Result<Trace, String> {
    let disk = Disk::after(&trace.files, &trace.events);
    let ledger = Arc::new(Ledger {
        durability: trace.durability,
        disk: disk.clone(),
        sources: sources(rng.next()),
        openers: Mutex::default(),
        notes: Mutex::new(trace.notes),
        heads: Mutex::new(trace.heads),
        errors: Mutex::default(),
        busy: AtomicU64::new(0),
        processes: AtomicU64::new(0),
        mortal: rng.once_in(3),
        died: AtomicU64::new(trace.died as u64),
    });
    for _ in 0..steps {
        if rng.once_in(2) {
            let (visitor, mut chance) = (ledger.clone(), Rng::new(rng.next()));
            disk.visit(1 + rng.below(90), move || visitor.step(&mut chance));
        }
        ledger.step(rng);
    }
    disk.stop_visits();
    let openers = std::mem::take(&mut *lock(&ledger.openers));
    for opener in openers {
        disk.act_as(opener.process);
        drop(opener);
    }
    disk.remove();
    if let Some(error) = lock(&ledger.errors).first() {
        return Err(error.clone());
    }
    let (notes, heads) =
        (std::mem::take(&mut *lock(&ledger.notes)), std::mem::take(&mut *lock(&ledger.heads)));
    let count = |counter: &AtomicU64| usize::try_from(counter.load(Ordering::Relaxed)).unwrap();
    let (busy, died) = (count(&ledger.busy), count(&ledger.died));
    if died == 0
        && let Some(note) = notes.iter().find(|note| !heads.contains(&note.head))
    {
        return Err(format!("a read was served {}, which ends no commit", note.head));
    }
    let (durability, files) = (trace.durability, trace.files);
    Ok(Trace { durability, files, events: disk.events(), notes, heads, busy, died })
}

impl Ledger {
    /// Something an opener does. Panics nowhere: it may run in the middle of SQLite.
    fn step(&self, rng: &mut Rng) {
        let opener = self.take(rng);
        let new = || 1 + self.processes.fetch_add(1, Ordering::Relaxed);
        let process = opener.as_ref().map_or_else(new, |opener| opener.process);
        let host = self.disk.act_as(process);
        if self.mortal && rng.once_in(6) {
            self.disk.die(1 + rng.below(60));
        }
        let (opener, result) = self.act(opener, process, rng);
        let died = self.disk.is_dead(process);
        if died {
            drop(opener);
            self.disk.bury();
            self.died.fetch_add(1, Ordering::Relaxed);
        } else if let Some(opener) = opener {
            lock(&self.openers).push(opener);
        }
        self.disk.act_as(host);
        match result {
            Err(StateError::Busy(_)) => drop(self.busy.fetch_add(1, Ordering::Relaxed)),
            Err(error) if !died => lock(&self.errors).push(format!("without any fault: {error}")),
            _ => {}
        }
    }

    fn act(&self, opener: Option<Opener>, process: u64, rng: &mut Rng) -> (Option<Opener>, Result<()>) {
        let Some(mut opener) = opener else {
            return match self.come(process, rng) {
                Ok(opener) => (opener, Ok(())),
                Err(error) => (None, Err(error)),
            };
        };
        let result = match rng.below(14) {
            0 => {
                drop(opener);
                return (None, Ok(()));
            }
            1 | 2 => self.serve(opener.reader.as_ref().unwrap_or(&opener.sqlite)),
            3 if !opener.read_only => opener.sqlite.checkpoint(Checkpoint::Passive).map(drop),
            4 if !opener.read_only => opener.sqlite.checkpoint(Checkpoint::Empty(Duration::ZERO)).map(drop),
            5 if !opener.read_only => opener.sqlite.renewed().map(|other| opener.sqlite = other),
            12 | 13 if !opener.read_only => self.compact(&mut opener.sqlite, rng),
            10 | 11 if !opener.read_only => self.erase(&mut opener.sqlite, rng),
            6 => opener.sqlite.another(true).map(|other| opener.reader = Some(other)),
            _ if !opener.read_only => self.commit(&mut opener.sqlite, rng),
            _ => self.serve(&opener.sqlite),
        };
        (Some(opener), result)
    }

    /// One of the openers; none where somebody new is to come.
    fn take(&self, rng: &mut Rng) -> Option<Opener> {
        let mut openers = lock(&self.openers);
        let count = openers.len();
        (count > 0 && !rng.once_in(8)).then(|| openers.swap_remove(rng.below(count)))
    }

    fn come(&self, process: u64, rng: &mut Rng) -> Result<Option<Opener>> {
        let (read_only, told) = (rng.once_in(3), !lock(&self.notes).is_empty());
        let sqlite = match open(&self.disk, Some(self.durability), read_only) {
            // Before the store is there, a read-only opener has nothing to open.
            Err(StateError::CannotOpen { why, .. })
                if read_only
                    && !told
                    && ["does not exist", "is empty, not a store"].contains(&why.what()) =>
            {
                return Ok(None);
            }
            sqlite => sqlite?,
        };
        self.serve(&sqlite)?;
        Ok(Some(Opener { sqlite, reader: None, read_only, process }))
    }

    fn serve(&self, sqlite: &Sqlite) -> Result<()> {
        let tip = sqlite.with_snapshot(|snapshot| snapshot.and_then(LogView::tip))?;
        self.note(tip.head);
        Ok(())
    }

    fn note(&self, head: Head) {
        // The dead tell nothing.
        if self.disk.acts_dead() {
            return;
        }
        let at = self.disk.now();
        lock(&self.notes).push(Note { at, head });
    }

    fn compact(&self, sqlite: &mut Sqlite, rng: &mut Rng) -> Result<()> {
        if let Some(tip) = compacting::step(sqlite, &self.sources, rng)? {
            lock(&self.heads).insert(tip);
            self.note(tip);
        }
        Ok(())
    }

    fn erase(&self, sqlite: &mut Sqlite, rng: &mut Rng) -> Result<()> {
        if let Some(tip) = erasing::step(sqlite, &self.sources, rng)? {
            lock(&self.heads).insert(tip);
            self.note(tip);
        }
        Ok(())
    }

    fn commit(&self, sqlite: &mut Sqlite, rng: &mut Rng) -> Result<()> {
        let batches: Vec<Batch> = (0..=rng.below(3)).map(|_| batch(rng)).collect();
        let outcome = commit_group(sqlite, &self.sources, &batches, None);
        if let Some(tip) = outcome.tip {
            lock(&self.heads).insert(tip.head);
            self.note(tip.head);
        }
        for result in outcome.results {
            match result {
                Ok(_) | Err(StateError::Rejected(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A random batch on few keys, so that they are created, updated, deleted and born again.
pub(super) fn batch(rng: &mut Rng) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..=rng.below(3) {
        let key = format!("/k/{}", rng.below(6));
        batch = match rng.below(8) {
            0 | 1 => batch.delete(key),
            2 => batch.set(key, vec![rng.byte(); 3000 + rng.below(3000)]),
            _ => batch.set(key, vec![rng.byte(); rng.below(60)]),
        };
    }
    match rng.below(6) {
        0 => batch.commit_id(format!("id-{}", rng.next())),
        1 => batch.expect(format!("/k/{}", rng.below(6)), rng.below(3) as u64),
        _ => batch,
    }
}
