//! The connections of an open store: the first one reads the head file; others are opened beside it.

use std::cell::Cell;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::config::{Location, Opening, SideFile};
use super::head_file::{HeadFile, HeadOnDisk, HeadStorage, Loss, RecordedHead};
use super::known_floor::KnownFloor;
use super::slot::Stamp;
use super::{Checkpoint, Sqlite, fault, path, schema};
use crate::backend::folder;
use crate::backend::process::CountedConnection;
use crate::error::{Result, StateError};
use crate::log::StoreId;
use crate::seq::Seq;
use crate::sync::lock;

/// The page cache of the connection that writes, 32 MiB. A commit on random keys reads and rewrites pages for
/// each key, and SQLite's default of 2 MiB holds a fifth of 50 000 rows of 128 bytes. Measured with 512
/// tasks: 15 000 page reads instead of 42 000 for 58 500 rows, and 0.90 of the processor time of a set.
const WRITER_CACHE_KIB: i64 = 32 << 10;
/// The page cache while a store is built from an export, 16 MiB, because an import should take little memory.
const LOAD_CACHE_KIB: i64 = 16 << 10;

/// `PRAGMA synchronous` for a rollback journal that survives the loss of power.
const FULL: i64 = 2;

impl Sqlite {
    pub(super) fn new(conn: Connection, store: StoreId, opening: Opening) -> Self {
        Self {
            conn,
            store,
            known: Cell::default(),
            floor: KnownFloor::default(),
            floor_version: Cell::default(),
            read_tip: Cell::default(),
            opening,
            head_file: Arc::default(),
            is_doubtful: Arc::default(),
            synced: Arc::default(),
            log_salts: Cell::default(),
            accepted_loss: Cell::default(),
            warning: None,
            others: None,
            _counted: CountedConnection::new(),
        }
    }

    /// Reads the head file and compares it with the log. A connection that writes keeps it, to record
    /// later heads in it.
    ///
    /// IMPORTANT: the head file is read before the log. Another process records a head only after its
    /// commit, so the log that is read next contains whatever head the file names.
    pub(super) fn load_head_file(&mut self) -> Result<()> {
        let Location::File(file) = &self.opening.location else { return Ok(()) };
        let (path, writes) = (SideFile::Head.beside(file), !self.opening.read_only);
        let file = match self.opening.head_file(&path, writes) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(()),
            // A writer must be able to record heads; otherwise a later loss would not be noticed.
            Err(error) if writes && error.kind() == io::ErrorKind::PermissionDenied => {
                let done = "must be writable for whoever writes the database: give it the owner and the permissions \
                            of the database, or remove it";
                return Err(StateError::at_path(&path, done, error));
            }
            Err(error) if writes => return Err(StateError::at_path(&path, "cannot be opened", error)),
            Err(error) => {
                self.warn(&path, &error);
                return Ok(());
            }
        };
        let mut head_file = HeadFile::new(file, self.store);
        let recorded = match head_file.recorded() {
            Ok(recorded) => recorded,
            // IMPORTANT: a head file that cannot be read is not written. A new head would hide a loss that a
            // process that can read the file would find.
            Err(error) => {
                self.warn(&path, &error);
                return Ok(());
            }
        };
        if recorded == RecordedHead::Unreadable {
            self.warn(&path, &"it is damaged");
        }
        let loss = self.loss(recorded)?;
        let accepted = loss.is_some_and(|loss| self.has_accepted(loss));
        if let Some(loss) = loss.filter(|_| !accepted) {
            self.refuse_or_accept_loss(loss)?;
        }
        *lock(&self.head_file) = writes.then_some(head_file);
        if accepted {
            self.reset_head_file(self.read_head()?)?;
        }
        Ok(())
    }

    fn warn(&mut self, head_file: &Path, why: &dyn Display) {
        let head_file = head_file.display();
        let unknown = "a missing end of the log would not be noticed";
        self.add_warning(&format!("{head_file} cannot be read: {why}; {unknown}"));
    }

    /// Adds a line to the warning of the opening.
    pub(super) fn add_warning(&mut self, line: &str) {
        self.warning = Some(match self.warning.take() {
            Some(known) => format!("{known}\n{line}"),
            None => line.to_owned(),
        });
    }

    /// Warns of tables and views of other programs.
    pub(super) fn warn_of_others(&mut self) -> Result<()> {
        let others =
            schema::others(&self.conn).map_err(|error| self.opening.fault(Some(&self.conn), error))?;
        let file = self.opening.shown().display();
        self.others = others
            .map(|others| format!("{file} also has what no store makes, and which is left alone: {others}"));
        Ok(())
    }

    /// Syncs the name of the file before anything that is in it is served, or acknowledged.
    ///
    /// IMPORTANT: another process may have made the file, or the folders above it, and not synced their names yet.
    /// While the log is empty, nobody is known to have synced the folders above: whoever recorded the first commit
    /// had opened an empty log, or had imported it, and synced them before.
    pub(super) fn sync_names(&self) -> Result<()> {
        let Location::File(file) = &self.opening.location else { return Ok(()) };
        if !self.opening.is_real() || self.opening.immutable {
            return Ok(());
        }
        let is_empty = self.read_head()?.seq == Seq::ZERO;
        let synced = if is_empty { folder::sync_path(file) } else { folder::sync_name(file) };
        match synced {
            // A folder that may be entered but not read cannot be synced, as on a file system without that.
            Err(error) if folder::CANNOT_SYNC.contains(&error.kind()) => Ok(()),
            synced => {
                synced.map_err(|error| StateError::at_path(file, "has a name that cannot be synced", error))
            }
        }
    }

    /// Refuses a loss, unless the option accepts it and no other connection has the store open.
    fn refuse_or_accept_loss(&self, loss: Loss) -> Result<()> {
        let (path, log) = (self.opening.shown(), SideFile::Log.beside(self.opening.shown()));
        let (path, log) = (path.display(), log.display());
        if self.opening.read_only || !self.opening.accept_loss {
            return Err(StateError::Corrupted(format!(
                "{path}: {loss}; bring back {path} and {log} as they were, or accept the loss by opening it once \
                 with the option accept_loss"
            )));
        }
        let mode = |sql| self.conn.query_row(sql, [], |row| row.get::<_, String>(0));
        // Leaving the WAL mode succeeds only if no other connection has the file open: that is the test.
        // IMPORTANT: `synchronous` is set first, because a rollback journal that is synced as seldom as the
        // log of a buffered store would not be safe.
        self.conn.pragma_update(None, "synchronous", FULL).map_err(fault::storage)?;
        match mode("PRAGMA journal_mode = DELETE")
            .map_err(|error| self.opening.fault(Some(&self.conn), error))
        {
            Ok(mode) if mode == "delete" => {}
            Ok(_) | Err(StateError::Busy(_)) => {
                return Err(StateError::Busy(format!(
                    "{path} is also open elsewhere, but a loss can be accepted only while nobody else has the store open: \
                    close it in all other processes"
                )));
            }
            Err(error) => return Err(error),
        }
        self.opening.set_journal(&self.conn, self.opening.durability.unwrap_or_default())?;
        self.accepted_loss.set(Some(loss));
        Ok(())
    }

    /// Another connection to the same store. With `reads_only` it refuses to write; otherwise it has the same
    /// head file.
    pub(crate) fn another(&self, reads_only: bool) -> Result<Self> {
        let sqlite = self.opening.another(self.store, reads_only)?;
        Ok(if reads_only { sqlite } else { self.shared_with(sqlite) })
    }

    /// Gives another connection what all that write and make checkpoints share.
    pub(super) fn shared_with(&self, other: Self) -> Self {
        let (head_file, is_doubtful) = (self.head_file.clone(), self.is_doubtful.clone());
        Self { head_file, is_doubtful, synced: self.synced.clone(), ..other }
    }

    /// Sets what only a connection that writes needs: its cache, how long the file of the log may stay, and that what is
    /// deleted is overwritten where that costs no further write, also in what SQLite keeps beside the file for a while.
    pub(super) fn set_for_writing(&self) -> Result<()> {
        // When the log starts over, its file is cut to the cap.
        let cap = i64::try_from(self.opening.wal_cap).unwrap_or(i64::MAX);
        self.conn.pragma_update(None, "journal_size_limit", cap).map_err(fault::storage)?;
        self.conn.pragma_update(None, "secure_delete", "FAST").map_err(fault::storage)?;
        self.conn.pragma_update(None, "temp_store", "MEMORY").map_err(fault::storage)?;
        self.conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB).map_err(fault::storage)
    }

    /// Turns syncs off, for a file that is still being built and has no name that others know.
    pub(crate) fn begin_load(&self) -> Result<()> {
        self.conn.pragma_update(None, "synchronous", 0).map_err(fault::storage)?;
        self.conn.pragma_update(None, "cache_size", -LOAD_CACHE_KIB).map_err(fault::storage)
    }

    /// Moves the whole write-ahead log into the database file.
    ///
    /// IMPORTANT: the file is not synced here; the caller syncs it before it gives it its final name.
    pub(crate) fn end_load(self) -> Result<()> {
        self.checkpoint(Checkpoint::Empty(Duration::ZERO))?;
        match self.wal_pages()? {
            0 => Ok(()),
            left => Err(StateError::Storage(format!("{left} pages are left in the write-ahead log").into())),
        }
    }

    /// What an operator should know of the files, each in a line.
    pub(crate) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// A warning of what other programs keep in the file.
    pub(crate) fn others(&self) -> Option<&str> {
        self.others.as_deref()
    }

    pub(crate) fn opening(&self) -> &Opening {
        &self.opening
    }

    pub(crate) fn id(&self) -> StoreId {
        self.store
    }
}

impl Opening {
    /// The storage of the head file; `None` if it is missing and `write` is not set.
    pub(super) fn head_file(&self, path: &Path, write: bool) -> io::Result<Option<Box<dyn HeadStorage>>> {
        #[cfg(test)]
        if !self.is_real() {
            let file = super::sim::Plain::open(&path.to_string_lossy(), write)?;
            return Ok(file.map(|file| Box::new(file) as Box<dyn HeadStorage>));
        }
        Ok(HeadOnDisk::open(path, self.shown(), write)?.map(|file| Box::new(file) as Box<dyn HeadStorage>))
    }

    /// The stamp of the database file at its path.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let Location::File(file) = &self.location else { return None };
        #[cfg(test)]
        if !self.is_real() {
            return super::sim::stamp(&file.to_string_lossy());
        }
        path::stamp(file)
    }

    /// Another connection to the store that this opening opened.
    pub(crate) fn another(&self, expected: StoreId, reads_only: bool) -> Result<Sqlite> {
        self.check_beside()?;
        let opening = Self { create: false, ..self.clone() };
        let (conn, store, _) = opening.connect_in_time()?;
        if store != expected {
            return Err(opening.refuse("was replaced by another store while it was open"));
        }
        opening.move_log_on_close(&conn)?;
        let sqlite = Sqlite::new(conn, store, opening);
        if reads_only {
            sqlite.conn.pragma_update(None, "query_only", true).map_err(fault::storage)?;
        } else {
            sqlite.set_for_writing()?;
        }
        Ok(sqlite)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::super::config::WAL_CAP;
    use super::super::sim::{Disk, Fault, Files, Op, Plain};
    use super::super::{Durability, Judge};
    use super::*;
    use crate::log::{Hash, Head};
    use crate::seq::Seq;

    const STORE: StoreId = StoreId::from_bytes([5; 16]);

    fn opening(disk: &Disk, accept_loss: bool) -> Opening {
        Opening {
            accept_loss,
            loss_meta: crate::log::Meta::new(),
            expected: None,
            location: Location::File(disk.path("state.db").into()),
            create: true,
            read_only: false,
            durability: None,
            busy_timeout: Duration::from_millis(20),
            new_store: STORE,
            immutable: false,
            wal_cap: WAL_CAP,
            beside: Vec::new(),
            judge: Judge::new(|_| Ok(None)),
            vfs: Some("univrs-sim"),
        }
    }

    #[test]
    fn only_a_checkpoint_that_may_have_lost_what_it_synced_makes_the_log_doubtful() {
        let storage = || StateError::Storage("no sync".into());
        let (full, busy) = (StateError::StorageFull(String::new()), StateError::Busy(String::new()));
        let closed = StateError::Closed;
        for (durability, error, doubted) in [
            (Durability::Buffered, storage(), true),
            (Durability::Buffered, closed, true),
            (Durability::Buffered, full, false),
            (Durability::Buffered, busy, false),
            (Durability::Synced, storage(), false),
        ] {
            let disk = Disk::new(&Files::new(), false);
            let sqlite = Opening { durability: Some(durability), ..opening(&disk, false) }.first().unwrap();
            let what = format!("{durability:?} {error}");
            sqlite.note_unsynced(&Err(error));
            assert_eq!(sqlite.is_log_doubtful(), doubted, "{what}");
            drop(sqlite);
            disk.remove();
        }
    }

    #[test]
    fn a_connection_that_writes_overwrites_what_it_deletes() {
        let disk = Disk::new(&Files::new(), false);
        let sqlite = opening(&disk, false).first().unwrap();
        let other = sqlite.another(false).unwrap();
        for sqlite in [&sqlite, &other] {
            let number = |sql| sqlite.conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            // SQLite's numbers of FAST and of MEMORY.
            assert_eq!((number("PRAGMA secure_delete"), number("PRAGMA temp_store")), (2, 2));
        }
        drop((sqlite, other));
        disk.remove();
    }

    // A closing store said that another process held it, where a read lock could not be had for a while.
    #[test]
    fn a_store_closes_whoever_holds_the_locks_of_its_log() {
        for durability in [Durability::Buffered, Durability::Synced] {
            let disk = Disk::new(&Files::new(), false);
            let sqlite = Opening { durability: Some(durability), ..opening(&disk, false) }.first().unwrap();
            let fault = Fault { op: Op::Lock, skip: 0, code: ffi::SQLITE_BUSY, sticky: true, partial: false };
            disk.plant(Some(fault));
            assert!(matches!(sqlite.read_head(), Err(StateError::Busy(_))), "the premise");
            let syncs = disk.count(Op::Sync);
            assert_eq!(sqlite.last_checkpoint(), Ok(()), "{durability:?}");
            let synced = disk.count(Op::Sync) > syncs;
            assert_eq!(synced, durability == Durability::Buffered, "a synced store has nothing to sync");
            disk.plant(None);
            drop(sqlite);
            disk.remove();
        }
    }

    /// Accepts a loss on a disk with this fault. The error, and whether the fault struck.
    fn accept(fault: Option<Fault>) -> (Option<StateError>, bool) {
        let disk = Disk::new(&Files::new(), false);
        drop(opening(&disk, false).first().unwrap());
        let head_file = Plain::open(&disk.path("state.db-head"), true).unwrap().unwrap();
        let reached = Head { seq: Seq::new(5), hash: Hash::from_bytes([7; 32]) };
        HeadFile::new(Box::new(head_file), STORE).advance(reached).unwrap();
        assert!(matches!(opening(&disk, false).first(), Err(StateError::Corrupted(_))), "the premise");
        disk.plant(fault);
        let error = opening(&disk, true).first().err();
        let struck = disk.struck() > 0;
        disk.remove();
        (error, struck)
    }

    #[test]
    fn a_disk_that_fails_while_a_loss_is_accepted_is_not_told_as_another_opener() {
        assert_eq!(accept(None), (None, false));
        for (op, code) in [
            (Op::Write, ffi::SQLITE_FULL),
            (Op::Read, ffi::SQLITE_IOERR_READ),
            (Op::Sync, ffi::SQLITE_IOERR_FSYNC),
        ] {
            for skip in 0.. {
                let fault = Fault { op, skip, code, sticky: false, partial: false };
                let (error, struck) = accept(Some(fault));
                assert!(!matches!(error, Some(StateError::Busy(_))), "{op:?} {skip}: {error:?}");
                if !struck {
                    assert!(skip > 0, "the premise: there is a {op:?}");
                    break;
                }
            }
        }
    }
}
