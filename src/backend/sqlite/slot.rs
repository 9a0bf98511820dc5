//! A slot of the head file: a head that the log has reached, and which database file lies under which
//! write-ahead log.

use crate::log::{Domain, Hash, Head, StoreId};
use crate::seq::Seq;

/// Store id, seq, hash, and the first 16 bytes of the hash of all that.
const HEAD_BYTES: usize = 16 + 8 + 32 + CHECKSUM_BYTES;
/// All that; the count, the pair, and the first 16 bytes of the hash of everything before.
pub(super) const SLOT_BYTES: usize = HEAD_BYTES + 8 + PAIR_BYTES + CHECKSUM_BYTES;
/// Size, seconds and nanoseconds; salts and frames.
const PAIR_BYTES: usize = 8 + 8 + 4 + 8 + 4;
const CHECKSUM_BYTES: usize = 16;

/// The head stands alone under its checksum, as in versions that knew no pair: they read and write it.
static HEAD: Domain = Domain::new("univrs-state 1 witness slot");
/// The second checksum covers the head, too: a pair beside a head that such a version wrote counts for nothing.
static PAIR: Domain = Domain::new("univrs-state 1 head slot");

/// The size of a database file, and when it was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// A write-ahead log since it was last started over, as far as it has grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogMark {
    /// SQLite draws new ones whenever it starts the log over.
    pub(crate) salts: [u32; 2],
    /// How many pages are in use.
    pub(crate) frames: u32,
}

/// A database file, and the write-ahead log that belongs over it.
///
/// IMPORTANT: it says that the database file with this stamp has everything that was committed before this log
/// was started over, and nothing of the log behind these frames. So the log over the file is the store. That
/// stays true for ever, whatever happens to the files, and so does every older pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) database: Stamp,
    pub(crate) log: LogMark,
}

impl Pair {
    /// Whether a database file and a log are this pair, the log perhaps with more commits.
    pub(super) fn is(&self, database: Stamp, log: LogMark) -> bool {
        self.database == database && self.log.salts == log.salts && self.log.frames <= log.frames
    }
}

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) store: StoreId,
    pub(super) head: Head,
    /// Grows with each write, so that of two slots with one head the newer one is known.
    pub(super) count: u64,
    pub(super) pair: Option<Pair>,
}

impl Slot {
    /// The newer one of two has the larger.
    pub(super) fn age(&self) -> (Seq, u64) {
        (self.head.seq, self.count)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        bytes.extend(self.store.as_bytes());
        bytes.extend(self.head.seq.as_u64().to_be_bytes());
        bytes.extend(self.head.hash.as_bytes());
        sign(&HEAD, &mut bytes);
        bytes.extend(self.count.to_be_bytes());
        match &self.pair {
            Some(Pair { database, log }) => {
                bytes.extend(database.bytes.to_be_bytes());
                bytes.extend(database.seconds.to_be_bytes());
                bytes.extend(database.nanos.to_be_bytes());
                log.salts.iter().chain([&log.frames]).for_each(|word| bytes.extend(word.to_be_bytes()));
            }
            None => bytes.extend([0; PAIR_BYTES]),
        }
        sign(&PAIR, &mut bytes);
        bytes
    }

    /// Reads a slot from the bytes that begin with it. Of one that a version without pairs wrote, the count is 0.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = signed(&HEAD, bytes.get(..HEAD_BYTES)?)?;
        let store = StoreId::from_bytes(take(&mut rest)?);
        let seq = Seq::new(u64::from_be_bytes(take(&mut rest)?));
        let head = Head { seq, hash: Hash::from_bytes(take(&mut rest)?) };
        let (count, pair) = bytes
            .get(..SLOT_BYTES)
            .and_then(|bytes| signed(&PAIR, bytes))
            .and_then(|bytes| read_pair(bytes.get(HEAD_BYTES..)?))
            .unwrap_or_default();
        Some(Self { store, head, count, pair })
    }
}

/// The count and the pair. No database file is empty, so a size of 0 says that there is no pair.
fn read_pair(mut bytes: &[u8]) -> Option<(u64, Option<Pair>)> {
    let rest = &mut bytes;
    let count = u64::from_be_bytes(take(rest)?);
    let database = Stamp {
        bytes: u64::from_be_bytes(take(rest)?),
        seconds: i64::from_be_bytes(take(rest)?),
        nanos: u32::from_be_bytes(take(rest)?),
    };
    let salts = [u32::from_be_bytes(take(rest)?), u32::from_be_bytes(take(rest)?)];
    let log = LogMark { salts, frames: u32::from_be_bytes(take(rest)?) };
    Some((count, (database.bytes > 0).then_some(Pair { database, log })))
}

/// Appends the checksum of all bytes so far.
fn sign(domain: &Domain, bytes: &mut Vec<u8>) {
    let checksum = domain.hash(&[bytes]);
    bytes.extend(checksum.as_bytes().iter().take(CHECKSUM_BYTES));
}

/// The bytes before a checksum, if it is theirs.
fn signed<'a>(domain: &Domain, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (signed, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    domain.hash(&[signed]).as_bytes().starts_with(checksum).then_some(signed)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot {
        store: StoreId::from_bytes([5; 16]),
        head: Head { seq: Seq::new(7), hash: Hash::from_bytes([9; 32]) },
        count: 3,
        pair: Some(Pair {
            database: Stamp { bytes: 4096, seconds: -1, nanos: 999_999_999 },
            log: LogMark { salts: [1, u32::MAX], frames: 12 },
        }),
    };

    #[test]
    fn a_slot_is_read_as_it_was_written_and_any_flipped_bit_is_seen() {
        for slot in [SLOT, Slot { pair: None, ..SLOT }] {
            let bytes = slot.encode();
            assert_eq!((bytes.len(), Slot::decode(&bytes)), (SLOT_BYTES, Some(slot)));
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let found = Slot::decode(&bytes);
                let head_alone = Slot { count: 0, pair: None, ..SLOT };
                let expected = (bit / 8 >= HEAD_BYTES).then_some(head_alone);
                assert_eq!(found, expected, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_slot_of_a_version_without_pairs_names_its_head_and_no_pair_that_was_there_before() {
        let older = Slot { head: Head { seq: Seq::new(8), ..SLOT.head }, ..SLOT };
        let mut bytes = SLOT.encode();
        bytes[..HEAD_BYTES].copy_from_slice(&older.encode()[..HEAD_BYTES]);
        let expected = Slot { count: 0, pair: None, ..older };
        assert_eq!(Slot::decode(&bytes), Some(expected));
        assert_eq!(Slot::decode(&bytes[..HEAD_BYTES]), Some(expected), "the second one ends the file");
    }

    #[test]
    fn a_log_that_has_grown_is_the_same_and_one_that_has_shrunk_or_was_started_over_is_not() {
        let Pair { database, log } = SLOT.pair.unwrap();
        let is = |database, log| SLOT.pair.unwrap().is(database, log);
        assert!(is(database, log) && is(database, LogMark { frames: 13, ..log }));
        assert!(!is(database, LogMark { frames: 11, ..log }));
        assert!(!is(database, LogMark { salts: [2, u32::MAX], ..log }));
        assert!(!is(Stamp { nanos: 0, ..database }, log) && !is(Stamp { bytes: 8192, ..database }, log));
    }
}
