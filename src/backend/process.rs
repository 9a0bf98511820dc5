//! Which process a store belongs to: the one that opened it.
//!
//! A fork has the memory of its parent, but neither its threads nor its file locks, which SQLite believes
//! that it still holds. A call that waits for a thread of the store would wait for ever, and a second
//! opening of a file could damage it.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// How many forks lie between this process and the start of its program.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// Connections that are open or being opened.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// The connections that were open at the last fork. The threads that use them are in the parent.
static INHERITED: AtomicUsize = AtomicUsize::new(0);

/// Counts the fork. `pthread_atfork` calls this in the child, before anything else.
///
/// IMPORTANT: it must not lock or allocate, because another thread of the parent may hold any lock.
pub(crate) extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    INHERITED.store(OPEN.load(Ordering::SeqCst), Ordering::SeqCst);
}

/// A process, told apart from its forks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// The current process.
    pub(crate) fn this() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }
}

/// Counts a connection while it is open or being opened.
#[derive(Debug)]
pub(crate) struct CountedConnection(());

impl CountedConnection {
    pub(crate) fn new() -> Self {
        OPEN.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether this process is a fork of one that had connections. Then it must open no file.
pub(crate) fn has_inherited() -> bool {
    INHERITED.load(Ordering::SeqCst) > 0
}
