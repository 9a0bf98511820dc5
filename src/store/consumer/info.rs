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
    pub(crate) fn new(hold: Hold, head: Seq, now: Timestamp) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Hash, Head};
    use crate::state::ConsumerRecord;
    use crate::store::consumer::ConsumerRequest;
    use crate::store::memory_store::MemoryStore;
    use crate::store::state_store::StateStore;

    const KEY: &str = "/.univrs/consumers/c";

    async fn recorded(value: Vec<u8>) -> MemoryStore {
        let store = MemoryStore::new();
        store.set("/a", b"1".to_vec()).await.unwrap();
        let batch = Batch::new().set(KEY, value).may_write(CONSUMERS_PREFIX);
        store.open().order(batch).await.unwrap();
        store
    }

    fn request(store: &MemoryStore) -> ConsumerRequest {
        ConsumerRequest::new(store.open().clone(), Meta::new().into(), "c").pattern("/a")
    }

    #[tokio::test]
    async fn a_record_of_a_newer_version_is_left_as_it_is_and_can_be_removed() {
        let store = recorded(br#"{"v":2}"#.to_vec()).await;
        let head = store.head().await.unwrap();
        for refused in [
            request(&store).open().await.map(drop),
            list(store.open()).await.map(drop),
            reset(store.open(), &Meta::new(), "c", Point::Head).await.map(drop),
        ] {
            assert!(
                matches!(&refused, Err(StateError::UpgradeNeeded(why)) if why.contains(KEY)),
                "{refused:?}"
            );
        }
        assert_eq!(store.head().await.unwrap(), head);
        assert!(remove(store.open(), &Meta::new(), "c").await.unwrap());
        assert!(request(&store).open().await.is_ok());
    }

    // As after an older copy of the store was put back and went on.
    #[tokio::test]
    async fn a_position_that_the_log_does_not_have_is_left_as_it_is_until_the_consumer_is_reset() {
        for (seq, own, says) in
            [(1, true, "another hash"), (9, true, "beyond the end"), (1, false, "of store")]
        {
            let store = recorded(Vec::new()).await;
            let id = if own { store.open().shared.store } else { MemoryStore::new().open().shared.store };
            let cursor = Cursor::new(id, Head { seq: Seq::new(seq), hash: Hash::from_bytes([1; 32]) });
            let record = ConsumerRecord::new("/a", cursor, Duration::from_secs(60));
            let batch = Batch::new().set(KEY, record.encode()).may_write(CONSUMERS_PREFIX);
            store.open().order(batch).await.unwrap();
            let error = request(&store).open().await.unwrap_err();
            assert!(matches!(&error, StateError::CursorDiverged(why) if why.contains(says)), "{error}");
            assert_eq!(store.get(KEY).await.unwrap().unwrap().value, record.encode());
            assert_eq!(list(store.open()).await.unwrap()[0].cursor, cursor);
            reset(store.open(), &Meta::new(), "c", Seq::ZERO.into()).await.unwrap();
            assert_eq!(
                request(&store).open().await.unwrap().next().await.unwrap().unwrap().cursor.seq(),
                Seq::new(1)
            );
        }
    }
}
