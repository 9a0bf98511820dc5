//! What is written by another thread, and whether anybody reads it.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A writer that remembers that nobody reads it any longer.
pub(crate) struct Pipe<W> {
    write: W,
    closed: Arc<AtomicBool>,
}

/// Whether a pipe was closed at its other end.
pub(crate) struct IsClosed(Arc<AtomicBool>);

impl IsClosed {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<W: Write> Pipe<W> {
    pub(crate) fn new(write: W) -> (Self, IsClosed) {
        let closed = Arc::new(AtomicBool::new(false));
        (Self { write, closed: closed.clone() }, IsClosed(closed))
    }

    fn notice<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if done.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
            self.closed.store(true, Ordering::Relaxed);
        }
        done
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.write.write(bytes);
        self.notice(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.write.flush();
        self.notice(done)
    }
}
