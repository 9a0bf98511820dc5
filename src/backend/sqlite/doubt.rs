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
//! names the identities of the two files, so a file that was replaced meanwhile is doubted. A file that was written
//! over in its place keeps its identity. So the mark also names the size and the time of the database file. If these
//! are others, the identities alone count only until the head file names the pair, which takes a moment after each
//! checkpoint.

use std::path::Path;
use std::time::Duration;

use super::config::{Location, SideFile};
use super::head_file::HeadFile;
use super::patience::Patience;
use super::slot::{LogMark, Pair, Stamp};
use super::{Sqlite, fault, ffi, path};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Domain, Head};

static MARK: Domain = Domain::new("univrs-state 1 mark of openers");
/// The lower half of a mark is of the size and the time of the database file, the upper one of the identities.
const STAMP_BITS: u32 = 16;

/// How long the head file may need until it names the files after a checkpoint. After that the store is verified,
/// which is slower, and just as right.
const RECORDED: Duration = Duration::from_secs(1);
/// How long to sleep between two looks at it.
const SLEEP: Duration = Duration::from_millis(5);

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
        let mark = self.expected_mark()?;
        let is_sure = self.is_known_pair()? || self.is_vouched_for(mark)?;
        if !is_sure && let Some(what) = self.with_snapshot(|snapshot| self.opening.judge.judge(snapshot?))? {
            return Err(self.contradiction(&what));
        }
        self.mark_as_sure(mark)
    }

    /// Whether those who have the store open vouch for files that the head file does not name.
    fn is_vouched_for(&self, mark: u32) -> Result<bool> {
        let time = if self.opening.is_real() { RECORDED } else { Duration::ZERO };
        let mut patience = Patience::new(time, SLEEP);
        loop {
            // IMPORTANT: after the comparison. Another opener that became sure meanwhile set the mark before it
            // changed the database file.
            let found = ffi::mark(&self.conn).map_err(fault::storage)?;
            if found == Some(mark) {
                return Ok(true);
            }
            if found.is_none_or(|found| found >> STAMP_BITS != mark >> STAMP_BITS) {
                return Ok(false);
            }
            let is_moved_now = ffi::is_log_moved_now(&self.conn).map_err(fault::storage)?;
            if !is_moved_now && self.is_known_pair()? {
                return Ok(true);
            }
            if !patience.pause() {
                return Ok(is_moved_now);
            }
        }
    }

    /// Tells all who open the store from now on, as long as somebody has it open, that it is not in doubt; `mark` is
    /// the [expected](Self::expected_mark) one, from before this connection became sure.
    pub(super) fn mark_as_sure(&self, mark: u32) -> Result<()> {
        if self.opening.immutable || !self.opening.is_file() {
            return Ok(());
        }
        // IMPORTANT: asked after the mark was made of the files at the paths. They are not those of this connection if
        // others took the places since it was opened.
        if ffi::has_moved(&self.conn).map_err(fault::storage)? {
            let path = self.opening.shown().display();
            return Err(StateError::ConnectionError(format!(
                "{path} was replaced while it was opened; try again"
            )));
        }
        ffi::set_mark(&self.conn, mark).map_err(fault::storage)
    }

    /// The mark of an opener that is sure of the files that are at the paths now. It is never 0.
    pub(super) fn expected_mark(&self) -> Result<u32> {
        let Location::File(file) = &self.opening.location else { return Ok(1) };
        let number = |path: &Path| {
            path::identity(path).map_err(|error| StateError::at_path(path, "cannot be looked at", error))
        };
        let identities = [number(file)?, number(&SideFile::Log.beside(file))?];
        let bits = |of: &str| {
            let hash = MARK.hash(&[of.as_bytes()]);
            hash.as_bytes().first_chunk().map_or(1, |bytes| u32::from(u16::from_be_bytes(*bytes)).max(1))
        };
        Ok(bits(&format!("{identities:?}")) << STAMP_BITS | bits(&format!("{:?}", self.opening.stamp())))
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
        let pairs = head_file.and_then(|head_file| HeadFile::new(head_file, self.store).pairs().ok());
        Ok(pairs.into_iter().flatten().any(|pair| pair.is(database, log)))
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
        if self.accepted_loss.get().is_some() || self.is_log_doubtful() {
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
