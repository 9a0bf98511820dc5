//! SQLite's side of the disk: a VFS, registered by name and never the default.
//!
//! It behaves as SQLite's own for Unix does where that matters: an empty file is not found, the
//! first sync of a log makes its name durable, a deletion without sync may not last. Waiting for
//! a lock takes next to no time.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Once};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_vfs};

use super::disk::{Disk, Event, Fault, Op, REGION};

pub(super) const NAME: &CStr = c"univrs-sim";

/// What SQLite allocates for an open file; zeroed until it is open.
#[repr(C)]
struct File {
    base: sqlite3_file,
    open: *mut Open,
}

/// A handle on a file.
struct Open {
    disk: Arc<Disk>,
    inode: usize,
    name: String,
    handle: usize,
    /// The next sync makes the folder durable, too.
    sync_folder: bool,
    delete: bool,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Makes the VFS known to SQLite, once.
pub(super) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let vfs = Box::new(sqlite3_vfs {
            iVersion: 2,
            szOsFile: c_int::try_from(size_of::<File>()).unwrap(),
            mxPathname: 512,
            pNext: ptr::null_mut(),
            zName: NAME.as_ptr(),
            pAppData: ptr::null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_path),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: None,
            xGetLastError: None,
            xCurrentTimeInt64: Some(time),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        });
        // SAFETY: the VFS is leaked, so it lives as long as SQLite; 0 keeps the default one.
        let code = unsafe { ffi::sqlite3_vfs_register(Box::into_raw(vfs), 0) };
        assert_eq!(code, ffi::SQLITE_OK);
    });
}

/// The handle of an open file.
///
/// # Safety
/// `file` must be one that `open` opened and `close` has not closed; SQLite calls methods on no
/// other, and one connection's from one thread at a time.
unsafe fn handle<'a>(file: *mut sqlite3_file) -> &'a mut Open {
    // SAFETY: as promised by the caller, `open` made it a `File` with a live box.
    unsafe { &mut *(*file.cast::<File>()).open }
}

/// # Safety
/// `name` must be null or a C string.
unsafe fn text(name: *const c_char) -> Option<String> {
    // SAFETY: as promised by the caller, and checked for null.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}

fn code(result: Result<(), Fault>) -> c_int {
    result.map_or_else(|fault| fault.code, |()| ffi::SQLITE_OK)
}

// SAFETY, of all below: SQLite calls them with files as `handle` demands, and with pointers that
// are valid for what the documentation of `sqlite3_io_methods` and `sqlite3_vfs` says they hold.

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: see above; a file that fails to open must have null methods.
    unsafe { (*file).pMethods = ptr::null() };
    // SAFETY: see above.
    let Some((disk, name)) = unsafe { text(name) }.and_then(|path| Disk::at(&path)) else {
        return ffi::SQLITE_CANTOPEN; // There are no temporary files: all of them stay in memory.
    };
    if let Err(fault) = disk.begin(Op::Open) {
        return fault.code;
    }
    let mut state = disk.state();
    if flags & ffi::SQLITE_OPEN_CREATE == 0 && !state.names.contains_key(&name) {
        return ffi::SQLITE_CANTOPEN;
    }
    let (inode, handle) = (state.open(&name), state.handle());
    drop(state);
    let log = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL;
    let sync_folder = flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & log != 0;
    let delete = flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0;
    let open = Box::new(Open { disk, inode, name, handle, sync_folder, delete });
    // SAFETY: SQLite allocated `szOsFile` bytes; `out` may be null.
    unsafe {
        (*file.cast::<File>()).open = Box::into_raw(open);
        (*file).pMethods = &raw const METHODS;
        if !out.is_null() {
            *out = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: see above; the box was made by `open`, and nobody uses the file after this.
    let open = unsafe { Box::from_raw((*file.cast::<File>()).open) };
    let mut state = open.disk.state();
    state.inodes[open.inode].locks.remove(&open.handle);
    if open.delete {
        state.happen(Event::Delete { name: open.name.clone() });
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    to: *mut c_void,
    length: c_int,
    at: sqlite3_int64,
) -> c_int {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    if let Err(fault) = open.disk.begin(Op::Read) {
        return fault.code;
    }
    let (length, at) = (usize::try_from(length).unwrap(), usize::try_from(at).unwrap());
    let state = open.disk.state();
    let data = &state.inodes[open.inode].data;
    let found = data.len().saturating_sub(at).min(length);
    // SAFETY: SQLite gave room for `length` bytes; what is missing must be zeroed.
    let to = unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), length) };
    to[found..].fill(0);
    if found > 0 {
        to[..found].copy_from_slice(&data[at..at + found]);
    }
    if found < length { ffi::SQLITE_IOERR_SHORT_READ } else { ffi::SQLITE_OK }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    length: c_int,
    at: sqlite3_int64,
) -> c_int {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    // SAFETY: SQLite gave `length` bytes.
    let data = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), usize::try_from(length).unwrap()) };
    let begun = open.disk.begin(Op::Write);
    code(open.disk.state().write(open.inode, usize::try_from(at).unwrap(), data, begun))
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    let begun = open.disk.begin(Op::Truncate);
    if begun.is_ok() {
        let size = usize::try_from(size).unwrap();
        open.disk.state().happen(Event::Truncate { inode: open.inode, size });
    }
    code(begun)
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    let begun = open.disk.begin(Op::Sync);
    let inode = open.inode;
    match begun {
        Ok(()) => {
            let folder = std::mem::take(&mut open.sync_folder);
            open.disk.state().happen(Event::Sync { inode, folder });
        }
        Err(fault) if fault.partial => open.disk.state().happen(Event::Lose { inode }),
        Err(_) => {}
    }
    code(begun)
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    let length = open.disk.state().inodes[open.inode].data.len();
    // SAFETY: see above.
    unsafe { *size = sqlite3_int64::try_from(length).unwrap() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    if let Err(fault) = open.disk.begin(Op::Lock) {
        return fault.code;
    }
    let mut state = open.disk.state();
    let locks = &mut state.inodes[open.inode].locks;
    if locks.get(&open.handle).is_some_and(|own| *own >= level) {
        return ffi::SQLITE_OK;
    }
    let others = locks.iter().filter(|(other, _)| **other != open.handle).map(|(_, level)| *level).max();
    let others = others.unwrap_or(ffi::SQLITE_LOCK_NONE);
    let (free, reached) = match level {
        ffi::SQLITE_LOCK_SHARED => (others < ffi::SQLITE_LOCK_PENDING, None),
        ffi::SQLITE_LOCK_RESERVED => (others < ffi::SQLITE_LOCK_RESERVED, None),
        // A writer that waits for readers keeps new ones out.
        _ => (
            others == ffi::SQLITE_LOCK_NONE,
            (others < ffi::SQLITE_LOCK_RESERVED).then_some(ffi::SQLITE_LOCK_PENDING),
        ),
    };
    if let Some(level) = if free { Some(level) } else { reached } {
        locks.insert(open.handle, level);
    }
    if free { ffi::SQLITE_OK } else { ffi::SQLITE_BUSY }
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    let mut state = open.disk.state();
    let locks = &mut state.inodes[open.inode].locks;
    if level == ffi::SQLITE_LOCK_NONE {
        locks.remove(&open.handle);
    } else if let Some(own) = locks.get_mut(&open.handle) {
        *own = level.min(*own);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved(file: *mut sqlite3_file, reserved: *mut c_int) -> c_int {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    let state = open.disk.state();
    let found = state.inodes[open.inode].locks.values().any(|level| *level >= ffi::SQLITE_LOCK_RESERVED);
    // SAFETY: see above.
    unsafe { *reserved = c_int::from(found) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, operation: c_int, answer: *mut c_void) -> c_int {
    if operation != ffi::SQLITE_FCNTL_HAS_MOVED {
        return ffi::SQLITE_NOTFOUND;
    }
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    let moved = open.disk.state().names.get(&open.name) != Some(&open.inode);
    // SAFETY: this operation's answer is an int.
    unsafe { *answer.cast::<c_int>() = c_int::from(moved) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn sector_size(_: *mut sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn characteristics(_: *mut sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    if let Err(fault) = open.disk.begin(Op::Lock) {
        return fault.code;
    }
    assert_eq!(usize::try_from(size), Ok(REGION));
    let region = usize::try_from(region).unwrap();
    let mut state = open.disk.state();
    let inode = &mut state.inodes[open.inode];
    if !inode.mapped.contains(&open.handle) {
        inode.mapped.push(open.handle);
    }
    while inode.shm.len() <= region && extend != 0 {
        inode.shm.push(vec![0; REGION / 8].into_boxed_slice());
    }
    let mapped = inode.shm.get_mut(region).map_or(ptr::null_mut(), |region| region.as_mut_ptr().cast());
    // SAFETY: a region is boxed, so it stays where it is until the last handle unmaps it.
    unsafe { *out = mapped };
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, first: c_int, n: c_int, flags: c_int) -> c_int {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    let own = open.handle;
    let range = usize::try_from(first).unwrap()..usize::try_from(first + n).unwrap();
    let locking = flags & ffi::SQLITE_SHM_LOCK != 0;
    if locking && let Err(fault) = open.disk.begin(Op::Lock) {
        return fault.code;
    }
    let mut state = open.disk.state();
    let locks = &mut state.inodes[open.inode].shm_locks[range];
    let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    if !locking {
        for lock in locks {
            lock.shared.retain(|holder| *holder != own);
            lock.exclusive.take_if(|holder| *holder == own);
        }
        return ffi::SQLITE_OK;
    }
    let free = locks.iter().all(|lock| {
        lock.exclusive.is_none_or(|holder| holder == own)
            && (!exclusive || lock.shared.iter().all(|holder| *holder == own))
    });
    if !free {
        return ffi::SQLITE_BUSY;
    }
    for lock in locks {
        if exclusive {
            lock.exclusive = Some(own);
        } else if !lock.shared.contains(&own) {
            lock.shared.push(own);
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    let _ = open.disk.begin(Op::Barrier);
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: see above.
    let open = unsafe { handle(file) };
    let mut state = open.disk.state();
    let inode = &mut state.inodes[open.inode];
    inode.mapped.retain(|holder| *holder != open.handle);
    for lock in &mut inode.shm_locks {
        lock.shared.retain(|holder| *holder != open.handle);
        lock.exclusive.take_if(|holder| *holder == open.handle);
    }
    if inode.mapped.is_empty() {
        // The next to come finds nobody else, and starts it over.
        inode.shm.clear();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, sync_folder: c_int) -> c_int {
    // SAFETY: see above.
    let Some((disk, name)) = unsafe { text(name) }.and_then(|path| Disk::at(&path)) else {
        return ffi::SQLITE_IOERR_DELETE;
    };
    if let Err(fault) = disk.begin(Op::Delete) {
        return fault.code;
    }
    let mut state = disk.state();
    let Some(inode) = state.names.get(&name).copied() else { return ffi::SQLITE_IOERR_DELETE_NOENT };
    state.happen(Event::Delete { name });
    if sync_folder != 0 {
        state.happen(Event::Sync { inode, folder: true });
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn access(_: *mut sqlite3_vfs, name: *const c_char, _: c_int, out: *mut c_int) -> c_int {
    // SAFETY: see above.
    let found = unsafe { text(name) }.and_then(|path| Disk::at(&path)).is_some_and(|(disk, name)| {
        let state = disk.state();
        state.names.get(&name).is_some_and(|inode| !state.inodes[*inode].data.is_empty())
    });
    // SAFETY: see above.
    unsafe { *out = c_int::from(found) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    n: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: see above.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if name.len() > usize::try_from(n).unwrap() {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: SQLite gave room for `n` bytes, which are enough.
    unsafe { ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(_: *mut sqlite3_vfs, n: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite gave room for `n` bytes.
    unsafe { ptr::write_bytes(out, 7, usize::try_from(n).unwrap()) };
    n
}

unsafe extern "C" fn sleep(_: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    std::thread::sleep(std::time::Duration::from_micros(20));
    microseconds
}

unsafe extern "C" fn time(_: *mut sqlite3_vfs, out: *mut sqlite3_int64) -> c_int {
    // SAFETY: see above; the Unix epoch in milliseconds of the Julian calendar.
    unsafe { *out = 210_866_760_000_000 };
    ffi::SQLITE_OK
}
