//! The head file: a head that the log is known to have reached, and which database lies under which log.
//!
//! The hash chain cannot show that the end of the log is missing, for example because the write-ahead log
//! was removed. So a small file beside the database names a head that the log must contain. It is written
//! after each group of commits. It is not synced then: after a crash it may name an older head, which is
//! still true.
//!
//! Neither can SQLite tell whether a database file is the one that its write-ahead log was written over. So the
//! head file names both as a [`Pair`], see `doubt.rs`. A pair stays true for ever, so it is not synced, either.
//!
//! IMPORTANT: the head file never names a head before the log is durable up to it, and, unless a loss is
//! accepted, never goes back.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::patience::{Clock, Patience};
use super::slot::{Pair, SLOT_BYTES, Slot};
use super::{beside, path};
use crate::log::{Head, StoreId};

/// The offsets of the two slots. They lie in different sectors, so that a torn write damages at most one.
const SLOTS: [usize; 2] = [0, 512];
const FILE_BYTES: usize = 512 + SLOT_BYTES;

/// The storage of a head file; a trait, so that tests can make it fail.
pub(crate) trait HeadStorage: Send + std::fmt::Debug {
    /// The first bytes of the file, at most `limit`.
    fn read(&mut self, limit: usize) -> io::Result<Vec<u8>>;
    /// Writes bytes at an offset.
    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()>;
    /// Syncs what was written.
    fn sync(&mut self) -> io::Result<()>;
    /// Locks the file against other writers; false if another one keeps it locked.
    fn lock(&mut self) -> io::Result<bool>;
    /// Unlocks the file.
    fn unlock(&mut self) -> io::Result<()>;
}

/// The head file of a store.
#[derive(Debug)]
pub(crate) struct HeadFile {
    file: Box<dyn HeadStorage>,
    store: StoreId,
}

/// The key whose value is the newest loss that was accepted.
pub(crate) const ACCEPTED_LOSS: &str = "/.univrs/accepted-loss";

/// A loss: changes that were recorded are missing from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loss {
    /// The head that the log had reached.
    pub(crate) reached: Head,
    /// The head where the log ends now.
    pub(crate) ends: Head,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (reached, ends) = (self.reached.seq, self.ends.seq);
        if ends < reached {
            let missing = reached.as_u64() - ends.as_u64();
            let changes = if missing == 1 { "change is" } else { "changes are" };
            write!(f, "the log ends at {ends}, but had reached {reached}: {missing} {changes} missing")
        } else {
            write!(f, "the log has another hash at {reached} than it had when it reached that position")
        }
    }
}

/// What a head file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordedHead {
    /// No head of this store: the store is new, or was copied without its head file.
    Nothing,
    /// The log of this store reached this head.
    Reached(Head),
    /// The file is not empty, but neither slot can be read.
    Unreadable,
}

impl HeadFile {
    pub(crate) fn new(file: Box<dyn HeadStorage>, store: StoreId) -> Self {
        Self { file, store }
    }

    /// The newest head that a file names, and the store that it is of.
    pub(super) fn newest(mut file: Box<dyn HeadStorage>) -> io::Result<Option<(StoreId, Head)>> {
        let slots = slots(&file.read(FILE_BYTES)?);
        Ok(slots.into_iter().flatten().max_by_key(Slot::age).map(|slot| (slot.store, slot.head)))
    }

    /// Reads the head that the file names now.
    pub(crate) fn recorded(&mut self) -> io::Result<RecordedHead> {
        let bytes = self.file.read(FILE_BYTES)?;
        let slots = slots(&bytes);
        Ok(match self.own(slots).into_iter().flatten().max_by_key(Slot::age) {
            Some(slot) => RecordedHead::Reached(slot.head),
            None if slots.iter().any(Option::is_some) || bytes.iter().all(|byte| *byte == 0) => {
                RecordedHead::Nothing
            }
            None => RecordedHead::Unreadable,
        })
    }

    /// The pairs that the file names. All of them are true.
    pub(super) fn pairs(&mut self) -> io::Result<impl Iterator<Item = Pair> + use<>> {
        let slots = slots(&self.file.read(FILE_BYTES)?);
        Ok(self.own(slots).into_iter().flatten().filter_map(|slot| slot.pair))
    }

    /// Records a head; does nothing if a later head is already recorded.
    ///
    /// IMPORTANT: the log must be durable up to this head.
    #[cfg(test)]
    pub(crate) fn advance(&mut self, head: Head) -> io::Result<()> {
        self.record(Some(head), |known| known)
    }

    /// Records a head, unless a later one is already recorded, and the pair that `pair` makes of the newest one.
    /// It is asked under the lock.
    ///
    /// IMPORTANT: the log must be durable up to this head.
    pub(super) fn record(
        &mut self,
        head: Option<Head>,
        pair: impl FnOnce(Option<Pair>) -> Option<Pair>,
    ) -> io::Result<()> {
        self.locked(|head_file| {
            let slots = slots(&head_file.file.read(FILE_BYTES)?);
            let own = head_file.own(slots);
            let newest = own.iter().flatten().max_by_key(|slot| slot.age());
            let known = newest.map(|slot| slot.head);
            let later = head.filter(|head| known.is_none_or(|known| known.seq < head.seq));
            let Some(head) = later.or(known) else { return Ok(()) };
            let before = newest.and_then(|slot| slot.pair);
            let pair = pair(before);
            if Some(head) == known && pair == before {
                return Ok(());
            }
            let count = newest.map_or(0, |slot| slot.count).wrapping_add(1);
            let slot = Slot { store: head_file.store, head, count, pair };
            // IMPORTANT: the older slot is rewritten, so that the newer one survives a torn write.
            let [older, _] = by_age(own);
            head_file.file.write(older, &slot.encode())
        })
    }

    /// Sets the file back to this head, after a loss was accepted. Nothing else sets it back.
    ///
    /// IMPORTANT: the slot with the newest head is rewritten last. So after a crash at any moment the file names
    /// the head of the accepted loss, which is recognized, or this one.
    pub(crate) fn reset(&mut self, head: Head) -> io::Result<()> {
        self.locked(|head_file| {
            let slots = slots(&head_file.file.read(FILE_BYTES)?);
            let newest = head_file.own(slots).into_iter().flatten().max_by_key(Slot::age);
            let (count, pair) = newest.map_or((0, None), |slot| (slot.count, slot.pair));
            let slot = Slot { store: head_file.store, head, count: count.wrapping_add(1), pair }.encode();
            let [older, newer] = by_age(slots);
            head_file.file.write(older, &slot)?;
            head_file.file.sync()?;
            head_file.file.write(newer, &slot)
        })
    }

    /// The slots of this store.
    fn own(&self, slots: [Option<Slot>; 2]) -> [Option<Slot>; 2] {
        slots.map(|slot| slot.filter(|slot| slot.store == self.store))
    }

    fn locked(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if !self.file.lock()? {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "another process holds the lock of the head file",
            ));
        }
        let written = write(self);
        written.and(self.file.unlock())
    }
}

/// The two slots of a file.
fn slots(file: &[u8]) -> [Option<Slot>; 2] {
    SLOTS.map(|offset| file.get(offset..).and_then(Slot::decode))
}

/// The offsets of the older slot and of the newer one. A slot that cannot be read is older than any other.
fn by_age(slots: [Option<Slot>; 2]) -> [usize; 2] {
    let [first, second] = slots.map(|slot| slot.map(|slot| slot.age()));
    let [one, other] = SLOTS;
    if first <= second { [one, other] } else { [other, one] }
}

/// A head file on disk.
#[derive(Debug)]
pub(crate) struct HeadOnDisk(File);

impl HeadOnDisk {
    /// Opens the file. If it is missing, makes it if `write` is set; otherwise returns `None`.
    ///
    /// It gets the owner, the group and the permissions of the database, so that whoever may write the database
    /// may write this file, whoever made it.
    pub(crate) fn open(path: &Path, database: &Path, write: bool) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.read(true).write(write).create(write);
        match beside::open(path, &mut options, write) {
            Ok(file) => {
                if write {
                    path::take_after(&file, database)?;
                }
                Ok(Some(Self(file)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl HeadStorage for HeadOnDisk {
    fn read(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        use std::io::{Read, Seek};
        self.0.rewind()?;
        let mut bytes = Vec::with_capacity(limit);
        Read::by_ref(&mut self.0).take(limit as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        use std::io::{Seek, SeekFrom, Write};
        self.0.seek(SeekFrom::Start(offset as u64))?;
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn lock(&mut self) -> io::Result<bool> {
        // A process holds the lock for microseconds. One that was stopped meanwhile must not block others.
        let patience = Patience::new(Duration::from_millis(50), Duration::from_millis(1));
        lock_in_time(patience, || self.0.try_lock())
    }

    fn unlock(&mut self) -> io::Result<()> {
        self.0.unlock()
    }
}

/// Tries to lock until the time is over; false if another process keeps the lock.
///
/// The last try begins after the time is over. A thread that was off the processor meanwhile tries again, so
/// it does not take a lock that was held for a moment for one that is kept.
fn lock_in_time(
    mut patience: Patience<impl Clock>,
    mut try_lock: impl FnMut() -> Result<(), TryLockError>,
) -> io::Result<bool> {
    loop {
        let is_last = patience.left().is_zero();
        match try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if is_last => return Ok(false),
            Err(TryLockError::WouldBlock) => drop(patience.pause()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::patience::tests::Told;
    use super::super::slot::{LogMark, Stamp};
    use super::*;
    use crate::log::Hash;
    use crate::seq::Seq;

    /// Locks with 50 ms, when each try finds the lock held and takes this long.
    fn tries(takes: Duration, ends_after: u32) -> (bool, u32) {
        let (clock, mut tries) = (Told::default(), 0);
        let patience = Patience::by(clock.clone(), Duration::from_millis(50), Duration::from_millis(1));
        let locked = lock_in_time(patience, || {
            tries += 1;
            clock.pass(takes);
            if tries > ends_after { Ok(()) } else { Err(TryLockError::WouldBlock) }
        });
        (locked.unwrap(), tries)
    }

    #[test]
    fn a_thread_that_was_off_the_processor_tries_the_lock_again() {
        let stopped = Duration::from_secs(1);
        assert_eq!(tries(stopped, 1), (true, 2), "the lock was held for a moment");
        assert_eq!(tries(stopped, u32::MAX), (false, 2), "another one keeps it");
        assert_eq!(tries(Duration::ZERO, u32::MAX), (false, 51), "the last one is at the end of the time");
    }

    const STORE: StoreId = StoreId::from_bytes([5; 16]);

    fn head(seq: u64) -> Head {
        Head { seq: Seq::new(seq), hash: Hash::from_bytes([u8::try_from(seq).unwrap(); 32]) }
    }

    fn head_file(path: &Path, store: StoreId) -> HeadFile {
        HeadFile::new(Box::new(HeadOnDisk::open(path, path, true).unwrap().unwrap()), store)
    }

    #[test]
    fn a_head_file_names_the_newest_head_and_never_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        let mut one = head_file(&path, STORE);
        assert_eq!(one.recorded().unwrap(), RecordedHead::Nothing);
        let mut other = head_file(&path, STORE);
        for seq in [1, 2, 5, 3, 4] {
            let writer = if seq % 2 == 0 { &mut one } else { &mut other };
            writer.advance(head(seq)).unwrap();
            assert_eq!(one.recorded().unwrap(), RecordedHead::Reached(head(if seq < 3 { seq } else { 5 })));
        }
        one.reset(head(2)).unwrap();
        assert_eq!(other.recorded().unwrap(), RecordedHead::Reached(head(2)));
    }

    #[test]
    fn a_torn_slot_leaves_the_other_and_two_are_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        let mut head_file = head_file(&path, STORE);
        head_file.advance(head(1)).unwrap();
        head_file.advance(head(2)).unwrap();
        let intact = std::fs::read(&path).unwrap();
        for at in 0..intact.len() {
            let mut bytes = intact.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let RecordedHead::Reached(found) = head_file.recorded().unwrap() else { panic!("byte {at}") };
            assert!(found == head(1) || found == head(2), "byte {at}");
        }
        let mut bytes = intact.clone();
        bytes[3] ^= 1;
        bytes[515] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(head_file.recorded().unwrap(), RecordedHead::Unreadable);
        head_file.advance(head(3)).unwrap();
        assert_eq!(head_file.recorded().unwrap(), RecordedHead::Reached(head(3)), "it heals");
    }

    #[test]
    fn a_pair_is_recorded_with_the_newest_head_and_a_torn_slot_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        let pair = |nanos| Pair {
            database: Stamp { bytes: 512, seconds: 1, nanos },
            log: LogMark { salts: [1, 2], frames: 3 },
        };
        let pairs = |head_file: &mut HeadFile| {
            let mut nanos: Vec<u32> = head_file.pairs().unwrap().map(|pair| pair.database.nanos).collect();
            nanos.sort_unstable();
            nanos
        };
        let mut one = head_file(&path, STORE);
        one.record(None, |_| Some(pair(1))).unwrap();
        assert!(pairs(&mut one).is_empty(), "there is no head that it could stand beside");
        one.record(Some(head(4)), |known| known.or(Some(pair(2)))).unwrap();
        let mut other = head_file(&path, STORE);
        for nanos in 3..9 {
            // Of an older head, or of none, the pair is recorded nevertheless.
            other.record((nanos % 2 == 0).then(|| head(1)), |_| Some(pair(nanos))).unwrap();
            assert_eq!(pairs(&mut one), [nanos - 1, nanos]);
            assert_eq!(one.recorded().unwrap(), RecordedHead::Reached(head(4)));
        }
        one.record(Some(head(5)), |known| known).unwrap();
        assert_eq!(pairs(&mut one), [8, 8], "a commit keeps it");
        let whole = std::fs::read(&path).unwrap();
        one.record(Some(head(5)), |known| known).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole, "what is known is not written");
        one.reset(head(2)).unwrap();
        assert_eq!(pairs(&mut other), [8, 8]);
    }

    #[test]
    fn the_head_file_of_another_store_says_nothing_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        head_file(&path, StoreId::from_bytes([6; 16])).advance(head(9)).unwrap();
        let mut own = head_file(&path, STORE);
        assert_eq!(own.recorded().unwrap(), RecordedHead::Nothing);
        own.advance(head(1)).unwrap();
        assert_eq!(own.recorded().unwrap(), RecordedHead::Reached(head(1)));
    }
}
