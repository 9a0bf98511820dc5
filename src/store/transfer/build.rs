//! Building a store on disk from an export.

use std::io::Read;
use std::path::Path;

use super::atomic_file::{AtomicFile, EXISTS};
use super::load::{LastOfBase, check_follows, check_needed, check_start};
use crate::audit::{Earlier, LogReader, LoggedChange};
use crate::backend::sqlite::{Checkpoint, Location, Opening, SideFile, Sqlite};
use crate::backend::{Backend, CommitError, Linked, Transaction};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Change, StoreId};
use crate::seq::Seq;
use crate::state::{Floor, KeyVersion};
use crate::store::foreign::Foreign;
use crate::store::read::erasures::erasures;
use crate::store::retain::Named;
use crate::store::threads::{Awaited, Taken, Waiter, alongside, on_a_thread};

/// The most changes, and the bytes, of a batch.
const BATCH_CHANGES: usize = 4_000;
const BATCH_BYTES: usize = 2 << 20;
/// How many batches share a storage transaction.
const BATCHES: usize = 4;
/// How many free pages are given back at once.
const FREE_PAGES: u32 = 4_096;

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
    let store = start.store;
    check_start(&start)?;
    let mut sqlite = Opening { new_store: store, ..opening }.first()?;
    if sqlite.id() != store {
        return Err(StateError::Storage("the new store has another id than was asked for".into()));
    }
    sqlite.begin_load()?;
    let floor = Floor::at(start.floor, start.floor_at);
    alongside(
        |send| read_batches(&mut reader, awaited, send),
        |taken| write_batches(&mut sqlite, &floor, taken),
    )?;
    let (found, head) = (sqlite.read_head()?, reader.head());
    if found != head {
        return Err(StateError::Corrupted(format!(
            "the new store ends at {}, not at {}",
            found.seq, head.seq
        )));
    }
    erase_named(&mut sqlite)?;
    sqlite.end_load()
}

/// Erases what the log names as erased: the export may have been made before all of it was gone.
fn erase_named(sqlite: &mut Sqlite) -> Result<()> {
    let named = sqlite.with_snapshot(|snapshot| erasures(snapshot?))?;
    let (mut named, mut erased) = (Named::new(named.into_named()), false);
    while let Some(slice) = sqlite.with_snapshot(|snapshot| named.next(snapshot?))?
        && !failpoint("erased_imported")
    {
        if !slice.seqs.is_empty() {
            let mut transaction = sqlite.begin()?;
            transaction.erase(&slice.seqs)?;
            transaction.commit().map_err(failure)?;
            sqlite.checkpoint(Checkpoint::Passive)?;
            erased = true;
        }
    }
    let mut left = u64::MAX;
    while erased
        && let now = sqlite.give_back(FREE_PAGES)?
        && now > 0
        && now < left
    {
        left = now;
    }
    Ok(())
}

fn failure(error: CommitError) -> StateError {
    match error {
        CommitError::NotRecorded(error) | CommitError::Unknown(error) => error,
    }
}

/// Changes on the way from the export to the store. Those of the base have the chain before them.
#[derive(Default)]
struct Batch {
    base: Vec<Linked>,
    changes: Vec<Change>,
}

impl Batch {
    fn is_full(&self, bytes: usize) -> bool {
        self.base.len() + self.changes.len() >= BATCH_CHANGES || bytes >= BATCH_BYTES
    }

    fn clear(&mut self) {
        self.base.clear();
        self.changes.clear();
    }
}

fn read_batches<R: Read>(
    reader: &mut LogReader<R>,
    awaited: &Awaited,
    send: &mut dyn FnMut(Batch) -> Option<Batch>,
) -> Result<()> {
    let (mut batch, mut bytes, mut base) = (Batch::default(), 0, LastOfBase::new(&reader.start()));
    while let Some(recorded) = reader.next()? {
        check_needed(&recorded, reader.head().seq)?;
        match recorded {
            LoggedChange::Base { before, change } => {
                bytes += change.size();
                base.take(change.seq);
                batch.base.push(Linked { change, before });
            }
            LoggedChange::Change(change) => {
                bytes += change.size();
                batch.changes.push(change);
            }
            LoggedChange::Withheld(_) | LoggedChange::WithheldBase { .. } => {} // They were refused.
        }
        if batch.is_full(bytes) {
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
    base.check()?;
    if awaited.is_in_vain() {
        return Err(StateError::Closed);
    }
    send(batch);
    Ok(())
}

fn write_batches(sqlite: &mut Sqlite, floor: &Floor, taken: &mut Taken<Batch>) -> Result<()> {
    let (mut more, mut in_base) = (true, floor.seq() > Seq::ZERO);
    while more {
        let mut transaction = sqlite.begin()?;
        for written in 1.. {
            let Some(batch) = taken.next() else {
                more = false;
                break;
            };
            write_base(&mut transaction, floor.seq(), &batch.base)?;
            if in_base && batch.base.last().is_some_and(|last| last.change.seq == floor.seq()) {
                // After its rows, because the record of the compaction is among them.
                transaction.set_floor(floor)?;
                in_base = false;
            }
            write_batch(&mut transaction, &batch.changes)?;
            // IMPORTANT: a storage transaction ends with a whole commit, however large.
            if written >= BATCHES && batch.changes.last().is_none_or(Change::closes_commit) {
                break;
            }
        }
        transaction.commit().map_err(failure)?;
        sqlite.checkpoint(Checkpoint::Passive)?;
    }
    Ok(())
}

/// Appends changes of the base, and projects the last one of each key.
fn write_base(transaction: &mut impl Transaction, floor: Seq, base: &[Linked]) -> Result<()> {
    let earlier = Earlier::at(floor, true, 0);
    let last = last_of_keys(transaction, base.iter().map(|linked| &linked.change), earlier)?;
    transaction.append_base(base)?;
    last.into_iter().try_for_each(|(change, before)| transaction.project(change, before))
}

/// Appends changes, which may begin and end within a commit, and projects the last change of each key, in the
/// order of keys, so that neighbouring rows are written together.
fn write_batch(transaction: &mut impl Transaction, batch: &[Change]) -> Result<()> {
    let floor = transaction.floor()?;
    // A change that moves the floor is the last one that is judged by the one before.
    let mut moved = None;
    for (index, change) in batch.iter().enumerate() {
        if let Some(next) = floor.moved_by(change)? {
            moved = Some((index + 1, next));
            break;
        }
    }
    let (now, later) = batch.split_at(moved.as_ref().map_or(batch.len(), |(end, _)| *end));
    let forgotten = floor.forgotten.as_ref().map_or(0, |forgotten| forgotten.version);
    let last = last_of_keys(transaction, now.iter(), Earlier::Nothing { forgotten })?;
    now.chunk_by(|one, next| one.commit_seq == next.commit_seq).try_for_each(|c| transaction.append(c))?;
    last.into_iter().try_for_each(|(change, before)| transaction.project(change, before))?;
    let Some((_, next)) = moved else { return Ok(()) };
    let is_there =
        if next.head == floor.head { Vec::new() } else { transaction.recorded(next.seq(), next.seq())? };
    if next.head != floor.head
        && is_there.first().is_none_or(|change| change.head() != next.head || !change.closes_commit())
    {
        return Err(StateError::Corrupted(format!(
            "a change begins a compaction to {}, where the log has another hash or no end of a commit",
            next.seq()
        )));
    }
    transaction.set_floor(&next)?;
    write_batch(transaction, later)
}

/// A change, and the key's version before it.
type Last<'a> = (&'a Change, Option<KeyVersion>);

/// The last change of each key, in the order of keys, each with the version before all of them. Each change is checked
/// against the one before it.
fn last_of_keys<'a>(
    transaction: &impl Transaction,
    changes: impl Iterator<Item = &'a Change>,
    earlier: Earlier,
) -> Result<Vec<Last<'a>>> {
    let floor = transaction.floor()?;
    let mut by_key: Vec<&Change> = changes.collect();
    by_key.sort_by(|a, b| a.key.cmp(&b.key));
    let mut last = Vec::with_capacity(by_key.len());
    for changes in by_key.chunk_by(|one, next| one.key == next.key) {
        let Some(first) = changes.first() else { continue };
        let before = transaction.key_version(&first.key)?;
        let mut now = floor.known(&first.key, before);
        for change in changes {
            check_follows(change, now, earlier)?;
            now = Some(KeyVersion::from_change(change));
        }
        last.extend(changes.last().map(|change| (*change, before)));
    }
    Ok(last)
}
