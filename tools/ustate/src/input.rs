//! What commands read from files and from standard input, none of it without end.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::time::Duration;

use univrs_state::Limits;

use crate::signals::Signals;
use crate::stop::{Done, Exit, Failure, Stop};
use crate::value::size;

/// How long standard input is waited for at a time.
pub(crate) const PULSE: Duration = Duration::from_millis(50);

/// The bytes of a file, unless there are more than `most`: then none.
pub(crate) fn read_at_most(path: &Path, most: usize) -> Done<Option<Vec<u8>>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| Failure::io(&format!("cannot read {}", path.display()), &error))?;
    Ok((bytes.len() <= most).then_some(bytes))
}

/// The same of standard input, where a signal ends the waiting.
pub(crate) async fn wait_for_at_most(most: usize) -> Done<Option<Vec<u8>>> {
    let mut signals = Signals::new()?;
    let mut stdin = io::stdin().lock();
    let mut bytes = Vec::new();
    while bytes.len() <= most {
        while !is_ready(&stdin, PULSE) {
            tokio::select! {
                biased;
                number = signals.next() => return Err(Stop::Signal(number)),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
        let chunk = match stdin.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk.map_err(|error| Failure::io(&format!("cannot read {}", named(None)), &error))?,
        };
        if chunk.is_empty() {
            return Ok(Some(bytes));
        }
        let read = chunk.len().min(most + 1 - bytes.len());
        bytes.extend(chunk.iter().take(read));
        stdin.consume(read);
    }
    Ok(None)
}

/// Waits until an input can be read, or has ended; not longer than that.
#[cfg(unix)]
pub(crate) fn is_ready(input: &impl std::os::fd::AsFd, most: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let most = Timespec { tv_sec: 0, tv_nsec: most.subsec_nanos().into() };
    // Where it cannot be told, reading says what is wrong; a signal interrupts the waiting.
    match poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&most)) {
        Ok(ready) => ready > 0,
        Err(error) => error != rustix::io::Errno::INTR,
    }
}

#[cfg(not(unix))]
pub(crate) fn is_ready<T>(_: &T, _: Duration) -> bool {
    true
}

/// The value for a key in a file.
pub(crate) fn read_value(path: &Path) -> Done<Vec<u8>> {
    let most = Limits::default().value_bytes;
    read_at_most(path, most)?.ok_or_else(|| value_too_large(&named(Some(path)), most))
}

/// The value for a key on standard input.
pub(crate) async fn wait_for_value() -> Done<Vec<u8>> {
    let most = Limits::default().value_bytes;
    wait_for_at_most(most).await?.ok_or_else(|| value_too_large(&named(None), most))
}

fn value_too_large(name: &str, most: usize) -> Stop {
    let most = size(most as u64);
    too_large(&format!("{name} is too large: a value has {most} at most")).into()
}

/// What is read, in words.
pub(crate) fn named(path: Option<&Path>) -> String {
    path.map_or_else(|| "standard input".into(), |path| path.display().to_string())
}

pub(crate) fn too_large(what: &str) -> Failure {
    Failure::new(Exit::Usage, "limit_exceeded", what).fact("nothing was written")
}
