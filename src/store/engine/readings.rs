//! Who reads a state for long, so that the write-ahead log cannot be moved: reads of this store, which it knows,
//! and other processes, which the system knows.

use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::time::Instant;

use super::{Read, Wal};
use crate::backend::sqlite::{LogPages, Sqlite, mark_holders};
use crate::error::Result;
use crate::store::resident::Shared;
use crate::store::stats::WalReader;
use crate::sync::{Mutex, lock};

/// The long reads of a store that are running, and where its files are.
pub(super) struct Readings {
    shared: Arc<Shared>,
    database: PathBuf,
    cap: u64,
    frame: u64,
    running: Mutex<Vec<Arc<Reading>>>,
}

/// A long read.
struct Reading {
    what: &'static str,
    since: Instant,
    /// How many pages of the log belong to its state.
    pages: u32,
}

impl Readings {
    /// For a store in a file.
    pub(super) fn new(sqlite: &Sqlite, shared: &Arc<Shared>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            shared: shared.clone(),
            database: sqlite.opening().shown().to_owned(),
            cap: sqlite.opening().wal_cap,
            frame: sqlite.frame_bytes()?,
            running: Mutex::default(),
        }))
    }

    /// A read that is among the running ones while it runs.
    pub(super) fn noted(self: &Arc<Self>, what: &'static str, read: Read) -> Read {
        let readings = self.clone();
        Box::new(move |snapshot| {
            let log = readings.shared.log_pages().unwrap_or_default();
            // Its state may be a newer one, of which the system knows only when it reads the first page. A state
            // that is in the database needs no page of the log.
            let pages = if log.left() == 0 { 0 } else { log.used };
            let reading = Arc::new(Reading { what, since: Instant::now(), pages });
            lock(&readings.running).push(reading.clone());
            let _running = Running { readings: &readings, reading };
            read(snapshot);
        })
    }

    /// The write-ahead log, and who keeps it from being moved.
    ///
    /// The index in memory tells without a lock. SQLite's pragma answered that it was busy while a checkpoint ran.
    pub(super) fn wal(&self) -> Wal {
        let file = crate::backend::sqlite::wal_file_bytes(&self.database);
        let Some(log) = self.shared.log_pages() else { return Wal { used: file, file, ..Wal::default() } };
        let (used, cap) = (u64::from(log.used) * self.frame, Some(self.cap));
        Wal { used, file, cap, readers: self.readers(&log) }
    }

    fn readers(&self, log: &LogPages) -> Vec<WalReader> {
        let reader = |process: u32, program: String, pages: u32| WalReader {
            process,
            program,
            what: None,
            time: None,
            held_bytes: u64::from(log.used.saturating_sub(pages)) * self.frame,
        };
        let running: Vec<_> =
            lock(&self.running).iter().filter(|own| own.pages < log.used).cloned().collect();
        let mut readers = Vec::new();
        for holder in mark_holders(&self.database, log) {
            // The lock of this process is that of its reads, if there are any.
            if holder.process != process::id() || running.is_empty() {
                readers.push(reader(holder.process, holder.program, holder.pages));
            }
        }
        readers.extend(running.iter().map(|own| WalReader {
            what: Some(own.what.to_owned()),
            time: Some(own.since.elapsed()),
            ..reader(process::id(), String::new(), own.pages)
        }));
        readers.sort_by_key(|reader| std::cmp::Reverse(reader.held_bytes));
        readers
    }
}

/// Takes a read off the list, also after a panic.
struct Running<'a> {
    readings: &'a Readings,
    reading: Arc<Reading>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.readings.running).retain(|other| !Arc::ptr_eq(other, &self.reading));
    }
}
