//! What SQLite offers in C alone: syncing the write-ahead log, and whether the file was moved.
//!
//! The one module of unsafe code. Both functions ask a connection that is borrowed, so open, and
//! that no other thread can use meanwhile (`Connection` is not `Sync`).

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;

use rusqlite::{Connection, Error, Result, ffi};

/// Makes durable what the write-ahead log holds; does nothing where there is none. What a crash
/// left in it may be in the page cache only: whoever serves it must sync it first.
pub(super) fn sync_wal(conn: &Connection) -> Result<()> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    file_control(conn, ffi::SQLITE_FCNTL_JOURNAL_POINTER, (&raw mut file).cast())?;
    // SAFETY: SQLite wrote null or its file of the log, which lives until the connection closes
    // or leaves this journal mode; both need the connection, which is borrowed.
    let methods = unsafe { file.as_ref() }.map_or(ptr::null(), |file| file.pMethods);
    // SAFETY: the methods are null while the file is closed, and else static.
    let Some(sync) = unsafe { methods.as_ref() }.and_then(|methods| methods.xSync) else {
        return Ok(());
    };
    // SAFETY: the file is open, as its methods are not null, and this is its own method.
    check(unsafe { sync(file, ffi::SQLITE_SYNC_FULL) })
}

/// Whether another file, or none, is now where the database was opened.
pub(super) fn has_moved(conn: &Connection) -> Result<bool> {
    let mut moved: c_int = 0;
    file_control(conn, ffi::SQLITE_FCNTL_HAS_MOVED, (&raw mut moved).cast())?;
    Ok(moved != 0)
}

/// `answer` points to what the operation writes.
fn file_control(conn: &Connection, operation: c_int, answer: *mut c_void) -> Result<()> {
    // SAFETY: the handle is open while the connection is borrowed; the name is a C string; both
    // callers pass a pointer to a live variable of the type that their operation writes.
    check(unsafe { ffi::sqlite3_file_control(conn.handle(), c"main".as_ptr(), operation, answer) })
}

fn check(code: c_int) -> Result<()> {
    match code {
        // A file system that cannot tell has nothing against it.
        ffi::SQLITE_OK | ffi::SQLITE_NOTFOUND => Ok(()),
        code => Err(Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}
