//! Notices the commits of other processes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::readers::spawn;
use super::shared::Shared;
use crate::backend::sqlite::Sqlite;
use crate::error::{Result, StateError};
use crate::log::Head;

/// How often it looks while there are watches.
const INTERVAL: Duration = Duration::from_millis(20);

/// Looks for commits on a connection of its own, so that neither a writer that waits for a lock
/// nor a long read holds it up. Its thread sleeps while there are no watches.
pub(super) struct Poller {
    sqlite: Mutex<Option<Sqlite>>,
    shared: Arc<Shared>,
    wake: Sender<()>,
}

impl Poller {
    pub(super) fn start(sqlite: Sqlite, shared: Arc<Shared>) -> Result<Arc<Self>> {
        let (wake, woken) = bounded(1);
        let poller = Arc::new(Self { sqlite: Mutex::new(Some(sqlite)), shared, wake });
        // The thread ends when the poller is stopped.
        let polls = poller.clone();
        spawn("univrs-state poller", move || polls.run(&woken))?;
        Ok(poller)
    }

    /// The newest recorded head, whoever recorded it. Takes microseconds while nothing has changed.
    pub(super) fn now(&self) -> Result<Head> {
        let sqlite = self.lock();
        let tip = sqlite.as_ref().ok_or(StateError::Closed)?.foreign_tip()?;
        // Known before the next one looks, who is told that nothing has changed since.
        let news = tip.is_some_and(|tip| self.shared.advance(tip.head));
        drop(sqlite);
        if news {
            self.shared.ring();
        }
        Ok(self.shared.head())
    }

    /// Starts looking, if it is not.
    pub(super) fn wake(&self) {
        let _ = self.wake.try_send(());
    }

    /// Closes the connection and ends the thread.
    pub(super) fn stop(&self) {
        *self.lock() = None;
        self.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sqlite>> {
        self.sqlite.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, woken: &Receiver<()>) {
        let mut failing = false;
        loop {
            let looked = if self.shared.watching() == 0 {
                woken.recv().is_ok()
            } else {
                woken.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Disconnected)
            };
            match self.now() {
                _ if !looked => return,
                Err(StateError::Closed) => return,
                Ok(_) | Err(StateError::Busy(_)) => failing = false,
                // The watches look for themselves, and end with the cause.
                Err(_) if !failing => {
                    failing = true;
                    self.shared.alarm();
                }
                Err(_) => {}
            }
        }
    }
}
