//! Stores made from exports.

use std::io::Read;
#[cfg(feature = "sqlite")]
use std::path::Path;

use super::MemoryStore;
use super::Options;
#[cfg(feature = "sqlite")]
use super::{
    SqliteStore,
    alongside::{Taken, alongside},
    archive::on_a_thread,
    staged::Staged,
};
#[cfg(feature = "sqlite")]
use crate::audit::Start;
use crate::audit::{LogReader, Recorded, contradicts};
use crate::backend::Memory;
#[cfg(feature = "sqlite")]
use crate::backend::sqlite::{Location, Opening, Sqlite};
#[cfg(feature = "sqlite")]
use crate::backend::{Backend, CommitError, Transaction};
use crate::error::{Result, StateError};
use crate::log::Change;
use crate::seq::Seq;
use crate::state::Slot;

/// Changes that are written at once, and bytes after which it is fewer.
#[cfg(feature = "sqlite")]
const BATCH_CHANGES: usize = 4_000;
#[cfg(feature = "sqlite")]
const BATCH_BYTES: usize = 2 << 20;
/// Such batches that share a storage transaction.
#[cfg(feature = "sqlite")]
const BATCHES: usize = 4;

/// Reads a whole export into memory. A store that can be written needs all of the log.
pub(super) fn load<R: Read>(reader: &mut LogReader<R>, whole: bool) -> Result<Memory> {
    let start = reader.start();
    if whole {
        check_floor(start.floor.seq)?;
    }
    let mut memory = Memory::after(start.store, start.floor);
    while let Some(recorded) = reader.next()? {
        match recorded {
            Recorded::Withheld(_) if whole => return Err(withheld(reader.head().seq)),
            Recorded::Withheld(header) => memory.push_withheld(header, reader.head()),
            Recorded::Change(change) => {
                let last = memory.last(&change.key);
                let begins_earlier =
                    last.is_none() && change.prev > Seq::ZERO && change.prev <= start.floor.seq;
                if !begins_earlier {
                    check(&change, last)?;
                }
                memory.push(change);
            }
        }
    }
    Ok(memory)
}

fn check(change: &Change, last: Option<Slot>) -> Result<()> {
    match contradicts(change, last) {
        Some(what) => Err(StateError::Corrupted(format!("change {}: {what}", change.seq))),
        None => Ok(()),
    }
}

fn check_floor(floor: Seq) -> Result<()> {
    if floor == Seq::ZERO {
        return Ok(());
    }
    Err(StateError::Erased(format!(
        "the export begins after {floor}: it can be read, but a store to be written needs all before it, too"
    )))
}

fn withheld(seq: Seq) -> StateError {
    StateError::Erased(format!(
        "the export withholds change {seq}: it can be read, but a store to be written needs all of them"
    ))
}

impl Options {
    /// A store in memory with the log of an export, which it goes on from. Values that were
    /// redacted are erased in it.
    ///
    /// # Errors
    /// Those of [`Archive::open`](super::Archive::open); [`StateError::Erased`] if the export
    /// withholds changes or begins later than the log.
    pub fn import_memory(self, export: impl Read) -> Result<MemoryStore> {
        let (limits, sources) = self.limits_and_sources()?;
        Ok(MemoryStore::of(limits, sources, load(&mut LogReader::new(export)?, true)?, false))
    }

    /// A store on disk with the log of an export, which it goes on from. Values that were redacted
    /// are erased in it. It is built beside its path, and appears there when it is complete.
    ///
    /// # Errors
    /// Those of [`import_memory`](Self::import_memory); [`StateError::ConnectionError`] if something
    /// is at the path already; [`StateError::StorageFull`]. Nothing is left behind then.
    #[cfg(feature = "sqlite")]
    pub async fn import(
        self,
        export: impl Read + Send + 'static,
        into: impl AsRef<Path>,
    ) -> Result<SqliteStore> {
        let into = std::path::absolute(into.as_ref())?;
        for suffix in ["-wal", "-shm", "-journal", "-head"] {
            let mut beside = into.clone().into_os_string();
            beside.push(suffix);
            if std::fs::symlink_metadata(&beside).is_ok() {
                return Err(StateError::ConnectionError(format!(
                    "{} exists and would be taken for a part of the new store; remove it, or choose another path",
                    beside.display()
                )));
            }
        }
        let staged = Staged::in_folder(&into)?;
        let opening = Opening {
            create: true,
            read_only: false,
            ..self.opening(Location::File(staged.path().to_owned()))?
        };
        let build = move || {
            build(opening, LogReader::new(export)?)?;
            staged.publish()
        };
        on_a_thread(build).await?;
        self.create(false).open(into).await
    }
}

/// Builds a closed store of an export: reads and hashes on this thread, writes on another.
#[cfg(feature = "sqlite")]
fn build<R: Read>(opening: Opening, mut reader: LogReader<R>) -> Result<()> {
    let Start { store, floor } = reader.start();
    check_floor(floor.seq)?;
    let mut sqlite = Opening { new_store: store, ..opening }.first()?;
    if sqlite.id() != store {
        return Err(StateError::Storage("the new store has another id than was asked for".into()));
    }
    sqlite.begin_load()?;
    alongside(|send| read_batches(&mut reader, send), |taken| write_batches(&mut sqlite, taken))?;
    let (found, head) = (sqlite.read_head()?, reader.head());
    if found != head {
        return Err(StateError::Corrupted(format!(
            "the new store ends at {}, not at {}",
            found.seq, head.seq
        )));
    }
    sqlite.end_load()
}

#[cfg(feature = "sqlite")]
fn read_batches<R: Read>(
    reader: &mut LogReader<R>,
    send: &mut dyn FnMut(Vec<Change>) -> Option<Vec<Change>>,
) -> Result<()> {
    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH_CHANGES), 0);
    while let Some(recorded) = reader.next()? {
        let Recorded::Change(change) = recorded else { return Err(withheld(reader.head().seq)) };
        bytes += change.size();
        batch.push(change);
        if batch.len() == BATCH_CHANGES || bytes >= BATCH_BYTES {
            bytes = 0;
            match send(batch) {
                Some(empty) => batch = empty,
                None => return Ok(()), // The other thread has failed, and says why.
            }
            batch.clear();
        }
    }
    send(batch);
    Ok(())
}

#[cfg(feature = "sqlite")]
fn write_batches(sqlite: &mut Sqlite, taken: &mut Taken<Vec<Change>>) -> Result<()> {
    let mut more = true;
    while more {
        let mut transaction = sqlite.begin()?;
        for written in 1.. {
            let Some(batch) = taken.next() else {
                more = false;
                break;
            };
            write_batch(&mut transaction, batch)?;
            // A commit of any size is in one transaction.
            if written >= BATCHES && batch.last().is_some_and(Change::closes_commit) {
                break;
            }
        }
        transaction.commit().map_err(|error| match error {
            CommitError::NotRecorded(error) | CommitError::Unknown(error) => error,
        })?;
        sqlite.checkpoint(None)?;
    }
    Ok(())
}

/// Appends changes that may begin and end within a commit, and projects the last one of each key: in
/// the order of keys, in which their rows are found faster.
#[cfg(feature = "sqlite")]
fn write_batch(transaction: &mut impl Transaction, batch: &[Change]) -> Result<()> {
    let mut by_key: Vec<&Change> = batch.iter().collect();
    by_key.sort_by(|a, b| a.key.cmp(&b.key));
    let mut last = Vec::with_capacity(by_key.len());
    for changes in by_key.chunk_by(|one, next| one.key == next.key) {
        let before = changes.first().map_or(Ok(None), |first| transaction.slot(&first.key))?;
        let mut now = before;
        for change in changes {
            check(change, now)?;
            now = Some(Slot::of(change));
        }
        last.extend(changes.last().map(|change| (*change, before)));
    }
    batch.chunk_by(|one, next| one.commit_seq == next.commit_seq).try_for_each(|c| transaction.append(c))?;
    last.into_iter().try_for_each(|(change, before)| transaction.project(change, before))
}
