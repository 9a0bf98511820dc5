//! Which process a store belongs to: the one that opened it.
//!
//! A fork has the memory of its parent, but neither its threads nor its locks on files, which SQLite
//! believes to have there: who is asked would wait for ever, and who opens a file could damage it.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// How many forks lie between this process and the start of its program.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// Connections that are open or being opened.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// Those of them that were opened before the last fork, by threads that are not here.
static INHERITED: AtomicUsize = AtomicUsize::new(0);

/// Called in a fork as its first step, where nothing may be locked or allocated.
pub(crate) extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    INHERITED.store(OPEN.load(Ordering::SeqCst), Ordering::SeqCst);
}

/// A process, as one that is told from its forks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// This one.
    pub(crate) fn this() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }
}

/// A connection that is counted while it is open, or being opened.
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

/// Whether this process has the connections of another one, of which it is a fork: it must open no file.
pub(crate) fn has_inherited() -> bool {
    INHERITED.load(Ordering::SeqCst) > 0
}
