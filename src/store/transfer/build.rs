//! Building a store on disk from an export.

use std::io::Read;
use std::path::Path;

use super::atomic_file::{AtomicFile, EXISTS};
use super::load::{check_base, check_floor, check_follows, withheld};
use crate::audit::{Earlier, LogReader, LoggedChange, Start};
use crate::backend::sqlite::{Checkpoint, Location, Opening, SideFile, Sqlite};
use crate::backend::{Backend, CommitError, Transaction};
use crate::error::{Result, StateError};
use crate::log::{Change, StoreId};
use crate::state::KeyVersion;
use crate::store::foreign::Foreign;
use crate::store::threads::{Awaited, Taken, Waiter, alongside, on_a_thread};

/// The most changes, and the bytes, of a batch.
const BATCH_CHANGES: usize = 4_000;
const BATCH_BYTES: usize = 2 << 20;
/// How many batches share a storage transaction.
const BATCHES: usize = 4;

/// Builds a store from an export, and closes it. `into` is an absolute path that must not exist yet. The store is
/// built under a temporary name and appears at the path when it is complete. `opening` makes the options for
/// a path; `check` may refuse the store id of the export.
pub(crate) async fn import(
    export: impl Read + Send + 'static,
    into: &Path,
    opening: impl FnOnce(Location) -> Result<Opening>,
    check: impl FnOnce(StoreId) -> Result<()> + Send + 'static,
) -> Result<()> {
    // First, because the files beside a store that is there belong to it, and must not be removed.
    if std::fs::symlink_metadata(into).is_ok() {
        return Err(StateError::cannot_open(into, EXISTS));
    }
    // The draft of an earlier creation is not a part of a store.
    for side in SideFile::ALL.into_iter().filter(|side| *side != SideFile::NewFile) {
        let beside = side.beside(into);
        if std::fs::symlink_metadata(&beside).is_ok() {
            let why = "exists, and SQLite would take it for a part of the new store; remove it, or choose another path";
            return Err(StateError::cannot_open(Path::new(&beside), why));
        }
    }
    let staged = AtomicFile::in_folder(into)?;
    let opening = opening(Location::File(staged.path().to_owned()))?;
    let waiter = Waiter::new();
    let awaited = waiter.awaited();
    let make = move || {
        let reader = LogReader::new(Foreign::reader(export))?;
        check(reader.start().store)?;
        build(Opening { read_only: false, ..opening }, reader, &awaited)?;
        staged.publish()
    };
    let built = on_a_thread(make).await;
    drop(waiter);
    built
}

/// Builds a store from an export, and closes it. This thread reads and hashes; another one writes.
fn build<R: Read>(opening: Opening, mut reader: LogReader<R>, awaited: &Awaited) -> Result<()> {
    let start = reader.start();
    let Start { store, floor, .. } = start;
    check_base(&start)?;
    check_floor(floor.seq)?;
    let mut sqlite = Opening { new_store: store, ..opening }.first()?;
    if sqlite.id() != store {
        return Err(StateError::Storage("the new store has another id than was asked for".into()));
    }
    sqlite.begin_load()?;
    alongside(|send| read_batches(&mut reader, awaited, send), |taken| write_batches(&mut sqlite, taken))?;
    let (found, head) = (sqlite.read_head()?, reader.head());
    if found != head {
        return Err(StateError::Corrupted(format!(
            "the new store ends at {}, not at {}",
            found.seq, head.seq
        )));
    }
    sqlite.end_load()
}

fn read_batches<R: Read>(
    reader: &mut LogReader<R>,
    awaited: &Awaited,
    send: &mut dyn FnMut(Vec<Change>) -> Option<Vec<Change>>,
) -> Result<()> {
    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH_CHANGES), 0);
    while let Some(recorded) = reader.next()? {
        let LoggedChange::Change(change) = recorded else { return Err(withheld(reader.head().seq)) };
        bytes += change.size();
        batch.push(change);
        if batch.len() == BATCH_CHANGES || bytes >= BATCH_BYTES {
            bytes = 0;
            if awaited.is_in_vain() {
                return Err(StateError::Closed); // Nobody learns of it.
            }
            match send(batch) {
                Some(empty) => batch = empty,
                None => return Ok(()), // The other thread has failed, and returns the error.
            }
            batch.clear();
        }
    }
    if awaited.is_in_vain() {
        return Err(StateError::Closed);
    }
    send(batch);
    Ok(())
}

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
            // IMPORTANT: a storage transaction ends with a whole commit, however large.
            if written >= BATCHES && batch.last().is_some_and(Change::closes_commit) {
                break;
            }
        }
        transaction.commit().map_err(|error| match error {
            CommitError::NotRecorded(error) | CommitError::Unknown(error) => error,
        })?;
        sqlite.checkpoint(Checkpoint::Passive)?;
    }
    Ok(())
}

/// Appends changes, which may begin and end within a commit, and projects the last change of each key, in the
/// order of keys, so that neighbouring rows are written together.
fn write_batch(transaction: &mut impl Transaction, batch: &[Change]) -> Result<()> {
    let forgotten = transaction.floor()?.forgotten.map_or(0, |forgotten| forgotten.version);
    let mut by_key: Vec<&Change> = batch.iter().collect();
    by_key.sort_by(|a, b| a.key.cmp(&b.key));
    let mut last = Vec::with_capacity(by_key.len());
    for changes in by_key.chunk_by(|one, next| one.key == next.key) {
        let before = changes.first().map_or(Ok(None), |first| transaction.key_version(&first.key))?;
        let mut now = before;
        for change in changes {
            check_follows(change, now, Earlier::Nothing { forgotten })?;
            now = Some(KeyVersion::from_change(change));
        }
        last.extend(changes.last().map(|change| (*change, before)));
    }
    batch.chunk_by(|one, next| one.commit_seq == next.commit_seq).try_for_each(|c| transaction.append(c))?;
    last.into_iter().try_for_each(|(change, before)| transaction.project(change, before))
}
