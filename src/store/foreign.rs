//! Calling code that the program gave to the store. A panic in it becomes an error that names the code, and
//! affects no other call.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::clock::Clock;
use super::entropy::Entropy;
use crate::audit::Progress;
use crate::error::{Fault, Panicked, Result, StateError};
use crate::log::Timestamp;

/// Reads a clock.
pub(crate) fn now(clock: &dyn Clock) -> Result<Timestamp> {
    guarded("the clock", || clock.now())
}

/// Reads the monotonic clock beside a clock.
pub(crate) fn uptime(clock: &dyn Clock) -> Result<Option<Duration>> {
    guarded("the clock", || clock.uptime())
}

/// Reads a clock, if it has a monotonic clock beside it.
pub(crate) fn now_if(clock: &dyn Clock) -> Result<Option<Timestamp>> {
    guarded("the clock", || clock.uptime().map(|_| clock.now()))
}

/// Fills a buffer with random bytes of a source.
pub(crate) fn fill(entropy: &dyn Entropy, buffer: &mut [u8]) -> Result<()> {
    if guarded("the source of randomness", || entropy.fill(buffer))? {
        Ok(())
    } else {
        Err(StateError::Unavailable("the source of randomness gave no random bytes".into()))
    }
}

/// Calls a progress function, if there is one.
pub(crate) fn tell(progress: Option<&(dyn Fn(Progress) + Send + Sync)>, done: u64, total: u64) -> Result<()> {
    progress.map_or(Ok(()), |tell| guarded("the progress function", || tell(Progress { done, total })))
}

/// Calls the function that says what a consumer does about a commit.
pub(crate) fn effects<T>(run: impl FnOnce() -> T) -> Result<T> {
    guarded("the function of a consumer", run)
}

fn guarded<T>(whose: &'static str, run: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| StateError::Panicked(whose))
}

/// A reader or a writer that the program gave. It is not called again after a panic, and a panic when it is
/// dropped ends there.
pub(crate) struct Foreign<T> {
    /// None after it was dropped, or after a panic of it.
    inner: Option<T>,
    whose: &'static str,
}

impl<R: Read> Foreign<R> {
    pub(crate) fn reader(inner: R) -> Self {
        Self { inner: Some(inner), whose: "the reader" }
    }
}

impl<W: Write> Foreign<W> {
    pub(crate) fn writer(inner: W) -> Self {
        Self { inner: Some(inner), whose: "the writer" }
    }
}

impl<T> Foreign<T> {
    fn call<R>(&mut self, call: impl FnOnce(&mut T) -> io::Result<R>) -> io::Result<R> {
        let Some(inner) = &mut self.inner else { return Err(Panicked(self.whose).into()) };
        let called = catch_unwind(AssertUnwindSafe(|| call(inner)));
        called.unwrap_or_else(|_| {
            self.end();
            Err(Panicked(self.whose).into())
        })
    }

    /// Passes on how many bytes of a buffer it took or filled. A larger number than there are would make the
    /// buffers around it panic, `BufWriter` even while it is dropped.
    fn within(&self, most: usize, bytes: usize) -> io::Result<usize> {
        if bytes <= most {
            return Ok(bytes);
        }
        Err(io::Error::other(format!("{} said {bytes} bytes of a buffer of {most}", self.whose)))
    }

    fn end(&mut self) {
        let inner = self.inner.take();
        // Nothing depends on it any more, and the hook of panics has told of this one.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(inner)));
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<R: Read> Read for Foreign<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.call(|inner| inner.read(buffer))?;
        self.within(buffer.len(), bytes)
    }
}

impl<W: Write> Write for Foreign<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let bytes = self.call(|inner| inner.write(buffer))?;
        self.within(buffer.len(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.call(Write::flush)
    }
}

/// The error of a thread that cannot be started.
pub(crate) fn no_thread(error: io::Error) -> StateError {
    StateError::Unavailable(Fault::caused(format!("no thread can be started: {error}"), error))
}

/// The error of a thread of the store that panicked before it answered.
pub(crate) fn broken() -> StateError {
    StateError::Storage("a thread of the store panicked, which is a bug of the store".into())
}
