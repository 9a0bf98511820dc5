//! Key histories: the way back through the changes of a key.
//!
//! IMPORTANT: the steps follow columns that no hash covers. So the last two changes of a way are read in full
//! and checked against the hash chain: the oldest change after the position, whose `prev` is hashed, and the
//! change that it names. Then the answer is right or an error, even if a step before was wrong.

use super::log::recorded;
use crate::backend::{Link, LogView, Snapshot, missing};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::limits::Limits;
use crate::log::Change;
use crate::seq::Seq;
use crate::state::Floor;

/// The newest change of a key at or before a position.
pub(crate) fn last_at(snapshot: &dyn Snapshot, key: &str, at: Seq) -> Result<Option<Change>> {
    match snapshot.key_version(key)? {
        Some(key_version) => back_to(snapshot, key, key_version.seq, at),
        None => Ok(None),
    }
}

/// The newest change of a key at or before a position; the key's last change is at `newest`.
pub(crate) fn back_to(log: &dyn LogView, key: &str, newest: Seq, at: Seq) -> Result<Option<Change>> {
    if newest <= at {
        return of_key(log, key, newest).map(Some);
    }
    let mut link = step(log, newest)?;
    while link.prev > at {
        link = match jump(log, &link, at)? {
            Some(further) => further,
            None => step_back(log, &link)?,
        };
    }
    let after = of_key(log, key, link.seq)?;
    if failpoint("past_off_by_one") {
        return Ok(Some(after));
    }
    previous(log, &after)
}

fn of_key(log: &dyn LogView, key: &str, seq: Seq) -> Result<Change> {
    let change = recorded(log, seq)?;
    if change.key.as_ref() == key {
        Ok(change)
    } else {
        Err(StateError::Corrupted(format!("change {seq} is not one of {key}")))
    }
}

fn step(log: &dyn LogView, seq: Seq) -> Result<Link> {
    log.link(seq)?.ok_or_else(|| missing(seq))
}

/// The change that a link jumps to, if that shortens the way and the change has the expected version.
fn jump(log: &dyn LogView, from: &Link, at: Seq) -> Result<Option<Link>> {
    if from.jump <= at || from.jump >= from.prev {
        return Ok(None);
    }
    let link = log.link(from.jump)?;
    Ok(link.filter(|link| link.key == from.key && link.version < from.version && link.prev < link.seq))
}

/// The link of the change before.
fn step_back(log: &dyn LogView, from: &Link) -> Result<Link> {
    let link = step(log, from.prev)?;
    let follows = link.key == from.key && Some(link.version) == from.version.checked_sub(1);
    if follows && link.seq < from.seq {
        Ok(link)
    } else {
        let Link { seq, prev, .. } = from;
        Err(StateError::Corrupted(format!("change {seq} does not follow change {prev} of its key")))
    }
}

/// The changes of a key before a position, newest first, as far as the log goes back.
///
/// # Errors
/// [`StateError::Compacted`] if the change before the position was dropped from the log.
pub(crate) fn history(
    snapshot: &dyn Snapshot,
    key: &str,
    before: Option<Seq>,
    limit: usize,
) -> Result<Vec<Change>> {
    let mut history = Vec::new();
    if limit == 0 {
        return Ok(history);
    }
    let floor = snapshot.floor()?;
    let (mut next, mut bytes) = (newest(snapshot, &floor, key, before.map_or(Seq::MAX, Seq::previous))?, 0);
    while let Some(change) = next {
        bytes += change.size();
        let full = history.len() + 1 == limit || bytes >= Limits::PAGE_BYTES;
        next = if full { None } else { left_before(snapshot, &floor, &change)? };
        history.push(change);
    }
    Ok(history)
}

/// The newest change of a key at or before a position, which may lie below the floor.
fn newest(snapshot: &dyn Snapshot, floor: &Floor, key: &str, at: Seq) -> Result<Option<Change>> {
    let mut newest = last_at(snapshot, key, at.max(floor.seq()))?;
    while let Some(change) = newest.take_if(|change| change.seq > at) {
        newest = match further(snapshot, floor, &change, at)? {
            Some(further) => Some(further),
            None => earlier(snapshot, floor, &change)?,
        };
    }
    Ok(newest)
}

/// The change that a change at or below the floor jumps to, if that lies after the position and is left. All between them
/// are left then, because the changes of a key go from the oldest one on.
fn further(snapshot: &dyn Snapshot, floor: &Floor, change: &Change, at: Seq) -> Result<Option<Change>> {
    if floor.drops_before(change) {
        return Ok(None);
    }
    match jump(snapshot, &step(snapshot, change.seq)?, at)? {
        Some(link) => of_key(snapshot, &change.key, link.seq).map(Some),
        None => Ok(None),
    }
}

/// The change of the same key before `change`; `None` if it is the first, or the first that is left.
fn left_before(snapshot: &dyn Snapshot, floor: &Floor, change: &Change) -> Result<Option<Change>> {
    match earlier(snapshot, floor, change) {
        Err(StateError::Compacted { .. }) => Ok(None),
        earlier => earlier,
    }
}

/// The change of the same key before `change`, which may be at or below the floor; `None` if it is the first.
fn earlier(snapshot: &dyn Snapshot, floor: &Floor, change: &Change) -> Result<Option<Change>> {
    if change.prev > Seq::ZERO && floor.drops_before(change) {
        return Err(floor.compacted(change.prev));
    }
    previous(snapshot, change)
}

/// The change of the same key before `change`; `None` if it is the first.
pub(crate) fn previous(log: &dyn LogView, change: &Change) -> Result<Option<Change>> {
    if change.prev == Seq::ZERO {
        return Ok(None);
    }
    let previous = match recorded(log, change.prev) {
        // No compaction drops what a change after the floor goes on from.
        Err(StateError::Compacted { oldest, .. }) if change.seq > oldest && log.is_whole() => {
            return Err(missing(change.prev));
        }
        previous => previous?,
    };
    if previous.key != change.key || Some(previous.version) != change.version.checked_sub(1) {
        let Change { seq, prev, .. } = change;
        return Err(StateError::Corrupted(format!("change {seq} does not follow change {prev} of its key")));
    }
    Ok(Some(previous))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::backend::{Linked, Memory, Row, Valued, View, Visit, VisitKey, VisitRow, VisitView};
    use crate::key::KeyRange;
    use crate::log::{ChangeKind, Hash, Head, StoreId, Timestamp, Tip, jump_version};
    use crate::state::{Entry, KeyVersion, Life};

    /// The log of one key with a million versions, at every third place, that counts the rows which
    /// a database would read.
    #[derive(Default)]
    struct Million {
        rows: Cell<u64>,
        longest: Cell<u64>,
        floor: Cell<Seq>,
    }

    const VERSIONS: u64 = 1_000_000;

    fn at(version: u64) -> Seq {
        Seq::new(3 * version)
    }

    impl Million {
        fn read(&self, rows: u64) {
            self.rows.set(self.rows.get() + rows);
        }

        fn rows_of(&self, read: impl FnOnce(&Self)) -> u64 {
            self.rows.set(0);
            read(self);
            self.longest.set(self.longest.get().max(self.rows.get()));
            self.rows.get()
        }
    }

    impl View for Million {
        fn store_id(&self) -> StoreId {
            StoreId::from_bytes([0; 16])
        }
        fn key_version(&self, _: &str) -> Result<Option<KeyVersion>> {
            self.read(1);
            let life = Life::Live { created_at: Timestamp::EPOCH };
            Ok(Some(KeyVersion { version: VERSIONS, seq: at(VERSIONS), life }))
        }
        fn entry(&self, _: &str) -> Result<Option<Entry>> {
            Err(StateError::Closed)
        }
        fn rows(&self, _: &KeyRange, _: Option<&str>, _: bool, _: &mut Visit<'_, Row>) -> Result<()> {
            Err(StateError::Closed)
        }
        fn head(&self) -> Result<Head> {
            Err(StateError::Closed)
        }
        fn keys(&self, _: &KeyRange, _: &mut VisitKey<'_>) -> Result<()> {
            Err(StateError::Closed)
        }
    }

    impl LogView for Million {
        fn link(&self, seq: Seq) -> Result<Option<Link>> {
            self.read(1);
            let version = seq.as_u64() / 3;
            Ok(Some(Link {
                seq,
                at: Timestamp::EPOCH,
                key: "/a".into(),
                version,
                prev: at(version - 1),
                jump: at(jump_version(version)),
            }))
        }
        fn change(&self, seq: Seq) -> Result<Option<Change>> {
            self.read(2); // With the hash before it.
            let version = seq.as_u64() / 3;
            Ok(Some(Change {
                kind: if version == 1 { ChangeKind::Created } else { ChangeKind::Updated },
                version,
                prev: at(version - 1),
                value: None,
                ..Change::plain(seq.as_u64())
            }))
        }
        fn tip(&self) -> Result<Tip> {
            Err(StateError::Closed)
        }
        fn changes(&self, _: Seq, _: &mut Visit<'_, Change>) -> Result<()> {
            Err(StateError::Closed)
        }
        fn changes_below(&self, _: &str, _: Seq, _: Seq, _: &mut Visit<'_, Change>) -> Result<()> {
            Err(StateError::Closed)
        }
        fn views(&self, _: Seq, _: &mut VisitView<'_>) -> Result<()> {
            Err(StateError::Closed)
        }
        fn commit_end(&self, _: Seq) -> Result<Head> {
            Err(StateError::Closed)
        }
        fn floor(&self) -> Result<Floor> {
            Ok(Floor::at(Head { seq: self.floor.get(), ..Head::genesis(self.store_id()) }, None))
        }
        fn linked(&self, _: Seq, _: Seq, _: &mut Visit<'_, Linked>) -> Result<()> {
            Err(StateError::Closed)
        }
        fn replaced(&self, _: Seq, _: Seq, _: &mut Visit<'_, (Seq, Seq)>) -> Result<()> {
            Err(StateError::Closed)
        }
        fn valued(&self, _: Seq, _: Seq, _: &mut Visit<'_, Valued>) -> Result<()> {
            Err(StateError::Closed)
        }
        fn hash_at(&self, _: Seq) -> Result<Option<Hash>> {
            Err(StateError::Closed)
        }
    }

    impl Snapshot for Million {
        fn every_row(&self, _: &mut VisitRow<'_>) -> Result<()> {
            Err(StateError::Closed)
        }
        fn tombstones(&self, _: &KeyRange, _: &mut Visit<'_, Row>) -> Result<()> {
            Err(StateError::Closed)
        }
        fn remembered(&self, _: &str) -> Result<Option<(Seq, Seq)>> {
            Err(StateError::Closed)
        }
        fn commit_ids(&self, _: &mut Visit<'_, (String, Seq, Seq)>) -> Result<()> {
            Err(StateError::Closed)
        }
    }

    /// A log of what sets keys, which is not checked: key, version, predecessor and bytes of each value.
    fn log(changes: &[(&str, u64, u64, usize)]) -> Memory {
        let mut log = Memory::new(StoreId::from_bytes([0; 16]));
        for (seq, (key, version, prev, bytes)) in (1..).zip(changes) {
            log.push(Change {
                kind: if *version == 1 { ChangeKind::Created } else { ChangeKind::Updated },
                key: (*key).into(),
                version: *version,
                prev: Seq::new(*prev),
                value: Some(vec![0; *bytes].into()),
                ..Change::plain(seq)
            });
        }
        log
    }

    #[test]
    fn a_change_follows_one_of_the_same_key_and_of_the_version_before() {
        let previous_of_last = |changes: &[(&str, u64, u64, usize)]| {
            let log = log(changes);
            let last = recorded(&log, Seq::new(changes.len() as u64)).unwrap();
            previous(&log, &last).map(|change| change.map(|change| change.seq.as_u64()))
        };
        let (a, b) = (("/a", 1, 0, 1), ("/b", 1, 0, 1));
        assert_eq!(previous_of_last(&[a]), Ok(None));
        assert_eq!(previous_of_last(&[a, b, ("/a", 2, 1, 1)]), Ok(Some(1)));
        let wrong = [("/a", 2, 2, 1), ("/a", 3, 1, 1), ("/a", 1, 1, 1)];
        for last in wrong {
            assert!(matches!(previous_of_last(&[a, b, last]), Err(StateError::Corrupted(_))), "{last:?}");
        }
    }

    #[test]
    fn a_history_ends_when_its_page_is_full() {
        const MIB: usize = 1 << 20;
        let all: Vec<_> = (1..=7).map(|version| ("/a", version, version - 1, MIB)).collect();
        let log = log(&all);
        let seqs = |limit, before| -> Vec<u64> {
            let history = history(&log, "/a", before, limit).unwrap();
            history.iter().map(|change| change.seq.as_u64()).collect()
        };
        assert_eq!(seqs(100, None), [7, 6, 5, 4], "4 MiB");
        assert_eq!(seqs(2, None), [7, 6]);
        assert_eq!(seqs(100, Some(Seq::new(4))), [3, 2, 1]);
        assert!(seqs(0, None).is_empty());
    }

    #[test]
    fn a_key_with_a_million_versions_is_read_as_of_any_point_in_60_rows() {
        let log = Million::default();
        for version in (0..=VERSIONS).step_by(97).chain(0..100) {
            let rows = log.rows_of(|log| {
                let found = last_at(log, "/a", Seq::new(3 * version + version % 3)).unwrap();
                assert_eq!(found.map_or(0, |change| change.version), version);
            });
            assert!(rows <= 60, "{rows} rows for version {version}");
        }
        assert!(log.longest.get() > 20, "the premise: the way was walked");
    }

    // Each page of a history before the floor began with all steps from there.
    #[test]
    fn a_page_of_a_history_that_was_kept_before_the_floor_is_found_in_300_rows() {
        let log = Million::default();
        log.floor.set(at(VERSIONS / 2));
        for version in [1, 100, 77_777, VERSIONS / 2 - 1] {
            let rows = log.rows_of(|log| {
                let page = history(log, "/a", Some(at(version).next()), 1).unwrap();
                assert_eq!(page.first().map(|change| change.version), Some(version));
            });
            assert!(rows <= 300, "{rows} rows for version {version}");
        }
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn jumps_are_recorded_as_their_function_says() {
        use crate::state::Batch;
        use crate::store::StateStore;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let store = crate::SqliteStore::open(&path).await.unwrap();
        for n in 0..60_u8 {
            // Several versions in one commit, in one group, and alone.
            let batch =
                (0..n % 7).fold(Batch::new(), |batch, m| batch.set("/a", vec![n, m]).set("/b", vec![n]));
            let batch = if n % 11 == 0 { batch.delete("/a") } else { batch };
            let (one, other) = tokio::join!(store.commit(batch.clone()), store.commit(batch));
            one.and(other).unwrap();
        }
        let raw = rusqlite::Connection::open(&path).unwrap();
        let mut rows = raw
            .prepare(
                "SELECT c.version, coalesce(j.version, 0), coalesce(j.key = c.key, 1) FROM changes c \
                 LEFT JOIN changes j ON j.seq = c.jump",
            )
            .unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        let rows: Vec<(i64, i64, bool)> = rows.map(Result::unwrap).collect();
        assert!(rows.iter().any(|(version, ..)| *version > 300), "the premise: long histories");
        for (version, jumped, same_key) in rows {
            let version = version.unsigned_abs();
            assert_eq!((jumped.unsigned_abs(), same_key), (jump_version(version), true), "version {version}");
        }
    }
}
