//! Files that SQLite does not know, and the head file, which is one of them. Nobody syncs them, so the
//! power takes from them what it likes.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, Event, Fault, Op};
use crate::backend::sqlite::head_file::HeadStorage;

/// The level at which a plain file is locked, in the place of SQLite's levels.
pub(super) const LOCKED: i32 = 1;

/// An open plain file.
pub(crate) struct Plain {
    disk: Arc<Disk>,
    name: String,
    inode: usize,
    handle: usize,
    write: bool,
}

impl Plain {
    /// Opens the file of a path; makes it, if it is missing and `write` is set. None if it is missing.
    pub(crate) fn open(path: &str, write: bool) -> io::Result<Option<Self>> {
        let (disk, name) = Disk::at(path).ok_or(io::ErrorKind::NotFound)?;
        disk.begin_plain(Op::Open).map_err(error)?;
        let mut state = disk.state();
        if !write && !state.names.contains_key(&name) {
            return Ok(None);
        }
        let (inode, handle) = (state.open(&name), state.handle());
        drop(state);
        Ok(Some(Self { disk, name, inode, handle, write }))
    }

    fn leave(&self) {
        self.disk.state().inodes[self.inode].locks.remove(&self.handle);
    }
}

pub(super) fn error(fault: Fault) -> io::Error {
    match fault.code {
        rusqlite::ffi::SQLITE_FULL => io::ErrorKind::StorageFull.into(),
        code => io::Error::other(format!("a fault of the disk: {code}")),
    }
}

impl HeadStorage for Plain {
    fn read(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        self.disk.read_at(&self.name, 0, limit).map_err(error)
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        assert!(self.write, "a read-only opener writes");
        self.disk.write_at(&self.name, offset, bytes).map_err(error)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.begin_plain(Op::Sync).map_err(error)?;
        self.disk.state().happen(Event::Sync { inode: self.inode, folder: false });
        Ok(())
    }

    /// Whoever holds it is interrupted for as long as this takes, so that waiting would not do.
    fn lock(&mut self) -> io::Result<bool> {
        self.disk.begin_plain(Op::Lock).map_err(error)?;
        let mut state = self.disk.state();
        let locks = &mut state.inodes[self.inode].locks;
        let free = locks.keys().all(|other| *other == self.handle);
        if free {
            locks.insert(self.handle, LOCKED);
        }
        Ok(free)
    }

    fn unlock(&mut self) -> io::Result<()> {
        let begun = self.disk.begin_plain(Op::Lock);
        self.leave();
        begun.map_err(error)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.leave();
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").field("name", &self.name).finish_non_exhaustive()
    }
}
