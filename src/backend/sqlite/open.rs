//! Opening a store's file: creating it, or checking that it is one.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::config::{Durability, Location, Opening, SideFile};
use super::patience::{Clock, Patience};
use super::place::PlaceLocks;
use super::schema::{self, APPLICATION_ID, FORMAT};
use super::{Checkpoint, Sqlite, busy, fault, ffi, path};
use crate::backend::process::{CountedConnection, has_inherited};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::limits::MOST_VALUE_BYTES;
use crate::log::StoreId;

/// Older versions have a bug that corrupts a database when two connections restart its write-ahead log.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Bytes of the longest row: the longest value, and 1 MiB for everything else.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "it is far below that")]
const LONGEST_ROW: i32 = (MOST_VALUE_BYTES + (1 << 20)) as i32;

/// How long an opening sleeps between two attempts.
const BUSY_SLEEP: Duration = Duration::from_millis(5);

/// IMPORTANT: a process must not create a file while it opens the same one. On Unix, closing any descriptor
/// of a file drops all locks that the process holds on it.
static OPENING: PlaceLocks = PlaceLocks::new();

impl Opening {
    /// Opens the first connection: the one that writes, or the first of a read-only store. Creates the store if
    /// it is missing and `create` is set.
    pub(crate) fn first(self) -> Result<Sqlite> {
        let (opening, _entered) = self.enter()?;
        let place = opening.place();
        OPENING.at(place.as_ref(), || opening.open())
    }

    /// Checks that this process can open the store, and prepares the path. Connections are counted from here on:
    /// a fork that is made while the result lives opens no files.
    ///
    /// IMPORTANT: forks are refused before anything is locked. In a fork, the thread that would unlock it may be
    /// missing.
    pub(crate) fn enter(mut self) -> Result<(Self, CountedConnection)> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            let found = rusqlite::version();
            return Err(self.refuse(&format!("needs SQLite 3.51.3 or newer, but {found} is linked")));
        }
        if !ffi::watch_forks() {
            return Err(StateError::Unavailable(
                "the system has no memory to register the handler of forks".into(),
            ));
        }
        if self.is_file() && has_inherited() {
            return Err(StateError::Forked);
        }
        let entered = CountedConnection::new();
        if let Location::File(file) = &self.location
            && self.is_real()
        {
            self.location = Location::File(path::prepare(file, self.creates())?);
        }
        Ok((self, entered))
    }

    /// Opens the first connection to the prepared path.
    ///
    /// IMPORTANT: the order of the steps. A doubt about the files is settled before anything is written. The
    /// write-ahead log is synced before anything that was read from it is served. The head file is read before the
    /// log. The files beside the database are noted last, when SQLite has made them.
    fn open(mut self) -> Result<Sqlite> {
        self.make_file()?;
        let second_name = self.check_names()?;
        if self.immutable {
            self.note_contents()?;
        }
        let (conn, store, durability) = match self.connect_in_time() {
            // SQLite cannot make its shared memory in a folder that cannot be written, and needs none if
            // nobody has the store open: then the file can be read as one that does not change. Not after a
            // failure that may pass, such as a full disk, because another process may be writing the file.
            Err(error @ StateError::CannotOpen { .. }) if self.read_only && self.has_no_log(&error) => {
                self.immutable = true;
                self.note_contents()?;
                self.connect_in_time()?
            }
            connection => connection?,
        };
        self.check_id(store)?;
        self.durability = Some(durability);
        let mut sqlite = Sqlite::new(conn, store, self);
        if failpoint("doubt_after_checkpoint") {
            sqlite.checkpoint(Checkpoint::Empty(Duration::ZERO))?;
        }
        if failpoint("doubted_log_moved_on_close") {
            sqlite.opening.move_log_on_close(&sqlite.conn)?;
        }
        sqlite.settle_doubt()?;
        if sqlite.opening.is_file() && !failpoint("no_wal_sync") {
            // IMPORTANT: before anything is served. A process that died may have left commits in the page
            // cache. They were never acknowledged, but this connection can read them, and a loss of power
            // would take them back after they were read. A later checkpoint would sync them, too, but a
            // read-only store makes none, and a busy one returns before it syncs.
            let synced = ffi::sync_wal(&sqlite.conn);
            synced.map_err(|error| sqlite.opening.fault(Some(&sqlite.conn), error))?;
        }
        sqlite.warning = second_name;
        sqlite.load_head_file()?;
        // IMPORTANT: not before. A store that is refused must stay as it is.
        sqlite.opening.move_log_on_close(&sqlite.conn)?;
        sqlite.sync_names()?;
        sqlite.warn_of_others()?;
        if !sqlite.opening.read_only && sqlite.opening.is_file() && !failpoint("no_wal_sync") {
            // If the disk is full, the log cannot be moved now. It is synced, so it can be read as it is.
            match sqlite.checkpoint(Checkpoint::Empty(Duration::ZERO)) {
                Ok(_) | Err(StateError::StorageFull(_)) => {}
                Err(error) => return Err(error),
            }
            sqlite.sync()?;
        }
        sqlite.opening.note_beside()?;
        // Accepting a loss removes the index and makes a new one. IMPORTANT: after the files were noted. If the path
        // had another file meanwhile, that one was noted, and this refuses.
        sqlite.mark_as_sure(sqlite.expected_mark()?)?;
        sqlite.opening.check_beside()?;
        sqlite.set_for_writing()?;
        Ok(sqlite)
    }

    /// Refuses to write a file that has a second name. Without a write-ahead log it can be read, as one that does
    /// not change, with a warning.
    fn check_names(&mut self) -> Result<Option<String>> {
        let Location::File(file) = &self.location else { return Ok(None) };
        let failed = |error| StateError::at_path(file, "cannot be looked at", error);
        let second = if self.is_real() { path::second_name(file).map_err(failed)? } else { None };
        let Some(why) = second else { return Ok(None) };
        if !self.read_only {
            return Err(if failpoint("second_name_not_seen") { return Ok(None) } else { self.refuse(&why) });
        }
        // An empty log may be that of a writer that is about to commit.
        let missing = |side: SideFile| matches!(path::found(&side.beside(file)), Ok(None));
        self.immutable = missing(SideFile::Log) && missing(SideFile::Journal);
        let read = if self.immutable {
            "as a file that does not change"
        } else {
            "with the write-ahead log of this name; another name may have another one"
        };
        Ok(Some(format!("{} {why}. It is read {read}", file.display())))
    }

    /// Whether other connections can reach the store.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.location, Location::File(_))
    }

    /// Whether it opens files of the operating system, and not of a simulated disk.
    #[cfg(not(test))]
    #[expect(clippy::unused_self)]
    pub(super) fn is_real(&self) -> bool {
        true
    }

    #[cfg(test)]
    pub(super) fn is_real(&self) -> bool {
        self.vfs.is_none()
    }

    /// Whether this opening creates a missing store.
    pub(super) fn creates(&self) -> bool {
        self.create && !self.read_only
    }

    /// Whether everything that was committed is in the database file, after this error of opening it.
    fn has_no_log(&self, error: &StateError) -> bool {
        let Location::File(file) = &self.location else { return false };
        if !self.is_real() {
            return false;
        }
        let length = |side: SideFile| side.beside(file).metadata().ok().map(|found| found.len());
        let journal = path::is_hot(&SideFile::Journal.beside(file));
        // An empty log may be that of a writer that is about to commit, but not where no process can map the
        // index: there the attempt to open left it.
        let log_is_none = match length(SideFile::Log) {
            Some(0) => fault::is_unmapped(error),
            length => length.is_none(),
        };
        log_is_none && !journal
    }

    pub(crate) fn shown(&self) -> &Path {
        match &self.location {
            Location::File(path) => path,
            Location::Memory => Path::new("the store in memory"),
        }
    }

    pub(super) fn refuse(&self, why: &str) -> StateError {
        StateError::cannot_open(self.shown(), why)
    }

    /// Refuses a store with another id than the option names.
    pub(super) fn check_id(&self, store: StoreId) -> Result<()> {
        match self.expected {
            Some(asked) if asked != store => Err(self.refuse(&format!(
                "has the store id {store}, but option store_id asks for {asked}: correct the option, or leave it out"
            ))),
            _ => Ok(()),
        }
    }

    /// Connects, and tries again while another process locks, creates or recovers the file.
    pub(super) fn connect_in_time(&self) -> Result<(Connection, StoreId, Durability)> {
        self.connect_within(Patience::new(self.busy_timeout, BUSY_SLEEP))
    }

    /// IMPORTANT: SQLite itself does not wait meanwhile. It would add up the times that it means to sleep, and not
    /// the time that passes, so that one second may take many on a busy machine; and it does not wait at every step.
    fn connect_within(
        &self,
        mut patience: Patience<impl Clock>,
    ) -> Result<(Connection, StoreId, Durability)> {
        patience.attempts(|_| self.connect(), |connected| matches!(connected, Err(StateError::Busy(_))))
    }

    /// Connects, without waiting for other processes.
    pub(super) fn connect(&self) -> Result<(Connection, StoreId, Durability)> {
        let conn = match &self.location {
            Location::Memory => Connection::open_in_memory(),
            #[cfg(test)]
            Location::File(path) if self.vfs.is_some() => {
                Connection::open_with_flags_and_vfs(path, self.flags(), self.vfs.unwrap_or_default())
            }
            Location::File(path) if self.immutable => Connection::open_with_flags(
                path::immutable_url(path),
                self.flags() | OpenFlags::SQLITE_OPEN_URI,
            ),
            Location::File(path) => Connection::open_with_flags(path, self.flags()),
        };
        let conn = conn.map_err(|error| self.fault(None, error))?;
        let fault = |error| self.fault(Some(&conn), error);
        Self::configure(&conn).map_err(fault)?;
        // SQLite opens a file that it may not write for reading, without an error.
        if !self.read_only && conn.is_readonly("main").map_err(fault)? {
            return Err(self.refuse("cannot be written; check its permissions, or open it read-only"));
        }
        if self.is_empty(&conn)? {
            if self.is_file() {
                return Err(self.refuse("is empty, not a store"));
            }
            let filled = schema::fill(&conn, self.new_store, self.durability.unwrap_or_default());
            filled.map_err(fault)?;
        }
        if let Some(refusal) = schema::refusal(&conn).map_err(fault)? {
            return Err(self.refuse(&refusal));
        }
        let store = self.read_store_id(&conn)?;
        let durability = self.read_durability(&conn)?;
        if self.is_file() {
            self.set_journal(&conn, durability)?;
        }
        busy::set_busy_timeout(&conn, self.busy_timeout).map_err(fault)?;
        Ok((conn, store, durability))
    }

    fn flags(&self) -> OpenFlags {
        let access =
            if self.read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW
    }

    fn configure(conn: &Connection) -> rusqlite::Result<()> {
        conn.busy_timeout(Duration::ZERO)?;
        conn.set_prepared_statement_cache_capacity(64);
        // The file is not trusted: no trigger or view of its schema may run.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        // A table of another program may refer to a key. That must neither refuse a deletion nor go on with one.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
        // A database that is not a store must stay unchanged, and so must one whose log may not be its own: see
        // `move_log_on_close`.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // A store writes no longer row, so a longer one is damage and is not read into memory.
        conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_ROW)?;
        conn.execute_batch("PRAGMA cell_size_check = ON")?;
        // The writer makes the checkpoints, because SQLite's automatic ones hide their errors.
        conn.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))
    }

    /// From now on, closing the connection moves the log into the database if nobody else has it open.
    pub(super) fn move_log_on_close(&self, conn: &Connection) -> Result<()> {
        let set = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        set.map(|_| ()).map_err(|error| self.fault(Some(conn), error))
    }

    /// Whether the file is empty. A database that is not a store is an error.
    fn is_empty(&self, conn: &Connection) -> Result<bool> {
        match marks(conn).map_err(|error| self.fault(Some(conn), error))? {
            (APPLICATION_ID, FORMAT, _) => Ok(false),
            (APPLICATION_ID, newer, _) if newer > FORMAT => Err(self.refuse(&format!(
                "has format {newer}, but this version of univrs-state reads formats up to {FORMAT}; use a newer version"
            ))),
            (APPLICATION_ID, other, _) => Err(self.refuse(&format!("has format {other}, which never existed"))),
            (0, 0, 0) => Ok(true),
            _ => Err(self.refuse("is a database of something else, not a store")),
        }
    }

    fn read_meta(&self, conn: &Connection, name: &str) -> Result<Vec<u8>> {
        conn.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).map_err(|error| {
            match error {
                rusqlite::Error::QueryReturnedNoRows => StateError::Corrupted(format!(
                    "{} has no {name} in its table meta",
                    self.shown().display()
                )),
                error => self.fault(Some(conn), error),
            }
        })
    }

    fn read_store_id(&self, conn: &Connection) -> Result<StoreId> {
        let id = self.read_meta(conn, "store_id")?;
        let bytes = id.try_into().map_err(|_| {
            StateError::Corrupted("the store id in the table meta does not have 16 bytes".into())
        })?;
        Ok(StoreId::from_bytes(bytes))
    }

    fn read_durability(&self, conn: &Connection) -> Result<Durability> {
        let name = self.read_meta(conn, "durability")?;
        let recorded =
            [Durability::Synced, Durability::Buffered].into_iter().find(|d| d.name().as_bytes() == name);
        let recorded = recorded
            .ok_or_else(|| StateError::Corrupted("the durability in the table meta is unknown".into()))?;
        match self.durability {
            Some(asked) if asked != recorded => Err(self.refuse(&format!(
                "was created with durability {}, but option durability asks for {}: correct the option, or leave it out",
                recorded.name(),
                asked.name()
            ))),
            _ => Ok(recorded),
        }
    }

    /// Sets the journal mode and when SQLite syncs. Both are read back, because SQLite may refuse them without
    /// an error.
    pub(super) fn set_journal(&self, conn: &Connection, durability: Durability) -> Result<()> {
        let fault = |error| self.fault(Some(conn), error);
        let read = |sql| conn.query_row(sql, [], |row| row.get::<_, String>(0)).map_err(fault);
        let mode = read(if self.read_only { "PRAGMA journal_mode" } else { "PRAGMA journal_mode = WAL" })?;
        if mode != "wal" && !self.immutable {
            return Err(self.refuse(&format!("cannot use a write-ahead log here (journal mode is {mode})")));
        }
        let wanted = durability.synchronous();
        conn.pragma_update(None, "synchronous", wanted).map_err(fault)?;
        let found = conn.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0));
        if found.map_err(fault)? != wanted {
            return Err(self.refuse(
                "cannot be synced in the way that its durability requires: SQLite refuses the setting",
            ));
        }
        Ok(())
    }
}

/// The application id, the format, and the number of objects in the schema.
///
/// IMPORTANT: one statement reads all three, because another process may be creating the store just now. It
/// uses only names that a hostile file cannot give to a table.
fn marks(conn: &Connection) -> rusqlite::Result<(i64, i64, i64)> {
    let number = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    conn.execute_batch("SAVEPOINT marks")?;
    let marks = (
        number("PRAGMA application_id")?,
        number("PRAGMA user_version")?,
        number("SELECT count(*) FROM sqlite_schema")?,
    );
    conn.execute_batch("RELEASE marks")?;
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::super::patience::tests::Told;
    use super::super::{Judge, WAL_CAP};
    use super::*;

    // One second took eighteen: SQLite waited at each step, and counted its sleeps.
    #[test]
    fn a_file_that_another_keeps_locked_is_busy_when_the_time_is_over_by_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.db");
        let opening = Opening {
            location: Location::File(file.clone()),
            create: true,
            read_only: false,
            durability: None,
            busy_timeout: Duration::from_secs(600),
            accept_loss: false,
            loss_meta: crate::log::Meta::new(),
            expected: None,
            new_store: StoreId::from_bytes([3; 16]),
            immutable: false,
            wal_cap: WAL_CAP,
            beside: Vec::new(),
            judge: Judge::new(|_| Ok(None)),
            vfs: None,
        };
        drop(opening.clone().first().unwrap());
        let other = Connection::open(&file).unwrap();
        other.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(())).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let clock = Told::default();
        let second = Duration::from_secs(1);
        let busy = opening.connect_within(Patience::by(clock.clone(), second, Duration::from_millis(50)));
        assert!(matches!(busy, Err(StateError::Busy(_))), "{busy:?}");
        assert_eq!(clock.passed(), second);
        drop(other);
        assert!(opening.connect_within(Patience::by(clock, Duration::ZERO, Duration::ZERO)).is_ok());
    }
}
