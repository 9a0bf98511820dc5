//! Doubt: whether a database file is the one that the write-ahead log beside it was written over.
//!
//! SQLite lays the log over any file, also over an older copy that somebody put back after a crash: reads would
//! then give wrong answers, and a checkpoint would make them last. So the head file names the pair of both
//! files, and whoever opens a store that was not closed compares. If they differ, the store is verified in full
//! before it serves, writes, syncs or checkpoints anything.
//!
//! IMPORTANT: as long as anybody has the database open, the files change without the head file, in the middle of
//! a checkpoint for example. So whoever is sure marks the index of the log, which is shared memory, for all who
//! open the store beside it. The mark goes with the last of them: the next one starts with an empty index. It
//! names the identities of the two files, so a file that was replaced meanwhile is doubted.

use super::config::{Location, SideFile};
use super::head_file::HeadFile;
use super::slot::{LogMark, Pair, Stamp};
use super::{Sqlite, fault, ffi, path};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Domain, Head};

static MARK: Domain = Domain::new("univrs-state 1 mark of openers");

impl Sqlite {
    /// Refuses a database file and a write-ahead log that do not belong together.
    ///
    /// IMPORTANT: until this returns, nothing may be synced, written or moved into the database. Closing
    /// the connection must not do so, either.
    pub(super) fn settle_doubt(&self) -> Result<()> {
        let alone = self.opening.immutable || !self.opening.is_file();
        if alone || failpoint("doubt_left_out") {
            return Ok(());
        }
        let mark = self.expected_mark();
        // IMPORTANT: the mark is looked at again after the comparison. Another opener that became sure meanwhile set
        // it before it changed the database file.
        let is_sure = self.is_marked(mark)? || self.is_known_pair()? || self.is_marked(mark)?;
        if !is_sure && let Some(what) = self.with_snapshot(|snapshot| self.opening.judge.judge(snapshot?))? {
            return Err(self.contradiction(&what));
        }
        self.mark_as_sure()
    }

    /// Tells all who open the store from now on, as long as somebody has it open, that it is not in doubt.
    pub(super) fn mark_as_sure(&self) -> Result<()> {
        if self.opening.immutable || !self.opening.is_file() {
            return Ok(());
        }
        ffi::set_mark(&self.conn, self.expected_mark()).map_err(fault::storage)
    }

    fn is_marked(&self, mark: u32) -> Result<bool> {
        Ok(ffi::mark(&self.conn).map_err(fault::storage)? == Some(mark))
    }

    /// The mark of an opener that is sure of the files that are at the paths now. It is never 0.
    fn expected_mark(&self) -> u32 {
        let Location::File(file) = &self.opening.location else { return 1 };
        let identities = [file.clone(), SideFile::Log.beside(file)].map(|path| path::identity(&path));
        let hash = MARK.hash(&[format!("{identities:?}").as_bytes()]);
        hash.as_bytes().first_chunk().map_or(1, |bytes| u32::from_be_bytes(*bytes).max(1))
    }

    /// Whether the head file names this database file and this log. Without a log there is nothing to doubt.
    fn is_known_pair(&self) -> Result<bool> {
        let log = ffi::log(&self.conn).map_err(fault::storage)?;
        let (Some(log), Location::File(file)) = (log.filter(|log| log.frames > 0), &self.opening.location)
        else {
            return Ok(true);
        };
        let Some(database) = self.stamp()? else { return Ok(false) };
        // A head file that cannot be read is told of later; here it is one that knows nothing.
        let head_file = self.opening.head_file(&SideFile::Head.beside(file), false).ok().flatten();
        let known = head_file.and_then(|head_file| {
            let mut pairs = HeadFile::new(head_file, self.store).pairs().ok()?;
            Some(pairs.any(|pair| pair.is(database, log)))
        });
        Ok(known.unwrap_or(false))
    }

    /// The stamp of the database file that this connection has open; `None` if that cannot be told.
    fn stamp(&self) -> Result<Option<Stamp>> {
        let stamp = self.opening.stamp();
        // IMPORTANT: asked after the stamp. If another file took the place, the stamp may be that of the other one.
        let moved = ffi::has_moved(&self.conn).map_err(fault::storage)?;
        Ok(stamp.filter(|_| !moved))
    }

    fn contradiction(&self, what: &str) -> StateError {
        let (path, log) = (self.opening.shown(), SideFile::Log.beside(self.opening.shown()));
        let (path, log) = (path.display(), log.display());
        StateError::Corrupted(format!(
            "{path}: the database file and its log do not belong together: {what}; both are as they were: bring back \
             {path} as it was when {log} was last written, or move {log} away to open {path} as it is, without \
             the changes that are only there"
        ))
    }

    /// Records a head and the pair of database and log in the head file. A failure is ignored: a file that names an
    /// older head cannot tell that newer commits are missing, and one that names an older pair makes the next opener
    /// verify the store, which is no reason to fail a commit.
    ///
    /// IMPORTANT: the log must be durable up to this head.
    pub(super) fn record(&self, head: Option<Head>, changed: bool) {
        // IMPORTANT: until a loss that is being accepted stands in the log, nothing overwrites the head that names it.
        if self.accepted_loss.get().is_some() {
            return;
        }
        if let Some(head_file) = &mut *crate::sync::lock(&self.head_file) {
            let _ = head_file.record(head, |known| self.pair(known.filter(|_| !changed)).unwrap_or(None));
        }
    }

    /// The pair of the database file and the log. A known one goes on as long as the log is not started over; the
    /// database file is looked at again then, because the pair must say that it has all that was in the log before.
    fn pair(&self, known: Option<Pair>) -> Result<Option<Pair>> {
        let log = || ffi::log(&self.conn).map_err(fault::storage);
        let Some(before) = log()? else { return Ok(None) };
        if let Some(known) = known.filter(|known| known.log.salts == before.salts) {
            let log = LogMark { frames: before.frames.max(known.log.frames), ..before };
            return Ok(Some(Pair { log, ..known }));
        }
        // IMPORTANT: in this order. The salts before the stamp say which log the file had no part of; the frames after
        // it, how much of it the file may have by now.
        let Some(database) = self.stamp()? else { return Ok(None) };
        let after = log()?.filter(|after| after.salts == before.salts);
        Ok(after.map(|log| Pair { database, log }))
    }

    /// Records the pair of a log that was started over, for commits that record no head.
    pub(super) fn record_new_log(&self) {
        let salts = ffi::log(&self.conn).ok().flatten().map(|log| log.salts);
        if salts.is_some() && self.log_salts.replace(salts) != salts {
            self.record(None, false);
        }
    }
}
