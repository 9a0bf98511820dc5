//! What `rusqlite` and `std` do not offer: syncing the write-ahead log, asking whether the file was moved,
//! reading the write-ahead log's index and marking it, asking what a user may do with a file and what names it has,
//! giving a file a name that is free, waiting for locks by the clock, how long the machine has been up, and counting
//! forks.
//!
//! The one module of unsafe code. The functions that ask a connection borrow it, so it is open, and
//! no other thread can use it meanwhile (`Connection` is not `Sync`); [`WalIndex`] owns its own.

#![allow(unsafe_code)]

#[cfg(unix)]
use std::ffi::{CString, c_char};
use std::ffi::{c_int, c_void};
use std::io;
use std::marker::PhantomData;
#[cfg(target_os = "linux")]
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Mutex;
#[cfg(unix)]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

use rusqlite::{Connection, Error, Result, ffi};

use super::slot::LogMark;
#[cfg(unix)]
use crate::backend::process::forked;

/// A file that SQLite has open, and its methods.
type OpenFile = (*mut ffi::sqlite3_file, &'static ffi::sqlite3_io_methods);

/// Syncs the write-ahead log; does nothing if there is none.
///
/// IMPORTANT: after a crash, commits in the log may be in the page cache only. The log must be synced before
/// anything that was read from it is served.
pub(super) fn sync_wal(conn: &Connection) -> Result<()> {
    let Some((file, methods)) = log_file(conn)? else { return Ok(()) };
    let Some(sync) = methods.xSync else { return Ok(()) };
    // SAFETY: the file is open, as its methods are not null, and this is its own method.
    check_code(unsafe { sync(file, ffi::SQLITE_SYNC_FULL) })
}

/// SQLite's file of the write-ahead log and its methods, if it is open.
fn log_file(conn: &Connection) -> Result<Option<OpenFile>> {
    file_of(conn, ffi::SQLITE_FCNTL_JOURNAL_POINTER)
}

/// Writes bytes of the write-ahead log anew, as they are in the page cache, and syncs them.
///
/// IMPORTANT: the connection must be in a write transaction that has written nothing yet. So nobody else writes there
/// meanwhile.
#[expect(clippy::cast_possible_truncation, reason = "it is a small number")]
pub(super) fn rewrite_wal(conn: &Connection, from: i64, end: i64) -> Result<()> {
    let Some((file, methods)) = log_file(conn)? else { return Ok(()) };
    let (Some(read), Some(write)) = (methods.xRead, methods.xWrite) else { return Ok(()) };
    let mut piece = vec![0_u8; REWRITTEN as usize];
    for at in (from..end).step_by(piece.len()) {
        let length = REWRITTEN.min(end - at) as c_int;
        // SAFETY: the file is open, these are its own methods, and the piece has room for so many bytes.
        check_code(unsafe { read(file, piece.as_mut_ptr().cast(), length, at) })?;
        // SAFETY: as above.
        check_code(unsafe { write(file, piece.as_ptr().cast(), length, at) })?;
    }
    sync_wal(conn)
}

/// The open file of the database, if it can have an index of the log in shared memory.
fn database_file(conn: &Connection) -> Result<Option<OpenFile>> {
    Ok(file_of(conn, ffi::SQLITE_FCNTL_FILE_POINTER)?.filter(|(_, methods)| methods.iVersion >= 2))
}

fn file_of(conn: &Connection, which: c_int) -> Result<Option<OpenFile>> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    file_control(conn, which, (&raw mut file).cast())?;
    // SAFETY: SQLite wrote null or its file of the database or of the log, which lives until the connection closes
    // or leaves this journal mode; both need the connection, which is borrowed.
    let methods = unsafe { file.as_ref() }.map_or(ptr::null(), |file| file.pMethods);
    // SAFETY: the methods are null while the file is closed, and else static.
    Ok(unsafe { methods.as_ref() }.map(|methods| (file, methods)))
}

/// While a lock of others is in the way, SQLite asks this handler, with how often it has asked for the same wait,
/// whether to try again. It replaces the handler or timeout before.
pub(super) fn set_busy_handler<F>(conn: &Connection, handler: F) -> Result<()>
where
    F: FnMut(c_int) -> bool + Send + 'static,
{
    /// # Safety
    /// `handler` must point to an `F` that nobody else uses meanwhile.
    unsafe extern "C" fn ask<F: FnMut(c_int) -> bool>(handler: *mut c_void, asked: c_int) -> c_int {
        // SAFETY: as the caller promises.
        let handler = unsafe { &mut *handler.cast::<F>() };
        catch_unwind(AssertUnwindSafe(|| handler(asked))).unwrap_or(false).into()
    }
    /// # Safety
    /// `handler` must come from a box of an `F`, and not be used any more.
    unsafe extern "C" fn free<F>(handler: *mut c_void) {
        // SAFETY: as the caller promises.
        let handler = unsafe { Box::from_raw(handler.cast::<F>()) };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(handler)));
    }
    // The handler before is not asked any more when what it points to is freed below.
    conn.busy_timeout(Duration::ZERO)?;
    let handler = Box::into_raw(Box::new(handler)).cast();
    // SAFETY: the handle is open while the connection is borrowed, and the name is a C string. SQLite owns the box from
    // here on and frees it once: at once if this fails, when this is called again, or when the connection closes.
    check_code(unsafe {
        ffi::sqlite3_set_clientdata(conn.handle(), c"univrs_busy".as_ptr(), handler, Some(free::<F>))
    })?;
    // SAFETY: the box lives as long as SQLite may ask: it is freed only above, behind the timeout that takes the
    // handler away, or while the connection closes, where all statements have ended, and SQLite itself waits for no
    // lock. It asks within a call on the connection only, so on the one thread that uses it, and not from
    // within the handler, which has no connection.
    check_code(unsafe { ffi::sqlite3_busy_handler(conn.handle(), Some(ask::<F>), handler) })
}

/// The bytes of a region of the index, as SQLite maps it: 4096 page numbers and their hash table.
const REGION: c_int = 32_768;
/// The header stands in the index twice, this many 32-bit words apart.
const HEADER_WORDS: usize = 12;
/// The words that say what is visible: the count of commits, frames in use, the size of the
/// database, the checksum of the last frame, and the salts of the log.
const TOKEN_WORDS: [usize; 7] = [2, 4, 5, 6, 7, 8, 9];
/// The word at byte 132 of the index, which SQLite sets aside ("unused space, reserved for further expansion") and
/// neither reads nor writes. Whoever begins to use an index when nobody else does clears all of it.
const MARK_WORD: usize = 33;
/// How much of the log is written anew at once.
const REWRITTEN: i64 = 64 << 10;
/// The lock in the index that whoever moves the log into the database holds meanwhile.
const CHECKPOINT_LOCK: c_int = 1;
/// Bytes of the headers of a write-ahead log and of one of its frames, and where the salts stand.
pub(super) const LOG_HEADER: usize = 32;
const FRAME_HEADER: i64 = 24;
const LOG_PAGE_SIZE: usize = 8;
const LOG_SALTS: usize = 16;

/// The header of the write-ahead log's index, in memory that all processes with the database open share.
/// The connection in this struct is used for nothing else; it keeps the memory mapped.
#[derive(Debug)]
pub(crate) struct WalIndex {
    header: NonNull<AtomicU32>,
    _connection: Mutex<Connection>,
}

// SAFETY: the header is only read, as atomics, and stays mapped while the connection is open, which
// nobody uses and which is closed with this.
#[allow(clippy::non_send_fields_in_send_ty)]
unsafe impl Send for WalIndex {}
// SAFETY: as above; shared references only load atomics.
unsafe impl Sync for WalIndex {}

/// Names the newest visible commit of a database: equal tokens name the same commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token([u32; TOKEN_WORDS.len()]);

impl Token {
    /// Whether exactly `commits` commits lie between `earlier` and this token. False if that is unknown, because
    /// the log was started over or recovered in between, which may reset the count.
    pub(crate) fn is_after(&self, earlier: &Self, commits: u32) -> bool {
        self.0[0] == earlier.0[0].wrapping_add(commits) && self.0[5..] == earlier.0[5..]
    }

    /// How many pages of the write-ahead log are in use.
    pub(crate) fn frames(&self) -> u32 {
        self.0[1]
    }

    /// The log, as far as it is visible.
    fn log(self) -> LogMark {
        LogMark { salts: [self.0[5], self.0[6]], frames: self.frames() }
    }
}

/// Where the state of checkpoints begins behind the two headers, in 32-bit words: the pages that were moved,
/// then the marks of the readers.
const CHECKPOINT_WORD: usize = 2 * HEADER_WORDS;
/// How many marks of readers there are. A reader holds the lock of the mark that names its state.
pub(crate) const MARKS: usize = 5;

/// What the index says of the write-ahead log, in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogPages {
    /// How many are in use.
    pub(crate) used: u32,
    /// How many of them a checkpoint has moved into the database.
    pub(crate) moved: u32,
    /// How many of them belong to the state that each mark names. The first mark names the database alone.
    pub(crate) marks: [u32; MARKS],
}

impl LogPages {
    /// How many pages are not in the database yet.
    pub(crate) fn left(&self) -> u32 {
        self.used.saturating_sub(self.moved)
    }
}

impl WalIndex {
    /// The index of the connection's database; `None` if it cannot be mapped now. The connection must have read
    /// from the database before.
    pub(super) fn mapped_by(connection: Connection) -> Result<Option<Self>> {
        // A region stays where it is until the last connection of the process closes.
        let header = Mapped::by(&connection)?.map(|mapped| mapped.header);
        Ok(header.map(|header| Self { header, _connection: Mutex::new(connection) }))
    }

    /// The token of the newest visible commit. Takes 8 ns, as measured, so that each read can ask for it.
    pub(crate) fn token(&self) -> Token {
        // SAFETY: the header is mapped as long as the connection is open, see `mapped_by`.
        unsafe { token(self.header) }
    }

    /// The pages of the log. They are read one by one while others change them, so they are good for deciding
    /// when to make a checkpoint and for telling people, but not for correctness.
    pub(crate) fn pages(&self) -> LogPages {
        let word = |word: usize| {
            // SAFETY: the state of checkpoints lies behind the headers in the region; see the struct for how long it
            // is mapped.
            unsafe { self.header.add(CHECKPOINT_WORD + word).as_ref() }.load(Ordering::Relaxed)
        };
        let mut marks = [0; MARKS];
        for (mark, place) in marks.iter_mut().enumerate().skip(1) {
            *place = word(1 + mark);
        }
        LogPages { used: self.token().frames(), moved: word(0), marks }
    }
}

/// The index that a connection has mapped, while it is borrowed.
struct Mapped<'a> {
    header: NonNull<AtomicU32>,
    writable: bool,
    _connection: PhantomData<&'a Connection>,
}

impl<'a> Mapped<'a> {
    fn by(connection: &'a Connection) -> Result<Option<Self>> {
        let Some((file, methods)) = database_file(connection)? else { return Ok(None) };
        let Some(map) = methods.xShmMap else { return Ok(None) };
        let mut region: *mut c_void = ptr::null_mut();
        // SAFETY: the file is open, this is its own method, and the region that it maps is one that SQLite
        // maps itself, with the size that it uses; with a zero it is not made where it is missing.
        let writable = match unsafe { map(file, 0, REGION, 0, (&raw mut region).cast()) } {
            // The region is mapped nevertheless, for reading.
            ffi::SQLITE_READONLY => false,
            // The shared index does not exist and this connection may not make it: SQLite uses a private one.
            ffi::SQLITE_READONLY_CANTINIT => return Ok(None),
            code => check_code(code).map(|()| true)?,
        };
        let header = NonNull::new(region.cast::<AtomicU32>());
        Ok(header.map(|header| Self { header, writable, _connection: PhantomData }))
    }

    fn mark(&self) -> &AtomicU32 {
        // SAFETY: the word lies within the region, which is mapped while the connection is borrowed.
        unsafe { self.header.add(MARK_WORD).as_ref() }
    }
}

/// # Safety
/// The header must be mapped.
unsafe fn token(header: NonNull<AtomicU32>) -> Token {
    // IMPORTANT: the second copy is read. A commit writes the second copy first, and is visible only when
    // both copies are equal. So while the second copy is unchanged, nothing newer is visible.
    let token = Token(TOKEN_WORDS.map(|word| {
        // SAFETY: both copies lie within the region, which is mapped, as the caller promises.
        unsafe { header.add(HEADER_WORDS + word).as_ref() }.load(Ordering::Relaxed)
    }));
    fence(Ordering::Acquire);
    token
}

/// The write-ahead log as far as it is visible. The connection must have read from the database before.
///
/// Where the index is private to SQLite, as in a folder that cannot be written, the file of the log is asked,
/// which may end in frames that are not used any more.
pub(super) fn log(conn: &Connection) -> Result<Option<LogMark>> {
    match Mapped::by(conn)? {
        // SAFETY: the header is mapped while the connection is borrowed.
        Some(mapped) => Ok(Some(unsafe { token(mapped.header) }.log())),
        None => log_on_disk(conn),
    }
}

fn log_on_disk(conn: &Connection) -> Result<Option<LogMark>> {
    let Some((file, methods)) = log_file(conn)? else { return Ok(None) };
    let (Some(read), Some(size)) = (methods.xRead, methods.xFileSize) else { return Ok(None) };
    let (mut header, mut bytes) = ([0_u8; LOG_HEADER], 0_i64);
    // SAFETY: the file is open, this is its own method, and there is room for its answer.
    check_code(unsafe { size(file, &raw mut bytes) })?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "it is a small number")]
    let length = LOG_HEADER as c_int;
    // SAFETY: as above; there is room for so many bytes.
    match unsafe { read(file, header.as_mut_ptr().cast(), length, 0) } {
        ffi::SQLITE_IOERR_SHORT_READ => return Ok(None),
        code => check_code(code)?,
    }
    let word = |at: usize| header.get(at..)?.first_chunk::<4>().copied();
    let page = word(LOG_PAGE_SIZE).map_or(0, u32::from_be_bytes);
    let frames = (bytes - i64::from(length)) / (i64::from(page) + FRAME_HEADER);
    // As SQLite does, the index takes the salts from the file byte by byte.
    let salts = [word(LOG_SALTS), word(LOG_SALTS + 4)].map(|word| word.map_or(0, u32::from_ne_bytes));
    Ok(Some(LogMark { salts, frames: u32::try_from(frames).unwrap_or(0) }))
}

/// The mark in the index; `None` if it is not shared. 0 if nobody has set one since somebody was the only one to
/// use the index.
pub(super) fn mark(conn: &Connection) -> Result<Option<u32>> {
    Ok(Mapped::by(conn)?.map(|mapped| mapped.mark().load(Ordering::Acquire)))
}

/// Sets the mark in the index, if this connection may write there.
pub(super) fn set_mark(conn: &Connection, mark: u32) -> Result<()> {
    if let Some(mapped) = Mapped::by(conn)?.filter(|mapped| mapped.writable) {
        mapped.mark().store(mark, Ordering::Release);
    }
    Ok(())
}

/// Whether some connection, of this process or of another, moves the log into the database now.
pub(super) fn is_log_moved_now(conn: &Connection) -> Result<bool> {
    let Some((file, methods)) = database_file(conn)? else { return Ok(false) };
    let Some(lock) = methods.xShmLock else { return Ok(false) };
    // SAFETY: the file is open, this is its own method, and the connection holds no lock of a checkpoint: it is in
    // none, as it is borrowed.
    let ask = |what: c_int| unsafe { lock(file, CHECKPOINT_LOCK, 1, what | ffi::SQLITE_SHM_SHARED) };
    match ask(ffi::SQLITE_SHM_LOCK) {
        ffi::SQLITE_OK => check_code(ask(ffi::SQLITE_SHM_UNLOCK)).map(|()| false),
        ffi::SQLITE_BUSY => Ok(true),
        code => check_code(code).map(|()| false),
    }
}

/// Whether the path of the database now names another file, or none.
pub(super) fn has_moved(conn: &Connection) -> Result<bool> {
    let mut moved: c_int = 0;
    file_control(conn, ffi::SQLITE_FCNTL_HAS_MOVED, (&raw mut moved).cast())?;
    Ok(moved != 0)
}

/// What one look at a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// The device and the inode number.
    pub(super) number: (u64, u64),
    /// How many names it has.
    pub(super) names: u64,
    /// Whether something is mounted at its path, such as this file itself. False on Linux before 5.8, which
    /// does not tell.
    pub(super) is_mount: bool,
}

/// Looks at a file; `None` if `statx` fails.
///
/// It asks for no times. Since Linux 6.13 a file whose times were asked for gets a new, fine-grained time
/// with its next write, so that the next sync must write the inode as well. `std` always asks for times.
/// Measured on ext4 with one task: 1.0 metadata writes a commit with the times, 0.4 without.
#[cfg(target_os = "linux")]
pub(super) fn look(path: &Path) -> Option<Look> {
    const ASKED: u32 = libc::STATX_INO | libc::STATX_NLINK;
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the path ends with a zero, and there is room for the answer, of which zeros are a value.
    let (code, found) = unsafe {
        let code = libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, ASKED, found.as_mut_ptr());
        (code, found.assume_init())
    };
    let known = code == 0 && found.stx_mask & ASKED == ASKED;
    let mount = libc::STATX_ATTR_MOUNT_ROOT as u64;
    known.then(|| Look {
        number: (libc::makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino),
        names: found.stx_nlink.into(),
        is_mount: found.stx_attributes & found.stx_attributes_mask & mount != 0,
    })
}

/// Renames a file to a name that is free.
#[cfg(target_os = "linux")]
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let [from, to] = [from, to].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (from, to, here) = (from?, to?, libc::AT_FDCWD);
    // SAFETY: both paths end with a zero.
    match unsafe { libc::renameat2(here, from.as_ptr(), here, to.as_ptr(), libc::RENAME_NOREPLACE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How long the machine has been up, with the time in which it was suspended; `None` if the system does not
/// say.
#[cfg(target_os = "linux")]
pub(crate) fn uptime() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: there is room for the answer.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
    (code == 0).then(|| Duration::new(seconds, nanos))
}

/// This system is not asked: its monotonic clocks stand still while it is suspended, or are unknown.
#[cfg(not(target_os = "linux"))]
pub(crate) fn uptime() -> Option<Duration> {
    None
}

/// Whether this user may read, and with `write` also write, the file at a path; an error says why not.
#[cfg(unix)]
pub(super) fn access(path: &Path, write: bool) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    // Of the C library, for every Unix.
    unsafe extern "C" {
        fn access(path: *const c_char, mode: c_int) -> c_int;
    }
    const READ: c_int = 4;
    const WRITE: c_int = 2;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the declaration is that of POSIX, and the path ends with a zero.
    match unsafe { access(path.as_ptr(), if write { READ | WRITE } else { READ }) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// This system cannot be asked.
#[cfg(not(unix))]
pub(super) fn access(_: &Path, _: bool) -> io::Result<()> {
    Ok(())
}

/// The operating system's error of the last failure on a connection, if SQLite kept it.
pub(super) fn system_error(conn: &Connection) -> io::Error {
    // SAFETY: the handle is open while the connection is borrowed.
    io::Error::from_raw_os_error(unsafe { ffi::sqlite3_system_errno(conn.handle()) })
}

/// Registers [`forked`], which counts forks of this process; false if there is no memory for that.
#[cfg(unix)]
pub(super) fn watch_forks() -> bool {
    // Of the C library, for every Unix.
    unsafe extern "C" {
        fn pthread_atfork(
            prepare: Option<extern "C" fn()>,
            parent: Option<extern "C" fn()>,
            child: Option<extern "C" fn()>,
        ) -> c_int;
    }
    static WATCHED: OnceLock<bool> = OnceLock::new();
    // SAFETY: the declaration is that of POSIX, and the function is there as long as the program is,
    // does not unwind, and only changes atomic numbers, as is allowed after a fork.
    *WATCHED.get_or_init(|| unsafe { pthread_atfork(None, None, Some(forked)) } == 0)
}

/// There are no forks.
#[cfg(not(unix))]
pub(super) fn watch_forks() -> bool {
    true
}

/// `answer` points to what the operation writes.
fn file_control(conn: &Connection, operation: c_int, answer: *mut c_void) -> Result<()> {
    // SAFETY: the handle is open while the connection is borrowed; the name is a C string; all
    // callers pass a pointer to a live variable of the type that their operation writes.
    check_code(unsafe { ffi::sqlite3_file_control(conn.handle(), c"main".as_ptr(), operation, answer) })
}

fn check_code(code: c_int) -> Result<()> {
    match code {
        // A file system that does not know the operation answers nothing, which leaves the default.
        ffi::SQLITE_OK | ffi::SQLITE_NOTFOUND => Ok(()),
        code => Err(Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}
