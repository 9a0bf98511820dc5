//! The threads that read a store on SQLite.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::Read;
use crate::backend::Snapshot;
use crate::backend::sqlite::{InterruptHandle, Opening, Sqlite};
use crate::error::Result;
use crate::log::StoreId;
use crate::store::threads::spawn;
use crate::sync::{Mutex, lock};

/// The most reads of one transaction. Reads that wait together share one: a read that goes to a thread alone
/// was measured at 40 to 50 µs, a read among many that share a transaction at 3 to 5 µs. The bound lets several
/// threads share the queue.
const READ_TOGETHER: usize = 16;

/// Threads that share a queue of reads, each with a connection of its own.
pub(super) struct Readers {
    opening: Opening,
    store: StoreId,
    reads: Sender<Read>,
    /// Ends the threads when it is dropped.
    stop: Mutex<Option<Sender<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The interrupt handles of the long reads.
    interrupts: Mutex<Vec<Weak<Interrupt>>>,
}

/// A handle that interrupts a running statement; `None` until the read has its connection.
type Interrupt = Mutex<Option<InterruptHandle>>;

impl Readers {
    pub(super) fn start(opening: &Opening, store: StoreId) -> Result<Arc<Self>> {
        let count = thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        let (sender, reads) = unbounded::<Read>();
        let (stop, stopped) = bounded::<()>(0);
        let mut threads = Vec::with_capacity(count);
        for _ in 0..count {
            let sqlite = opening.another(store, true)?;
            let (reads, stopped) = (reads.clone(), stopped.clone());
            threads.push(spawn("univrs-state reader", move || read_until(&sqlite, &reads, &stopped))?);
        }
        let (stop, threads, interrupts) = (Mutex::new(Some(stop)), Mutex::new(threads), Mutex::default());
        Ok(Arc::new(Self { opening: opening.clone(), store, reads: sender, stop, threads, interrupts }))
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
        let interrupt: Arc<Interrupt> = Arc::default();
        let mut interrupts = lock(&self.interrupts);
        interrupts.retain(|interrupt| interrupt.strong_count() > 0);
        interrupts.push(Arc::downgrade(&interrupt));
        // The read goes through a channel, so that it is still here if no thread can be started.
        let (hand, taken) = bounded::<Read>(1);
        let thread = spawn("univrs-state long read", move || {
            let Ok(read) = taken.recv() else { return };
            match opening.another(store, true) {
                Ok(sqlite) => {
                    *lock(&interrupt) = Some(sqlite.interrupt_handle());
                    sqlite.with_snapshot(read);
                }
                // No new connection can be opened, for example because the file was moved. The open
                // connections can still read it.
                Err(_) => drop(reads.send(read)),
            }
        });
        match thread {
            Ok(thread) => {
                let _ = hand.send(read);
                let mut threads = lock(&self.threads);
                threads.retain(|thread| !thread.is_finished());
                threads.push(thread);
            }
            Err(error) => read(Err(error)),
        }
    }

    /// Ends the threads and waits for them. Reads that wait are dropped.
    pub(super) fn stop(&self) {
        *lock(&self.stop) = None;
        for interrupt in lock(&self.interrupts).iter().filter_map(Weak::upgrade) {
            if let Some(running) = &*lock(&interrupt) {
                running.interrupt();
            }
        }
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            let _ = thread.join();
        }
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
