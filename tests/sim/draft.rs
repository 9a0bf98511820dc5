//! The draft of a store's file, on the simulated disk.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, Event, Op};
use super::plain::{LOCKED, error};
use crate::backend::sqlite::SideFile;
use crate::backend::sqlite::creation::NewFile;

/// A draft, its inode and its handle while it is taken.
pub(crate) struct PlainNewFile {
    disk: Arc<Disk>,
    name: String,
    taken: Option<(usize, usize)>,
}

impl PlainNewFile {
    /// The draft of the file that is to have this path.
    pub(crate) fn new(path: &str) -> Self {
        let (disk, name) = Disk::at(path).expect("a path of a disk");
        Self { disk, name, taken: None }
    }

    fn new_file(&self) -> String {
        SideFile::NewFile.beside(self.name.as_ref()).to_string_lossy().into_owned()
    }

    fn length(&self, name: &str) -> usize {
        let state = self.disk.state();
        state.names.get(name).map_or(0, |inode| state.inodes[*inode].data.len())
    }

    fn sync(&self, folder: bool) -> io::Result<()> {
        let begun = self.disk.begin_plain(Op::Sync);
        let (inode, _) = self.taken.expect("it is taken");
        match begun {
            Ok(()) => self.disk.state().happen(Event::Sync { inode, folder }),
            Err(fault) if fault.partial && !folder => self.disk.state().happen(Event::Lose { inode }),
            Err(_) => {}
        }
        begun.map_err(error)
    }
}

impl NewFile for PlainNewFile {
    fn take(&mut self) -> io::Result<bool> {
        self.disk.begin_plain(Op::Open).map_err(error)?;
        let draft = self.new_file();
        let (inode, handle) = {
            let mut state = self.disk.state();
            (state.open(&draft), state.handle())
        };
        // Whoever comes between may take it, give it its name, or remove it.
        self.disk.begin_plain(Op::Lock).map_err(error)?;
        let mut state = self.disk.state();
        let free = state.inodes[inode].locks.is_empty();
        if free && state.names.get(&draft) == Some(&inode) {
            state.inodes[inode].locks.insert(handle, LOCKED);
            drop(state);
            self.taken = Some((inode, handle));
        }
        Ok(self.taken.is_some())
    }

    fn is_wanted(&mut self) -> io::Result<bool> {
        Ok(self.length(&self.name) == 0)
    }

    fn has_log(&mut self) -> io::Result<bool> {
        Ok(self.length(&format!("{}-wal", self.name)) > 0)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.begin_plain(Op::Truncate).map_err(error)?;
        let (inode, _) = self.taken.expect("it is taken");
        self.disk.state().happen(Event::Truncate { inode, size: 0 });
        // In two parts, so that there is something between.
        let half = bytes.len() / 2;
        for (offset, part) in [(0, &bytes[..half]), (half, &bytes[half..])] {
            let begun = self.disk.begin_plain(Op::Write);
            self.disk.state().write(inode, offset, part, begun).map_err(error)?;
        }
        self.sync(false)
    }

    fn publish(&mut self) -> io::Result<()> {
        self.disk.begin_plain(Op::Rename).map_err(error)?;
        let (from, to) = (self.new_file(), self.name.clone());
        self.disk.state().happen(Event::Rename { from, to });
        self.sync(true)
    }

    fn discard(&mut self) -> io::Result<()> {
        self.disk.begin_plain(Op::Delete).map_err(error)?;
        self.disk.state().happen(Event::Delete { name: self.new_file() });
        Ok(())
    }
}

impl Drop for PlainNewFile {
    fn drop(&mut self) {
        if let Some((inode, handle)) = self.taken {
            self.disk.state().inodes[inode].locks.remove(&handle);
        }
    }
}
