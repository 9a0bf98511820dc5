//! The disk: files with locks and shared memory, a log of what was written and when it was
//! synced, and faults on demand.
//!
//! All of it sits behind one mutex, which is never held while anything outside runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::sqlite::Stamp;

/// Files by name: what a disk holds, or a power loss leaves.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The length of a region of shared memory that SQLite asks for.
pub(super) const REGION: usize = 32 * 1024;
const IOERR: i32 = rusqlite::ffi::SQLITE_IOERR;
const FULL: i32 = rusqlite::ffi::SQLITE_FULL;
/// Locks on the shared memory.
pub(super) const SHM_LOCKS: usize = 8;

/// Something that happened to a disk, in order. Inodes are numbered in the order of their birth.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Create {
        inode: usize,
        name: String,
    },
    Write {
        inode: usize,
        offset: usize,
        data: Vec<u8>,
    },
    Truncate {
        inode: usize,
        size: usize,
    },
    /// What was written to the inode is durable; with `folder`, names made and deleted so far, too.
    Sync {
        inode: usize,
        folder: bool,
    },
    /// A sync failed, and the system took what it was to sync for clean: only new writes will do.
    Lose {
        inode: usize,
    },
    Delete {
        name: String,
    },
    /// A file takes a name, whatever had it before.
    Rename {
        from: String,
        to: String,
    },
}

/// A kind of operation that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Open,
    Read,
    Write,
    Truncate,
    Sync,
    Delete,
    Rename,
    Lock,
    /// Between two steps on the shared memory; cannot fail.
    Barrier,
}

/// The operation of this kind after `skip` others fails with SQLite's `code`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) op: Op,
    pub(crate) skip: usize,
    pub(crate) code: i32,
    /// All later ones of the kind fail, too.
    pub(crate) sticky: bool,
    /// A write that fails has written its first half; a sync that fails has lost what it was to
    /// sync: a later sync does not make it durable, though reads still show it.
    pub(crate) partial: bool,
}

/// When the files of a disk were last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// Another time for each content, and the same for the same one: as copies have that keep times.
    Kept,
    /// Others than on any disk with another number: as copies have that do not keep times.
    Copied(u64),
    /// The same for all.
    None,
}

/// What runs in the middle of another connection's work, when a number of operations have begun.
type Visitor = (usize, Box<dyn FnOnce() + Send>);

pub(crate) struct Disk {
    /// The folder of its files, as SQLite sees it.
    folder: String,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) names: BTreeMap<String, usize>,
    pub(super) inodes: Vec<Inode>,
    log: Vec<Event>,
    logs: bool,
    /// Operations begun so far, in all and of each kind.
    begun: usize,
    counts: HashMap<Op, usize>,
    fault: Option<Fault>,
    /// How often the fault struck.
    struck: usize,
    /// Operations of this kind on files that SQLite does not know fail, too.
    fails_plain: Option<Op>,
    /// When files were last changed; kept if nothing else is said.
    times: Option<Times>,
    /// Bytes that all files may have together.
    capacity: Option<usize>,
    visitor: Option<Visitor>,
    /// The process that acts; its handles, and those of all others.
    process: u64,
    handles: Vec<u64>,
    /// The process that dies, and when.
    dying: Option<(u64, usize)>,
    dead: BTreeSet<u64>,
    /// The shared memory as a dead process left it: its connection, which knows nothing of that,
    /// may still write there until it is dropped.
    left: Vec<Vec<Box<[u64]>>>,
}

#[derive(Default)]
pub(super) struct Inode {
    pub(super) data: Vec<u8>,
    /// The lock that each handle has on the file.
    pub(super) locks: BTreeMap<usize, i32>,
    /// Regions of shared memory, and the handles that map them.
    pub(super) shm: Vec<Box<[u64]>>,
    pub(super) mapped: Vec<usize>,
    pub(super) shm_locks: [ShmLock; SHM_LOCKS],
}

#[derive(Default)]
pub(super) struct ShmLock {
    pub(super) shared: Vec<usize>,
    pub(super) exclusive: Option<usize>,
}

static DISKS: Mutex<BTreeMap<String, Arc<Disk>>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// A disk with these files, all durable.
    pub(crate) fn new(files: &Files, logs: bool) -> Arc<Self> {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        super::vfs::register();
        let folder = format!("disk{}", NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let mut state = State { logs, ..State::default() };
        for (name, data) in files {
            state.names.insert(name.clone(), state.inodes.len());
            state.inodes.push(Inode { data: data.clone(), ..Inode::default() });
        }
        let disk = Arc::new(Self { folder: folder.clone(), state: Mutex::new(state) });
        lock(&DISKS).insert(folder, disk.clone());
        disk
    }

    /// The disk of a path, and the name of the file there.
    pub(crate) fn at(path: &str) -> Option<(Arc<Self>, String)> {
        let (folder, name) = path.strip_prefix('/')?.split_once('/')?;
        Some((lock(&DISKS).get(folder)?.clone(), name.to_owned()))
    }

    /// The disk after these events: every process has died, the operating system has not, so all
    /// writes are there, and what was not synced still is not.
    pub(crate) fn after(files: &Files, events: &[Event]) -> Arc<Self> {
        let disk = Self::new(files, true);
        let mut state = disk.state();
        for event in events {
            state.apply(event);
        }
        state.log = events.to_vec();
        drop(state);
        disk
    }

    /// Removes a file.
    pub(crate) fn remove_file(&self, name: &str) {
        self.state().happen(Event::Delete { name: name.to_owned() });
    }

    /// Says when files were last changed.
    pub(crate) fn set_times(&self, times: Times) {
        self.state().times = Some(times);
    }

    /// Forgets the disk's name; connections that are still open keep it alive.
    pub(crate) fn remove(&self) {
        lock(&DISKS).remove(&self.folder);
        self.state().visitor = None;
    }

    pub(crate) fn path(&self, name: &str) -> String {
        format!("/{}/{name}", self.folder)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How many events have been logged.
    pub(crate) fn now(&self) -> usize {
        self.state().log.len()
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.state().log.clone()
    }

    /// The files as a running system sees them.
    pub(crate) fn files(&self) -> Files {
        let state = self.state();
        state.names.iter().map(|(name, inode)| (name.clone(), state.inodes[*inode].data.clone())).collect()
    }

    /// Runs `visit` when `after` more operations have begun, in the middle of whatever begins the
    /// last of them. It must not panic: SQLite is between.
    pub(crate) fn visit(&self, after: usize, visit: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        state.visitor = Some((state.begun + after, Box::new(visit)));
    }

    pub(crate) fn stop_visits(&self) {
        self.state().visitor = None;
    }

    /// From now on this process acts; the one that did.
    pub(crate) fn act_as(&self, process: u64) -> u64 {
        std::mem::replace(&mut self.state().process, process)
    }

    /// The process that acts dies when `after` more operations have begun, at the first that it
    /// begins itself: its locks are gone, and nothing that it does reaches the disk any more.
    pub(crate) fn die(&self, after: usize) {
        let mut state = self.state();
        state.dying = Some((state.process, state.begun + after));
    }

    pub(crate) fn is_dead(&self, process: u64) -> bool {
        self.state().dead.contains(&process)
    }

    /// Whether the process that acts is dead and does not know it.
    pub(crate) fn acts_dead(&self) -> bool {
        let state = self.state();
        state.dead.contains(&state.process)
    }

    /// The connections of the dead process are dropped; nobody acted since its death.
    pub(crate) fn bury(&self) {
        let mut state = self.state();
        for (inode, left) in std::mem::take(&mut state.left).iter().enumerate() {
            for (region, left) in state.inodes[inode].shm.iter_mut().zip(left) {
                region.copy_from_slice(left);
            }
        }
    }

    /// Plants a fault, counted from now on, or none.
    pub(crate) fn plant(&self, fault: Option<Fault>) {
        let mut state = self.state();
        state.counts.clear();
        state.struck = 0;
        state.fault = fault;
    }

    /// From now on operations of this kind fail on files that SQLite does not know, or none.
    pub(crate) fn fail_plain(&self, op: Option<Op>) {
        self.state().fails_plain = op;
    }

    /// From now on so many more bytes fit, or any number.
    pub(crate) fn limit(&self, more: Option<usize>) {
        let mut state = self.state();
        state.capacity = more.map(|more| state.used() + more);
    }

    /// How often the fault struck.
    pub(crate) fn struck(&self) -> usize {
        self.state().struck
    }

    /// How many operations of a kind have begun since the last planting.
    pub(crate) fn count(&self, op: Op) -> usize {
        self.state().counts.get(&op).copied().unwrap_or(0)
    }

    /// Every operation begins here: its turn may be a visitor's, or it fails.
    pub(super) fn begin(&self, op: Op) -> Result<(), Fault> {
        let mut state = self.state();
        state.begun += 1;
        state.die_if_due();
        if state.dead.contains(&state.process) {
            return Err(Fault { op, skip: 0, code: IOERR, sticky: true, partial: false });
        }
        if state.visitor.as_ref().is_some_and(|(at, _)| *at <= state.begun) {
            let visitor = state.visitor.take();
            drop(state);
            if let Some((_, visit)) = visitor {
                visit();
            }
            state = self.state();
        }
        let count = state.counts.entry(op).or_default();
        *count += 1;
        let nth = *count;
        match state.fault {
            Some(f) if f.op == op && (nth == f.skip + 1 || f.sticky && nth > f.skip) => {
                state.struck += 1;
                Err(f)
            }
            _ => Ok(()),
        }
    }

    /// An operation on a file that SQLite does not know begins.
    pub(super) fn begin_plain(&self, op: Op) -> Result<(), Fault> {
        self.begin(op)?;
        let fails = self.state().fails_plain == Some(op);
        if fails { Err(Fault { op, skip: 0, code: IOERR, sticky: true, partial: true }) } else { Ok(()) }
    }

    /// Reads a file that SQLite does not know; what is not there is missing from the answer.
    pub(crate) fn read_at(&self, name: &str, offset: usize, length: usize) -> Result<Vec<u8>, Fault> {
        self.begin_plain(Op::Read)?;
        let state = self.state();
        let data = state.names.get(name).map_or(&[][..], |inode| &state.inodes[*inode].data);
        Ok(data[offset.min(data.len())..(offset + length).min(data.len())].to_vec())
    }

    /// Writes such a file, making it where it is missing.
    pub(crate) fn write_at(&self, name: &str, offset: usize, data: &[u8]) -> Result<(), Fault> {
        let failed = self.begin_plain(Op::Write);
        let mut state = self.state();
        let inode = state.open(name);
        state.write(inode, offset, data, failed)
    }
}

impl State {
    pub(super) fn handle(&mut self) -> usize {
        self.handles.push(self.process);
        self.handles.len() - 1
    }

    fn die_if_due(&mut self) {
        let process = self.process;
        if !self.dying.is_some_and(|(dying, at)| dying == process && at <= self.begun) {
            return;
        }
        self.dying = None;
        self.dead.insert(process);
        let its = |handle: &usize| self.handles[*handle] == process;
        for inode in &mut self.inodes {
            inode.locks.retain(|handle, _| !its(handle));
            for lock in &mut inode.shm_locks {
                lock.shared.retain(|handle| !its(handle));
                lock.exclusive.take_if(|handle| its(handle));
            }
        }
        self.left = self.inodes.iter().map(|inode| inode.shm.clone()).collect();
    }

    /// Logs an event and lets it happen.
    pub(super) fn happen(&mut self, event: Event) {
        self.apply(&event);
        if self.logs {
            self.log.push(event);
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Create { inode, name } => {
                assert_eq!(*inode, self.inodes.len(), "inodes are numbered in order");
                self.names.insert(name.clone(), *inode);
                self.inodes.push(Inode::default());
            }
            Event::Write { inode, offset, data } => write(&mut self.inodes[*inode].data, *offset, data),
            Event::Truncate { inode, size } => resize(&mut self.inodes[*inode].data, *size, 0),
            Event::Sync { .. } | Event::Lose { .. } => {}
            Event::Delete { name } => drop(self.names.remove(name)),
            Event::Rename { from, to } => {
                let inode = self.names.remove(from).expect("what is renamed is there");
                self.names.insert(to.clone(), inode);
            }
        }
    }

    /// The inode of a file, made where it is missing.
    pub(super) fn open(&mut self, name: &str) -> usize {
        if let Some(inode) = self.names.get(name) {
            return *inode;
        }
        let inode = self.inodes.len();
        self.happen(Event::Create { inode, name: name.to_owned() });
        inode
    }

    fn used(&self) -> usize {
        self.names.values().map(|inode| self.inodes[*inode].data.len()).sum()
    }

    /// Writes, or fails as `failed` says.
    pub(super) fn write(
        &mut self,
        inode: usize,
        offset: usize,
        data: &[u8],
        failed: Result<(), Fault>,
    ) -> Result<(), Fault> {
        let data = match failed {
            Err(fault) if !fault.partial => return failed,
            Err(_) => &data[..data.len() / 2],
            Ok(()) => data,
        };
        let grows = (offset + data.len()).saturating_sub(self.inodes[inode].data.len());
        if grows > 0 && self.capacity.is_some_and(|capacity| self.used() + grows > capacity) {
            return Err(Fault { op: Op::Write, skip: 0, code: FULL, sticky: true, partial: false });
        }
        self.happen(Event::Write { inode, offset, data: data.to_vec() });
        failed
    }
}

/// The stamp of a file, as the system tells it.
pub(crate) fn stamp(path: &str) -> Option<Stamp> {
    let (disk, name) = Disk::at(path)?;
    let state = disk.state();
    let data = &state.inodes[*state.names.get(&name)?].data;
    let of_content = |salt: u64| {
        let hash = blake3::Hasher::new().update(&salt.to_be_bytes()).update(data).finalize();
        i64::from_be_bytes(*hash.as_bytes().first_chunk().unwrap())
    };
    let seconds = match state.times.unwrap_or(Times::Kept) {
        Times::Kept => of_content(0),
        Times::Copied(number) => of_content(1 + number),
        Times::None => 0,
    };
    Some(Stamp { bytes: data.len() as u64, seconds, nanos: 0 })
}

/// Writes into a file, which grows where it must.
pub(super) fn write(file: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if offset == file.len() {
        return file.extend_from_slice(data);
    }
    if file.len() < offset + data.len() {
        resize(file, offset + data.len(), 0);
    }
    file[offset..offset + data.len()].copy_from_slice(data);
}

/// As `Vec::resize`, which copies byte by byte where nothing is optimised.
pub(super) fn resize(file: &mut Vec<u8>, size: usize, byte: u8) {
    file.truncate(size);
    file.extend_from_slice(&vec![byte; size - file.len()]);
}
