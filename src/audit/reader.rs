//! Reading a log file: a piece at a time, every change checked and chained, the end compared.

use std::io::Read;

use super::log_item::{self, LogItem, MOST_ITEM, NoStart, Start};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Change, Decoder, Flaw, Follow, Hash, Head, LastMeta};

/// How the errors about what is given as an export begin.
pub(crate) const EXPORT: &str = "this input ";

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// A change of a log file, or the hash of the header of one that is withheld.
#[derive(Debug)]
pub(crate) enum LoggedChange {
    Change(Change),
    Withheld(Hash),
}

/// The changes of a log file, in order. Memory is taken for bytes that are there, never for what a
/// length claims: at most twice the largest item.
///
/// Nothing is proved before the end: whoever takes changes from here must not show them to anybody
/// before [`next`](Self::next) has returned none.
pub(crate) struct LogReader<R> {
    source: Source<R>,
    start: Start,
    follow: Follow,
    meta: LastMeta,
    count: u64,
    ended: bool,
}

impl<R: Read> LogReader<R> {
    /// Reads the start of the file.
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
                    return Err(StateError::InvalidArgument(format!("{EXPORT}is no exported log")));
                }
                Err(NoStart::OtherFormat(format)) => {
                    return Err(StateError::InvalidArgument(format!(
                        "{EXPORT}has format {format}, but this version of univrs-state reads format {}",
                        log_item::FORMAT
                    )));
                }
            }
        };
        let follow = Follow::from_floor(start.store, start.floor);
        Ok(Self { source, start, follow, meta: LastMeta::default(), count: 0, ended: false })
    }

    pub(crate) fn start(&self) -> Start {
        self.start
    }

    /// The head of what was read so far; after the end that of the file.
    pub(crate) fn head(&self) -> Head {
        self.follow.head()
    }

    /// The next change; none at the end, when everything led to the head that the file names, and
    /// nothing follows.
    pub(crate) fn next(&mut self) -> Result<Option<LoggedChange>> {
        if self.ended {
            return Ok(None);
        }
        match self.source.item(&mut self.meta)? {
            LogItem::Change(mut change, header) => {
                let follows = self.follow.chain(&mut change, header);
                follows.map_err(|error| StateError::Corrupted(error.to_string()))?;
                self.count += 1;
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
        }
    }

    fn end(&mut self, count: u64, head: Head) -> Result<()> {
        let found = self.follow.head();
        let wrong = if !self.follow.is_whole() {
            Some(format!("the commit of change {} is cut off", found.seq))
        } else if count != self.count || head.seq != found.seq {
            Some(format!(
                "the log file names {count} changes up to {}, but has {} up to {}",
                head.seq, self.count, found.seq
            ))
        } else if head != found && !failpoint("import_unchecked") {
            Some(format!("the hashes of the log file do not lead to the head that it names at {}", head.seq))
        } else if !self.source.is_at_end()? {
            Some("something follows the end of the log file".into())
        } else {
            None
        };
        self.ended = wrong.is_none();
        wrong.map_or(Ok(()), |wrong| Err(StateError::Corrupted(wrong)))
    }
}

/// Bytes of a file, and how far they were taken.
struct Source<R> {
    read: R,
    buffer: Vec<u8>,
    taken: usize,
    /// Bytes that were taken in all.
    offset: u64,
}

impl<R: Read> Source<R> {
    fn decoder(&self) -> Decoder<'_> {
        Decoder::new(self.buffer.get(self.taken..).unwrap_or_default())
    }

    /// Takes everything but so many bytes of what there is.
    fn take_but(&mut self, rest: usize) {
        let end = self.buffer.len() - rest;
        self.offset += (end - self.taken) as u64;
        self.taken = end;
    }

    /// Reads on, at least as much as there is already; false at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let known = self.buffer.len();
        if known < PIECE && self.buffer.capacity() > 4 * PIECE {
            self.buffer.shrink_to(2 * PIECE);
        }
        let piece = (PIECE.max(known) as u64).min(MOST_ITEM as u64);
        let read = Read::by_ref(&mut self.read).take(piece).read_to_end(&mut self.buffer)?;
        Ok(read > 0)
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
        StateError::Corrupted(match flaw {
            Flaw::Cut => format!("the log file is cut off in its item at byte {at}"),
            Flaw::Malformed(what) => format!("the log file is malformed in its item at byte {at}: {what}"),
        })
    }

    fn is_at_end(&mut self) -> Result<bool> {
        Ok(self.taken == self.buffer.len() && !self.fill()?)
    }
}
