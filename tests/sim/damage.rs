//! Stores and the damage that is done to them.

use std::fmt;

use rusqlite::{Connection, OpenFlags};

use super::super::commit::{Sources, commit_group};
use super::super::power::compacting;
use super::super::power::world::{FILE, opening, sources};
use crate::backend::LogView;
use crate::backend::sqlite::sim::{Disk, Files, head_file};
use crate::backend::sqlite::{Checkpoint, Durability, LogMark, Pair, Stamp};
use crate::log::{Head, Meta, StoreId};
use crate::state::Batch;

pub(super) const WAL: &str = "state.db-wal";
pub(super) const WITNESS: &str = "state.db-head";

/// Bytes of the header of a write-ahead log.
const LOG_HEADER: usize = 32;

/// Files of a store at several moments, and those of another one.
pub(super) struct Subject {
    pub(super) name: &'static str,
    /// As it is, with its head file.
    pub(super) files: Files,
    /// As it was, some commits ago.
    older: Files,
    /// As it was between, with the log that it had then.
    logged: Files,
    /// Another store, with other values for the same keys.
    foreign: Files,
    page: usize,
}

/// One way to damage a store.
#[derive(Debug, Clone)]
pub(super) enum Damage {
    /// One bit of a file is turned over.
    Bit(&'static str, usize),
    /// Two pages change places.
    Swap(usize, usize),
    /// A page lies where another one was.
    Duplicate(usize, usize),
    /// A page is full of zeros.
    Zeros(usize),
    /// A page is as it was some commits ago: a write was lost.
    Older(usize),
    /// A page is another store's.
    Foreign(usize),
    /// A file ends early.
    Cut(&'static str, usize),
    /// A file is gone.
    Gone(&'static str),
    /// A file is as it was some commits ago.
    OlderFile(&'static str),
    /// A file is another store's.
    ForeignFile(&'static str),
    /// Two frames of the write-ahead log change places.
    SwapFrames(usize, usize),
    /// A frame lies where another one was.
    DuplicateFrame(usize, usize),
    /// After so many frames the log goes on as another store's.
    Splice(usize),
    /// A log that was moved into the database long ago is back.
    OldLog,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Damage {
    /// Whether to open what is left read-only, and for writing; the bits of a byte take turns.
    pub(super) fn modes(&self) -> &'static [bool] {
        match self {
            Self::Bit(_, bit) if (bit + bit / 8).is_multiple_of(2) => &[true],
            Self::Bit(..) => &[false],
            _ => &[true, false],
        }
    }

    /// Whether pages of sound rows are put where they do not belong. Each of them is right by itself,
    /// so single reads may answer with what was once true, or is elsewhere.
    pub(super) fn moves_sound_rows(&self) -> bool {
        !matches!(self, Self::Bit(..) | Self::Zeros(_) | Self::Cut(..) | Self::Gone(_))
    }
}

impl Subject {
    /// Everything is in the database, or some of it in the write-ahead log; pages of this size.
    pub(super) fn new(name: &'static str, page: usize, checkpointed: bool, compacted: bool) -> Self {
        let older = store([7; 16], page, 1, 12, true, false);
        let files = store([7; 16], page, 1, if checkpointed { 20 } else { 15 }, checkpointed, compacted);
        let foreign = store([9; 16], page, 2, 15, checkpointed, compacted);
        let logged = store([7; 16], page, 1, 15, false, false);
        Self { name, files, older, logged, foreign, page }
    }

    pub(super) fn damages(&self) -> Vec<Damage> {
        let mut all = Vec::new();
        for name in [FILE, WAL, WITNESS] {
            let Some(file) = self.files.get(name) else { continue };
            all.extend((0..file.len() * 8).map(|bit| Damage::Bit(name, bit)));
            all.extend((0..file.len()).step_by(self.page / 4).map(|size| Damage::Cut(name, size)));
            all.extend([Damage::Gone(name), Damage::OlderFile(name), Damage::ForeignFile(name)]);
        }
        let pages = self.files[FILE].len() / self.page;
        for a in 0..pages {
            all.extend([Damage::Zeros(a), Damage::Older(a), Damage::Foreign(a)]);
            all.extend((a + 1..pages).map(|b| Damage::Swap(a, b)));
            all.extend((0..pages).filter(|b| *b != a).map(|b| Damage::Duplicate(a, b)));
        }
        all.push(Damage::OldLog);
        let frames = self.files.get(WAL).map_or(0, |log| (log.len() - LOG_HEADER) / self.frame());
        for a in 0..frames {
            all.push(Damage::Splice(a));
            all.extend((a + 1..frames).map(|b| Damage::SwapFrames(a, b)));
            all.extend((0..frames).filter(|b| *b != a).map(|b| Damage::DuplicateFrame(a, b)));
        }
        all
    }

    /// Bytes of a frame of the write-ahead log.
    fn frame(&self) -> usize {
        24 + self.page
    }

    fn frames(&self, n: usize) -> std::ops::Range<usize> {
        let start = LOG_HEADER + n * self.frame();
        start..start + self.frame()
    }

    /// The files after the damage; none if nothing changes.
    pub(super) fn damaged(&self, damage: &Damage) -> Option<Files> {
        let mut files = self.files.clone();
        let page = |n: usize| n * self.page..(n + 1) * self.page;
        let part = |files: &Files, n: usize| files[FILE].get(page(n)).map(<[u8]>::to_vec);
        let mut put = |n: usize, bytes: Option<Vec<u8>>| {
            if let Some(bytes) = bytes {
                files.get_mut(FILE).unwrap()[page(n)].copy_from_slice(&bytes);
            }
        };
        match *damage {
            Damage::Bit(name, bit) => files.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8),
            Damage::Swap(a, b) => {
                put(a, part(&self.files, b));
                put(b, part(&self.files, a));
            }
            Damage::Duplicate(a, b) => put(b, part(&self.files, a)),
            Damage::Zeros(a) => put(a, Some(vec![0; self.page])),
            Damage::Older(a) => put(a, part(&self.older, a)),
            Damage::Foreign(a) => put(a, part(&self.foreign, a)),
            Damage::Cut(name, size) => files.get_mut(name).unwrap().truncate(size),
            Damage::Gone(name) => drop(files.remove(name)),
            Damage::OlderFile(name) => replace(&mut files, &self.older, name),
            Damage::ForeignFile(name) => replace(&mut files, &self.foreign, name),
            Damage::SwapFrames(a, b) => {
                let (log, whole) = (files.get_mut(WAL).unwrap(), &self.files[WAL]);
                log[self.frames(a)].copy_from_slice(&whole[self.frames(b)]);
                log[self.frames(b)].copy_from_slice(&whole[self.frames(a)]);
            }
            Damage::DuplicateFrame(a, b) => {
                let whole = &self.files[WAL];
                files.get_mut(WAL).unwrap()[self.frames(b)].copy_from_slice(&whole[self.frames(a)]);
            }
            Damage::Splice(n) => {
                let (log, at) = (files.get_mut(WAL).unwrap(), self.frames(n).start);
                log.truncate(at);
                log.extend_from_slice(self.foreign[WAL].get(at..).unwrap_or_default());
            }
            Damage::OldLog => replace(&mut files, &self.logged, WAL),
        }
        (files != self.files).then_some(files)
    }
}

fn replace(files: &mut Files, by: &Files, name: &str) {
    match by.get(name) {
        Some(file) => drop(files.insert(name.to_owned(), file.clone())),
        None => drop(files.remove(name)),
    }
}

/// A connection that knows nothing of stores.
pub(super) fn raw(disk: &Disk, access: OpenFlags) -> rusqlite::Result<Connection> {
    Connection::open_with_flags_and_vfs(
        disk.path(FILE),
        access | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        "univrs-sim",
    )
}

/// The files of a store after so many rounds; what comes after the 12th lies in the write-ahead log,
/// unless everything is checkpointed. A compacted one begins after its 12th round.
fn store(id: [u8; 16], page: usize, seed: u8, rounds: u8, checkpointed: bool, compacted: bool) -> Files {
    let id = StoreId::from_bytes(id);
    let disk = Disk::new(&Files::new(), false);
    let mut opening = opening(&disk, Some(Durability::Synced), false);
    opening.new_store = id;
    drop(opening.clone().first().unwrap());
    let conn = raw(&disk, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    conn.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
    conn.execute_batch(&format!("PRAGMA temp_store = MEMORY; PRAGMA page_size = {page}; VACUUM")).unwrap();
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
    drop(conn);
    let mut sqlite = opening.first().unwrap();
    let sources: Sources = sources(u64::from(seed));
    let mut heads = vec![Head::genesis(id)];
    for round in 0..rounds {
        commit_group(&mut sqlite, &sources, &[batch(round, seed)], None).results.remove(0).unwrap();
        if compacted && round == 14 {
            compacting::compact_to(&mut sqlite, &sources, heads[12].seq);
        }
        heads.push(sqlite.with_snapshot(|s| s.and_then(LogView::tip)).unwrap().head);
        if round == 11 || checkpointed {
            sqlite.checkpoint(Checkpoint::Empty(std::time::Duration::ZERO)).unwrap();
        }
    }
    let mut files = disk.files();
    drop(sqlite);
    disk.remove();
    files.retain(|name, data| name == FILE || !data.is_empty());
    let pair = files.get(WAL).map(|log| Pair {
        database: Stamp { bytes: files[FILE].len() as u64, seconds: 0, nanos: 0 },
        log: LogMark {
            salts: [16, 20].map(|at| u32::from_ne_bytes(*log[at..].first_chunk().unwrap())),
            frames: u32::try_from((log.len() - LOG_HEADER) / (24 + page)).unwrap(),
        },
    });
    files.insert(WITNESS.to_owned(), head_file(id, &heads, pair));
    files
}

/// Keys are created, updated, deleted and born again; values of all sizes, commits of several changes.
fn batch(round: u8, seed: u8) -> Batch {
    let value = |size: usize| vec![round * 8 + seed; size];
    let key = |n: u8| format!("/k/{}{n}", char::from(b'a' + n % 7));
    let batch = match round % 5 {
        0 => Batch::new().set(key(round), value(10)).set(key(round + 1), value(0)),
        1 => {
            Batch::new().set("/k/big", value(1500 + usize::from(round) * 10)).commit_id(format!("id{round}"))
        }
        2 => Batch::new().set("/gone", value(3)).delete(key(round - 2)).set("/other/key", value(60)),
        3 => Batch::new().delete("/gone").set(key(round), value(5)),
        _ => Batch::new().set("/k/b1", value(300)).set("/k/b1", value(30)),
    };
    if round.is_multiple_of(3) {
        batch.meta(Meta { actor: Some("corpus".into()), ..Meta::default() })
    } else {
        batch
    }
}
