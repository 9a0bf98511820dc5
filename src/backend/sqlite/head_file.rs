//! The head file: a head that the log is known to have reached.
//!
//! The hash chain cannot show that the end of the log is missing, for example because the write-ahead log
//! was removed. So a small file beside the database names a head that the log must contain. It is written
//! after each group of commits. It is not synced then: after a crash it may name an older head, which is
//! still true.
//!
//! IMPORTANT: the head file never names a head before the log is durable up to it, and, unless a loss is
//! accepted, never goes back.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::path;
use super::patience::{Clock, Patience};
use crate::log::{Domain, Hash, Head, StoreId};
use crate::seq::Seq;

/// Store id, seq, hash, and the first 16 bytes of the hash of all that.
const SLOT_BYTES: usize = 16 + 8 + 32 + 16;
/// The offsets of the two slots. They lie in different sectors, so that a torn write damages at most one.
const SLOTS: [usize; 2] = [0, 512];
const FILE_BYTES: usize = 512 + SLOT_BYTES;

static SLOT: Domain = Domain::new("univrs-state 1 witness slot");

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
        let bytes = file.read(FILE_BYTES)?;
        let slots = SLOTS.into_iter().filter_map(|offset| read_slot(&bytes, offset));
        Ok(slots.max_by_key(|(_, head)| head.seq))
    }

    /// Reads the head that the file names now.
    pub(crate) fn recorded(&mut self) -> io::Result<RecordedHead> {
        let bytes = self.file.read(FILE_BYTES)?;
        let slots = SLOTS.map(|offset| read_slot(&bytes, offset));
        let newest = slots.iter().flatten().filter(|(store, _)| *store == self.store).map(|(_, head)| *head);
        Ok(match newest.max_by_key(|head| head.seq) {
            Some(head) => RecordedHead::Reached(head),
            None if slots.iter().any(Option::is_some) || bytes.iter().all(|byte| *byte == 0) => {
                RecordedHead::Nothing
            }
            None => RecordedHead::Unreadable,
        })
    }

    /// Records a head; does nothing if a later head is already recorded.
    ///
    /// IMPORTANT: the log must be durable up to this head.
    pub(crate) fn advance(&mut self, head: Head) -> io::Result<()> {
        self.locked(|head_file| {
            let bytes = head_file.file.read(FILE_BYTES)?;
            let named =
                SLOTS.map(|offset| read_slot(&bytes, offset).filter(|(store, _)| *store == head_file.store));
            let named = named.map(|slot| slot.map(|(_, head)| head.seq));
            if named.iter().flatten().any(|seq| *seq >= head.seq) {
                return Ok(());
            }
            // IMPORTANT: the slot with the older head is rewritten, so that the newer one survives a torn write.
            let offset = if named.first() <= named.last() { SLOTS[0] } else { SLOTS[1] };
            head_file.file.write(offset, &slot(head_file.store, head))
        })
    }

    /// Sets the file back to this head, after a loss was accepted. Nothing else sets it back.
    ///
    /// IMPORTANT: the slot with the newest head is rewritten last. So after a crash at any moment the file names
    /// the head of the accepted loss, which is recognized, or this one.
    pub(crate) fn reset(&mut self, head: Head) -> io::Result<()> {
        self.locked(|head_file| {
            let bytes = head_file.file.read(FILE_BYTES)?;
            let named = SLOTS.map(|offset| read_slot(&bytes, offset).map(|(_, head)| head.seq));
            let [first, second] = if named.first() <= named.last() { SLOTS } else { [SLOTS[1], SLOTS[0]] };
            let slot = slot(head_file.store, head);
            head_file.file.write(first, &slot)?;
            head_file.file.sync()?;
            head_file.file.write(second, &slot)
        })
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

fn slot(store: StoreId, head: Head) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    bytes.extend(store.as_bytes());
    bytes.extend(head.seq.as_u64().to_be_bytes());
    bytes.extend(head.hash.as_bytes());
    let checksum = SLOT.hash(&[&bytes]);
    bytes.extend(checksum.as_bytes().iter().take(16));
    bytes
}

fn read_slot(file: &[u8], offset: usize) -> Option<(StoreId, Head)> {
    let bytes = file.get(offset..offset + SLOT_BYTES)?;
    let (store, rest) = bytes.split_first_chunk::<16>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (hash, _) = rest.split_first_chunk::<32>()?;
    let store = StoreId::from_bytes(*store);
    let head = Head { seq: Seq::new(u64::from_be_bytes(*seq)), hash: Hash::from_bytes(*hash) };
    (slot(store, head) == bytes).then_some((store, head))
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
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
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
    use super::*;

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
