//! The threads that read a store on SQLite.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::Read;
use crate::backend::Snapshot;
use crate::backend::sqlite::{InterruptHandle, Opening, Sqlite};
use crate::error::{Result, StateError};
use crate::log::StoreId;
use crate::store::threads::spawn;
use crate::sync::{Mutex, lock};

/// The most reads of one transaction. Reads that wait together share one: a read that goes to a thread alone
/// was measured at 40 to 50 µs, a read among many that share a transaction at 3 to 5 µs. The bound lets several
/// threads share the queue.
const READ_TOGETHER: usize = 16;

/// How often closing interrupts the statements that still run. A read that begins a next one meets the next
/// interrupt.
pub(super) const INTERRUPTS: Duration = Duration::from_millis(5);

/// Threads that share a queue of reads, each with a connection of its own.
pub(super) struct Readers {
    opening: Opening,
    store: StoreId,
    reads: Sender<Read>,
    /// Ends the threads when it is dropped.
    stop: Mutex<Option<Sender<()>>>,
    running: Mutex<Vec<Running>>,
}

/// A thread that reads.
struct Running {
    thread: JoinHandle<()>,
    /// Interrupts its statements; `None` until it has its connection.
    interrupt: Arc<Mutex<Option<InterruptHandle>>>,
    /// Disconnected when the thread has closed its connection.
    ended: Receiver<()>,
}

impl Running {
    /// Starts a thread that opens a connection and reads on it.
    fn start(
        name: &str,
        open: impl FnOnce() -> Result<Sqlite> + Send + 'static,
        read: impl FnOnce(Result<&Sqlite>) + Send + 'static,
    ) -> Result<Self> {
        let interrupt: Arc<Mutex<Option<InterruptHandle>>> = Arc::default();
        let (end, ended) = bounded::<()>(0);
        let own = interrupt.clone();
        let thread = spawn(name, move || {
            let _end = end; // Dropped behind the connection.
            let sqlite = open();
            if let Ok(sqlite) = &sqlite {
                *lock(&own) = Some(sqlite.interrupt_handle());
            }
            read(sqlite.as_ref().map_err(StateError::clone));
        })?;
        Ok(Self { thread, interrupt, ended })
    }

    fn interrupt(&self) {
        if let Some(running) = &*lock(&self.interrupt) {
            running.interrupt();
        }
    }
}

impl Readers {
    pub(super) fn start(opening: &Opening, store: StoreId) -> Result<Arc<Self>> {
        let count = thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        let (sender, reads) = unbounded::<Read>();
        let (stop, stopped) = bounded::<()>(0);
        let mut running = Vec::with_capacity(count);
        for _ in 0..count {
            let sqlite = opening.another(store, true)?;
            let (reads, stopped) = (reads.clone(), stopped.clone());
            let read = move |sqlite: Result<&Sqlite>| {
                if let Ok(sqlite) = sqlite {
                    read_until(sqlite, &reads, &stopped);
                }
            };
            running.push(Running::start("univrs-state reader", move || Ok(sqlite), read)?);
        }
        let (stop, running) = (Mutex::new(Some(stop)), Mutex::new(running));
        Ok(Arc::new(Self { opening: opening.clone(), store, reads: sender, stop, running }))
    }

    /// Runs a short read when a thread is free.
    pub(super) fn start_read(&self, read: Read) {
        let _ = self.reads.send(read);
    }

    /// Runs a long read on a thread and a connection of its own, so that short reads need not wait.
    pub(super) fn read_alone(&self, read: Read) {
        let stop = lock(&self.stop);
        if stop.is_none() {
            return;
        }
        let (opening, store, reads) = (self.opening.clone(), self.store, self.reads.clone());
        // The read goes through a channel, so that it is still here if no thread can be started.
        let (hand, taken) = bounded::<Read>(1);
        let run = move |sqlite: Result<&Sqlite>| {
            let Ok(read) = taken.recv() else { return };
            match sqlite {
                Ok(sqlite) => sqlite.with_snapshot(read),
                // No new connection can be opened, for example because the file was moved. The open
                // connections can still read it.
                Err(_) => drop(reads.send(read)),
            }
        };
        match Running::start("univrs-state long read", move || opening.another(store, true), run) {
            Ok(started) => {
                let _ = hand.send(read);
                let mut running = lock(&self.running);
                running.retain(|running| !running.thread.is_finished());
                running.push(started);
            }
            Err(error) => read(Err(error)),
        }
    }

    /// Interrupts what the threads read, and waits for them for at most this time. Reads that wait are dropped.
    /// Returns how many threads are left over: they run code of the program, such as the writer of an export.
    pub(super) fn stop(&self, wait: Duration) -> usize {
        *lock(&self.stop) = None;
        let running = std::mem::take(&mut *lock(&self.running));
        let start = Instant::now();
        let mut left = 0;
        for reader in &running {
            loop {
                // IMPORTANT: again and again. An interrupt between two statements of a read is without effect.
                running.iter().for_each(Running::interrupt);
                match reader.ended.recv_timeout(INTERRUPTS) {
                    Err(RecvTimeoutError::Timeout) if start.elapsed() < wait => {}
                    Err(RecvTimeoutError::Timeout) => {
                        left += 1;
                        break;
                    }
                    _ => break,
                }
            }
        }
        if left == 0 {
            for reader in running {
                let _ = reader.thread.join();
            }
        }
        left
    }
}

/// Runs reads until `stopped` is closed, those that wait together in one transaction.
///
/// IMPORTANT: a transaction runs only reads that were requested before it began. A read that was requested
/// later must see what was recorded until then.
fn read_until(sqlite: &Sqlite, reads: &Receiver<Read>, stopped: &Receiver<()>) {
    loop {
        crossbeam_channel::select! {
            recv(stopped) -> _ => return,
            recv(reads) -> read => match read {
                Ok(read) => {
                    let mut batch = vec![read];
                    batch.extend(reads.try_iter().take(READ_TOGETHER - 1));
                    sqlite.with_snapshot(|snapshot| read_all(snapshot, batch));
                }
                Err(_) => return,
            },
        }
    }
}

fn read_all(snapshot: Result<&dyn Snapshot>, batch: Vec<Read>) {
    match snapshot {
        Ok(snapshot) => batch.into_iter().for_each(|read| read(Ok(snapshot))),
        Err(error) => batch.into_iter().for_each(|read| read(Err(error.clone()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tempfile::TempDir;

    use super::*;
    use crate::backend::sqlite::{Judge, Location, WAL_CAP};

    const LONG: Duration = Duration::from_secs(600);

    fn readers(folder: &TempDir) -> (Sqlite, Arc<Readers>) {
        let opening = Opening {
            location: Location::File(folder.path().join("state.db")),
            create: true,
            read_only: false,
            durability: None,
            busy_timeout: Duration::from_secs(5),
            accept_loss: false,
            loss_meta: crate::log::Meta::new(),
            expected: None,
            new_store: StoreId::from_bytes([3; 16]),
            immutable: false,
            wal_cap: WAL_CAP,
            beside: Vec::new(),
            judge: Judge::new(|_| Ok(None)),
            vfs: None,
        };
        let sqlite = opening.first().unwrap();
        let readers = Readers::start(sqlite.opening(), sqlite.id()).unwrap();
        (sqlite, readers)
    }

    /// Starts a read by each kind of thread; waits until both run.
    fn start_both(readers: &Readers, read: impl Fn(&dyn Snapshot) + Clone + Send + 'static) {
        let (runs, running) = channel();
        let started = || {
            let (runs, read) = (runs.clone(), read.clone());
            Box::new(move |snapshot: Result<&dyn Snapshot>| {
                runs.send(()).unwrap();
                read(snapshot.unwrap());
            })
        };
        readers.start_read(started());
        readers.read_alone(started());
        (0..2).for_each(|_| running.recv().unwrap());
    }

    // One interrupt that came between two statements did nothing, and closing waited for the rest of the read.
    #[test]
    fn reads_of_any_number_of_statements_end_when_the_store_closes() {
        let folder = TempDir::new().unwrap();
        let (_sqlite, readers) = readers(&folder);
        let (ends, ended) = channel();
        start_both(&readers, move |snapshot| {
            let end = loop {
                if let Err(error) = snapshot.entry("/a") {
                    break error;
                }
            };
            ends.send(end).unwrap();
        });
        assert_eq!(readers.stop(LONG), 0);
        assert_eq!([ended.recv(), ended.recv()], [Ok(StateError::Closed), Ok(StateError::Closed)]);
    }

    #[test]
    fn code_of_the_program_that_does_not_return_is_left_over_and_counted() {
        let folder = TempDir::new().unwrap();
        let (_sqlite, readers) = readers(&folder);
        let (release, held) = bounded::<()>(0);
        start_both(&readers, move |_| assert!(held.recv().is_err()));
        assert_eq!(readers.stop(Duration::ZERO), 2);
        drop(release);
    }
}
