//! What is known of all consumers, and changing that from outside.

use std::time::Duration;

use super::claim::{key_of, recorded, written};
use crate::error::{Result, StateError};
use crate::key::CONSUMERS_PREFIX;
use crate::log::{Cursor, Meta, Timestamp};
use crate::seq::Seq;
use crate::state::{Batch, Hold};
use crate::store::history::{Point, point};
use crate::store::open_store::OpenStore;
use crate::store::read::Scan;

/// A consumer, as it is recorded. Listed by [`LocalStore::consumers`](crate::LocalStore::consumers).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerInfo {
    /// The name.
    pub name: String,
    /// The keys that it reads.
    pub pattern: String,
    /// Up to here it is recorded to be done with the log.
    pub cursor: Cursor,
    /// How often it was opened or reset since it was made.
    pub generation: u64,
    /// For how long its position holds retention back after it was recorded.
    pub hold: Duration,
    /// How many changes the log has after the position, whether they match or not.
    pub lag: u64,
    /// When the position was recorded.
    pub recorded: Timestamp,
    /// Whether the position still holds retention back, by the clock of the store.
    pub holds: bool,
}

impl ConsumerInfo {
    fn new(hold: Hold, head: Seq, now: Timestamp) -> Self {
        let (holds, record) = (hold.lasts(now), hold.record);
        Self {
            name: hold.name,
            pattern: record.pattern,
            lag: head.as_u64().saturating_sub(record.cursor.seq().as_u64()),
            cursor: record.cursor,
            generation: record.generation,
            hold: record.hold,
            recorded: hold.recorded,
            holds,
        }
    }
}

/// All consumers, in the order of their names.
pub(crate) async fn list(store: &OpenStore) -> Result<Vec<ConsumerInfo>> {
    let now = store.engine.clock().shown()?;
    let (mut consumers, mut next) = (Vec::new(), Some(Scan::prefix(CONSUMERS_PREFIX)));
    while let Some(scan) = next {
        let page = store.page(scan).await?;
        for entry in &page.entries {
            consumers.push(ConsumerInfo::new(Hold::of(entry)?, page.cursor.seq(), now));
        }
        next = page.next;
    }
    Ok(consumers)
}

/// Moves a consumer to a point. Whoever has it open is fenced.
pub(crate) async fn reset(store: &OpenStore, meta: &Meta, name: &str, to: Point) -> Result<Cursor> {
    let key = key_of(name)?;
    let (head, _) = store.read_snapshot(move |snapshot| point::find(snapshot, to)).await?;
    let cursor = Cursor::new(store.shared.store, head);
    loop {
        let (known, version) = recorded(store, &key).await?;
        let Some(known) = known else {
            return Err(StateError::InvalidArgument(format!("there is no consumer {name:?} to reset")));
        };
        let record = known.moved_to(cursor).taken_over();
        match store.order(written(Batch::new(), &key, version, &record).stamped(meta)).await {
            // It moved on meanwhile.
            Err(StateError::Rejected(_)) => {}
            receipt => return receipt.map(|_| cursor),
        }
    }
}

/// Removes a consumer; returns whether there was one. Whoever has it open is fenced.
pub(crate) async fn remove(store: &OpenStore, meta: &Meta, name: &str) -> Result<bool> {
    let batch = Batch::new().delete(key_of(name)?).may_write(CONSUMERS_PREFIX);
    store.order(batch.stamped(meta)).await.map(|receipt| !receipt.is_empty())
}
