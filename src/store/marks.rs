//! Making, reading and removing marks: batches of the store, for a program.

use super::history::{Mark, Point};
use super::read::Scan;
use super::state_store::StateStore;
use crate::error::{Result, StateError};
use crate::key::MARKS_PREFIX;
use crate::state::Batch;

/// Names a point. A name that is taken by another point is refused, or `moves` there.
pub(super) async fn mark<S>(store: &S, name: &str, point: Point, moves: bool) -> Result<Mark>
where
    S: StateStore + ?Sized,
{
    let key = Mark::key_of(name)?;
    let head = store.at(point).await?.head();
    loop {
        let entry = store.get(&key).await?;
        let version = entry.as_ref().map_or(0, |entry| entry.version);
        let known = entry.map(|entry| Mark::decode(&key, &entry.value)).transpose()?;
        let batch = Batch::new().expect(&key, version).may_write(MARKS_PREFIX);
        let (mark, batch) = match known {
            // Nothing is written, but only a store that can be written says yes.
            Some(known) if known.head == head => (known, batch),
            Some(_) if !moves => return Err(StateError::AlreadyExists(key)),
            known => {
                let mark = known.map_or_else(|| Mark::new(name, head), |known| known.moved_to(head));
                let batch = batch.set(&key, mark.encode());
                (mark, batch)
            }
        };
        match store.commit(batch).await {
            // Somebody else wrote the mark meanwhile.
            Err(StateError::Rejected(_)) => {}
            receipt => return receipt.map(|_| mark),
        }
    }
}

/// The mark with a name.
pub(super) async fn marked<S: StateStore + ?Sized>(store: &S, name: &str) -> Result<Option<Mark>> {
    let key = Mark::key_of(name)?;
    store.get(&key).await?.map(|entry| Mark::decode(&key, &entry.value)).transpose()
}

/// All marks, in the order of their names.
pub(super) async fn marks<S: StateStore + ?Sized>(store: &S) -> Result<Vec<Mark>> {
    let (mut marks, mut next) = (Vec::new(), Some(Scan::prefix(MARKS_PREFIX)));
    while let Some(scan) = next {
        let page = store.scan(scan).await?;
        for entry in page.entries {
            marks.push(Mark::decode(&entry.key, &entry.value)?);
        }
        next = page.next;
    }
    Ok(marks)
}

/// Removes a mark; returns whether there was one.
pub(super) async fn unmark<S: StateStore + ?Sized>(store: &S, name: &str) -> Result<bool> {
    let batch = Batch::new().delete(Mark::key_of(name)?).may_write(MARKS_PREFIX);
    store.commit(batch).await.map(|receipt| !receipt.is_empty())
}
