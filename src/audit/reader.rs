//! Reading a log file in pieces. Every change is checked and chained, and the end is compared with the head
//! that the file names.

use std::io::Read;

use super::base_record::BaseRecord;
use super::log_item::{self, LogItem, MOST_ITEM, NoStart, Start};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Break, Change, Decoder, Flaw, Follow, FollowBase, Hash, Head, LastMeta};

/// The beginning of errors about an input that is not an export.
pub(crate) const EXPORT: &str = "this input ";

/// The bytes that are read at once.
const PIECE: usize = 256 << 10;

/// A change of a log file, or the hash of the header of a change that is withheld. The changes of the base come first,
/// each with the chain before it.
#[derive(Debug)]
pub(crate) enum LoggedChange {
    Base {
        before: Hash,
        change: Change,
    },
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests look at what is withheld"))]
    WithheldBase {
        before: Hash,
        header: Hash,
    },
    Change(Change),
    Withheld(Hash),
}

/// Reads the changes of a log file, in order: those of the base, then those after the floor. Memory is allocated for
/// bytes that were read, never for a length that the file claims: at most twice the largest item.
///
/// IMPORTANT: nothing is proved before the end. The caller must not show any change before
/// [`next`](Self::next) has returned `None`.
pub(crate) struct LogReader<R> {
    source: Source<R>,
    start: Start,
    /// How many changes of the base are still to come.
    due: u64,
    base: FollowBase,
    /// What the log says of its base.
    record: Option<BaseRecord>,
    follow: Follow,
    meta: LastMeta,
    count: u64,
    ended: bool,
}

impl<R: Read> LogReader<R> {
    /// A reader behind the first item of the file, which is read and checked.
    pub(crate) fn new(read: R) -> Result<Self> {
        let mut source = Source { read, buffer: Vec::new(), taken: 0, offset: 0 };
        let start = loop {
            let mut decoder = source.decoder();
            match log_item::read_start(&mut decoder) {
                Ok(start) => {
                    let rest = decoder.rest().len();
                    source.take_but(rest);
                    break start;
                }
                Err(NoStart::Flaw(Flaw::Cut)) if source.fill()? => {}
                Err(NoStart::Flaw(flaw)) => return Err(source.refuse(flaw)),
                Err(NoStart::NoLogFile) => {
                    return Err(StateError::InvalidArgument(format!("{EXPORT}is not an exported log")));
                }
                Err(NoStart::OtherFormat(format)) => {
                    return Err(StateError::InvalidArgument(format!(
                        "{EXPORT}has format {format}, but this version of univrs-state reads format {}",
                        log_item::FORMAT
                    )));
                }
            }
        };
        let Start { store, floor, floor_at, base } = start;
        Ok(Self {
            source,
            start,
            due: base.unwrap_or(0),
            base: FollowBase::new(store, floor, floor_at),
            record: None,
            follow: Follow::from_floor(store, floor, floor_at),
            meta: LastMeta::default(),
            count: 0,
            ended: false,
        })
    }

    pub(crate) fn start(&self) -> Start {
        self.start
    }

    /// The head after the last change that was read, which is the floor while those of the base are read; after the end the
    /// head of the file.
    pub(crate) fn head(&self) -> Head {
        self.follow.head()
    }

    /// The next change. `None` at the end, which is reached only if the changes lead to the head that the file
    /// names, no bytes follow, and the base is the one that the log names, if it names one.
    pub(crate) fn next(&mut self) -> Result<Option<LoggedChange>> {
        if self.ended {
            return Ok(None);
        }
        let item = self.source.item(&mut self.meta)?;
        if self.due > 0 {
            return self.of_base(item).map(Some);
        }
        match item {
            LogItem::Change(mut change, header) => {
                self.follow.chain(&mut change, header).map_err(contradiction)?;
                self.count += 1;
                self.record = BaseRecord::newest(self.record.take(), &change, self.start.floor.seq);
                Ok(Some(LoggedChange::Change(change)))
            }
            LogItem::Withheld(header) => {
                self.follow.pass(header);
                self.count += 1;
                Ok(Some(LoggedChange::Withheld(header)))
            }
            LogItem::End(count, head) => {
                self.end(count, head)?;
                Ok(None)
            }
            LogItem::Base(..) | LogItem::WithheldBase(..) => Err(StateError::Corrupted(
                "the base of the log file has more changes than its start says".into(),
            )),
        }
    }

    fn of_base(&mut self, item: LogItem) -> Result<LoggedChange> {
        let read = match item {
            LogItem::Base(before, mut change, header) => {
                self.base.chain(before, &mut change, header).map_err(contradiction)?;
                LoggedChange::Base { before, change }
            }
            LogItem::WithheldBase(before, header) => {
                self.base.pass(before, header).map_err(contradiction)?;
                LoggedChange::WithheldBase { before, header }
            }
            _ => {
                return Err(StateError::Corrupted(format!(
                    "the base of the log file lacks {} of the changes that its start says it has",
                    self.due
                )));
            }
        };
        self.due -= 1;
        Ok(read)
    }

    fn end(&mut self, count: u64, head: Head) -> Result<()> {
        let found = self.follow.head();
        let wrong = if !self.follow.is_whole() {
            Some(format!("the log file is cut off within the commit of change {}", found.seq))
        } else if count != self.count || head.seq != found.seq {
            Some(format!(
                "the log file names {count} changes up to {}, but has {} up to {}",
                head.seq, self.count, found.seq
            ))
        } else if head != found && !failpoint("import_unchecked") {
            Some(format!("the hashes of the log file do not lead to the head that it names at {}", head.seq))
        } else if !self.has_its_base() {
            let floor = self.start.floor.seq;
            Some(format!("the base of the log file is not the one that its log says was left at {floor}"))
        } else if !self.source.is_at_end()? {
            Some("the log file has more bytes after its end item".into())
        } else {
            None
        };
        self.ended = wrong.is_none();
        wrong.map_or(Ok(()), |wrong| Err(StateError::Corrupted(wrong)))
    }

    /// Whether the base is the one that the log names. True if it names none.
    fn has_its_base(&self) -> bool {
        self.record.as_ref().is_none_or(|record| record.is_of(&self.start, self.base.digest()))
    }
}

fn contradiction(error: Break) -> StateError {
    StateError::Corrupted(error.to_string())
}

/// The bytes of a file that were read and not yet taken.
struct Source<R> {
    read: R,
    buffer: Vec<u8>,
    taken: usize,
    /// How many bytes were taken in all.
    offset: u64,
}

impl<R: Read> Source<R> {
    fn decoder(&self) -> Decoder<'_> {
        Decoder::new(self.buffer.get(self.taken..).unwrap_or_default())
    }

    /// Takes all bytes that were read, except the last `rest` ones.
    fn take_but(&mut self, rest: usize) {
        let end = self.buffer.len() - rest;
        self.offset += (end - self.taken) as u64;
        self.taken = end;
    }

    /// Reads at least as many bytes as are held already; false at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let known = self.buffer.len();
        if known < PIECE && self.buffer.capacity() > 4 * PIECE {
            self.buffer.shrink_to(2 * PIECE);
        }
        let piece = (PIECE.max(known) as u64).min(MOST_ITEM as u64);
        let read = Read::by_ref(&mut self.read).take(piece).read_to_end(&mut self.buffer)?;
        Ok(read != 0)
    }

    fn item(&mut self, last: &mut LastMeta) -> Result<LogItem> {
        loop {
            let mut decoder = self.decoder();
            match log_item::read_item(&mut decoder, last) {
                Ok(item) => {
                    let rest = decoder.rest().len();
                    self.take_but(rest);
                    return Ok(item);
                }
                Err(Flaw::Cut) if self.decoder().rest().len() <= MOST_ITEM && self.fill()? => {}
                Err(flaw) => return Err(self.refuse(flaw)),
            }
        }
    }

    fn refuse(&self, flaw: Flaw) -> StateError {
        let at = self.offset;
        match flaw {
            Flaw::Cut => {
                StateError::Corrupted(format!("the log file is cut off within its item at byte {at}"))
            }
            Flaw::Malformed(what) => {
                StateError::Corrupted(format!("the log file is malformed in its item at byte {at}: {what}"))
            }
            Flaw::Newer(what) => StateError::UpgradeNeeded(format!("{what}, in its item at byte {at}")),
        }
    }

    fn is_at_end(&mut self) -> Result<bool> {
        Ok(self.taken == self.buffer.len() && !self.fill()?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::log_item::{end, start, withheld};
    use super::*;
    use crate::log::StoreId;

    /// The items of a log file of withheld changes, and where each begins.
    fn file(changes: u8) -> (Vec<u8>, Vec<usize>) {
        let store = StoreId::from_bytes([1; 16]);
        let floor = Head::genesis(store);
        let mut items = vec![start(&Start::new(store, floor, None))];
        let mut follow = Follow::genesis(store);
        for n in 0..changes {
            follow.pass(Hash::from_bytes([n; 32]));
            items.push(withheld(Hash::from_bytes([n; 32])));
        }
        items.push(end(changes.into(), follow.head()));
        let mut starts = vec![0];
        for item in &items[..items.len() - 1] {
            starts.push(starts.last().unwrap() + item.len());
        }
        (items.concat(), starts)
    }

    fn read_all(bytes: &[u8]) -> Result<u64> {
        let mut reader = LogReader::new(bytes)?;
        while reader.next()?.is_some() {}
        Ok(reader.head().seq.as_u64())
    }

    #[test]
    fn an_error_names_the_byte_at_which_its_item_begins() {
        let (bytes, starts) = file(3);
        assert_eq!(read_all(&bytes), Ok(3));
        for (index, at) in starts.iter().enumerate() {
            let next = starts.get(index + 1).copied().unwrap_or(bytes.len());
            for cut in at + 1..next {
                let error = read_all(&bytes[..cut]).unwrap_err().to_string();
                assert!(error.ends_with(&format!("cut off within its item at byte {at}")), "{cut}: {error}");
            }
            let mut malformed = bytes.clone();
            malformed[*at] = 0xff;
            let error = read_all(&malformed).unwrap_err().to_string();
            assert!(index == 0 || error.contains(&format!("in its item at byte {at}: ")), "{error}");
        }
    }

    #[test]
    fn the_memory_of_a_large_item_is_given_back() {
        let mut source = Source { read: std::io::repeat(0), buffer: Vec::new(), taken: 0, offset: 0 };
        while source.buffer.len() < 8 * PIECE {
            assert!(source.fill().unwrap());
        }
        source.take_but(0);
        for _ in 0..2 {
            assert!(source.fill().unwrap());
            source.take_but(10);
        }
        assert!(source.buffer.capacity() <= 4 * PIECE, "{}", source.buffer.capacity());
    }
}
