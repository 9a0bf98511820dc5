//! Creating a store's file.
//!
//! IMPORTANT: the file is written completely under another name (the draft), synced, and only then renamed.
//! So neither a crash nor a loss of power leaves half a file. If an attempt was cut off, the next one uses
//! its draft.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::{Location, Opening, SideFile};
use super::head_file::{HeadFile, Loss};
use super::patience::{Clock, Patience};
use super::{beside, fault, path, schema};
use crate::backend::folder;
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Head, StoreId};
use crate::seq::Seq;

/// How long a creator sleeps between two attempts to take the draft.
const SLEEP: Duration = Duration::from_millis(5);
/// The room that opening the new store takes beside its file: the index of the write-ahead log, its first pages, and
/// the head file. A store that nobody could open for want of room would stay behind.
const ROOM: u64 = 64 << 10;
/// The descriptors that opening the new store takes beside its file's. With fewer, nobody could open it, either.
const DESCRIPTORS: usize = 14;

/// The draft of a new file; a trait, so that tests can simulate a loss of power.
pub(crate) trait NewFile {
    /// Locks the draft, and makes it if it is missing; false while another creator has it locked.
    fn take(&mut self) -> io::Result<bool>;
    /// Whether a file is wanted: nothing, or an empty file, has the final name.
    fn is_wanted(&mut self) -> io::Result<bool>;
    /// Whether a write-ahead log with that name exists and is not empty.
    fn has_log(&mut self) -> io::Result<bool>;
    /// Writes the whole file and syncs it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Gives the draft its final name, and syncs the folder.
    fn publish(&mut self) -> io::Result<()>;
    /// Removes the draft.
    fn discard(&mut self) -> io::Result<()>;
}

impl Opening {
    /// Creates the store's file if it is missing or empty and `create` is set. Refuses if the files beside it
    /// show that a store with changes was here.
    pub(super) fn make_file(&mut self) -> Result<()> {
        let Location::File(file) = &self.location else { return Ok(()) };
        let file = file.clone();
        let mut draft = self.new_file(&file);
        let failed = |error: io::Error| StateError::at_path(&file, "cannot be created", error);
        if !draft.is_wanted().map_err(failed)? {
            return Ok(());
        }
        // IMPORTANT: the files beside the database are read between two looks at the database itself. A
        // creator makes the database before any file beside it. So if the database is missing after they
        // were read, they belong to a store that is lost.
        let (reached, has_log) = (self.reached(&file), draft.has_log().map_err(failed)?);
        if !draft.is_wanted().map_err(failed)? {
            return Ok(());
        }
        if let Some((store, reached)) = reached {
            if !self.accept_loss {
                return Err(lost(&file, Loss { reached, ends: Head::genesis(store) }));
            }
            self.check_id(store)?;
            // The new store has the id of the lost one. If this opening is cut off before it records the loss,
            // the next one still finds it in the head file.
            self.new_store = store;
        }
        if has_log {
            let log = SideFile::Log.beside(&file);
            return Err(self.refuse(&format!(
                "is missing or empty, but its write-ahead log is not, and would be deleted with what it holds: bring \
                 the database back, or move {} away",
                log.display()
            )));
        }
        if !self.creates() {
            let is_there = file.exists();
            return Err(self.refuse(if is_there { "is empty, not a store" } else { "does not exist" }));
        }
        let bytes = schema::image(self.new_store, self.durability.unwrap_or_default());
        let bytes = bytes.map_err(fault::storage)?;
        create(&mut *draft, &bytes, Patience::new(self.busy_timeout, SLEEP)).map_err(failed)
    }

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests have files of another kind"))]
    fn new_file(&self, file: &Path) -> Box<dyn NewFile> {
        #[cfg(test)]
        if !self.is_real() {
            return Box::new(super::sim::PlainNewFile::new(&file.to_string_lossy()));
        }
        Box::new(NewFileOnDisk::new(file.to_owned()))
    }

    /// The store and the head that the head file names, of any store. A head file that cannot be read causes
    /// a warning later, when the new store reads it.
    fn reached(&self, file: &Path) -> Option<(StoreId, Head)> {
        let head_file = self.head_file(&SideFile::Head.beside(file), false).ok()??;
        HeadFile::newest(head_file).ok()?.filter(|(_, head)| head.seq > Seq::ZERO)
    }
}

fn lost(file: &Path, loss: Loss) -> StateError {
    let (log, head) = (SideFile::Log.beside(file), SideFile::Head.beside(file));
    let (path, log, head) = (file.display(), log.display(), head.display());
    StateError::Corrupted(format!(
        "{path} is missing or empty: {loss}; bring back {path} and {log} as they were, or accept the loss by \
         opening it once with the option accept_loss; where it was removed on purpose, remove {head}, too"
    ))
}

/// Creates the file, unless another process has created it. Waits while another process is creating it.
pub(super) fn create(
    draft: &mut dyn NewFile,
    bytes: &[u8],
    mut patience: Patience<impl Clock>,
) -> io::Result<()> {
    while !draft.take()? {
        if !patience.pause() {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "another process is creating it"));
        }
    }
    if !draft.is_wanted()? {
        return draft.discard();
    }
    let made = draft.write(bytes).and_then(|()| draft.publish());
    if made.is_err() {
        // Nothing stays on a full disk. Why the file could not be made is what the caller must learn.
        let _ = draft.discard();
    }
    made
}

/// A draft in a file.
pub(super) struct NewFileOnDisk {
    own: PathBuf,
    draft: PathBuf,
    /// The open draft, locked while this creator has it.
    taken: Option<File>,
}

impl NewFileOnDisk {
    /// The draft of the file with this absolute path.
    pub(super) fn new(file: PathBuf) -> Self {
        Self { draft: SideFile::NewFile.beside(&file), own: file, taken: None }
    }
}

impl NewFile for NewFileOnDisk {
    fn take(&mut self) -> io::Result<bool> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = beside::open(&self.draft, &mut options, true)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Another creator may have renamed or removed the file before it was locked here.
        let is_draft = folder::is_at(&file, &self.draft)?;
        self.taken = is_draft.then_some(file);
        Ok(is_draft)
    }

    fn is_wanted(&mut self) -> io::Result<bool> {
        path::is_vacant(&self.own)
    }

    fn has_log(&mut self) -> io::Result<bool> {
        path::is_vacant(&SideFile::Log.beside(&self.own)).map(|vacant| !vacant)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(mut file) = self.taken.as_ref() else { return Err(io::ErrorKind::NotFound.into()) };
        let descriptors: Vec<File> = (0..DESCRIPTORS).map(|_| file.try_clone()).collect::<io::Result<_>>()?;
        drop(descriptors);
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(bytes)?;
        io::copy(&mut io::repeat(0).take(ROOM), &mut file)?;
        file.set_len(bytes.len() as u64)?;
        // Of an empty file that it will replace.
        path::take_after(file, &self.own)?;
        if failpoint("file_not_synced") { Ok(()) } else { file.sync_all() }
    }

    fn publish(&mut self) -> io::Result<()> {
        match folder::publish(&self.draft, &self.own) {
            // An empty file, which may become a store. Anything else was made meanwhile, and is not replaced.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.is_wanted()? => {
                folder::rename_onto_empty(&self.draft, &self.own, &File::open(&self.own)?)?;
                folder::sync_name(&self.own)
            }
            published => published,
        }
    }

    fn discard(&mut self) -> io::Result<()> {
        fs::remove_file(&self.draft)
    }
}

#[cfg(test)]
mod tests {
    use super::super::patience::tests::Told;
    use super::*;

    #[test]
    fn a_new_store_is_made_where_as_many_descriptors_are_free_as_the_readme_says() {
        let said = format!("{DESCRIPTORS} descriptors");
        assert!(include_str!("../../../README.md").contains(&said), "{said}");
    }

    fn create(file: &Path, bytes: &[u8]) -> io::Result<()> {
        let at_once = Patience::new(Duration::ZERO, SLEEP);
        super::create(&mut NewFileOnDisk::new(file.to_owned()), bytes, at_once)
    }

    /// A draft that another creator keeps; to ask for it takes time.
    struct Kept(Told);

    impl NewFile for Kept {
        fn take(&mut self) -> io::Result<bool> {
            self.0.pass(Duration::from_millis(400));
            Ok(false)
        }
        fn is_wanted(&mut self) -> io::Result<bool> {
            Ok(true)
        }
        fn has_log(&mut self) -> io::Result<bool> {
            Ok(false)
        }
        fn write(&mut self, _: &[u8]) -> io::Result<()> {
            unreachable!("it was not taken")
        }
        fn publish(&mut self) -> io::Result<()> {
            unreachable!("it was not written")
        }
        fn discard(&mut self) -> io::Result<()> {
            unreachable!("it was not taken")
        }
    }

    #[test]
    fn a_creator_waits_for_another_as_long_as_was_asked_for_however_long_it_takes_to_look() {
        let clock = Told::default();
        let patience = Patience::by(clock.clone(), Duration::from_secs(1), SLEEP);
        let busy = super::create(&mut Kept(clock.clone()), b"", patience).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        assert!(clock.passed() < Duration::from_millis(1400), "{:?}", clock.passed());
    }

    #[test]
    fn what_a_crash_left_of_a_draft_is_used_and_nothing_stays_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.db");
        fs::write(SideFile::NewFile.beside(&file), vec![7; 100_000]).unwrap();
        create(&file, b"whole").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_another_creator_made_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.db");
        fs::write(&file, b"theirs").unwrap();
        create(&file, b"ours").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn creators_take_turns_and_a_draft_that_got_its_name_is_none_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.db");
        let mut first = NewFileOnDisk::new(file.clone());
        assert!(first.take().unwrap());
        let late = OpenOptions::new().write(true).open(SideFile::NewFile.beside(&file)).unwrap();
        let busy = create(&file, b"second").unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        first.write(b"first").unwrap();
        first.publish().unwrap();
        drop(first);
        assert!(!folder::is_at(&late, &SideFile::NewFile.beside(&file)).unwrap());
        create(&file, b"third").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"first");
    }

    #[cfg(unix)]
    #[test]
    fn an_empty_file_that_was_prepared_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.db");
        fs::write(&file, b"").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        create(&file, b"whole").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read(&file).unwrap(), b"whole");
    }
}
