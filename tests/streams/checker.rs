//! Whether a recorded stream keeps what watches promise: it is ordered, unique, gapless, atomic,
//! resumable, bookmarkable and filtered, with the right kind and the right value before; and a
//! stream that begins with a snapshot has no gap between it and the changes that follow: the snapshot
//! is the state at its position, and every change after it comes, so that both together come to the
//! state in the end.

use std::ops::AddAssign;

use univrs_state::log::{Change, ChangeKind};
use univrs_state::{Cursor, Entry, WatchEvent};

use super::matching::matches;
use super::plan::Seen;
use crate::support::timeline::Timeline;

/// What a stream had in it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) bookmarks: u64,
    pub(crate) resumed: u64,
    pub(crate) snapshots: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.events += more.events;
        self.bookmarks += more.bookmarks;
        self.resumed += more.resumed;
        self.snapshots += more.snapshots;
    }
}

/// Checks what a stream of a pattern showed against the log, of which it must have reached `until`.
pub(crate) fn check(log: &[Change], pattern: &str, seen: &[Seen], until: u64) -> Result<Tally, String> {
    let timeline = Timeline::of(log);
    let due = log.iter().filter(|change| matches(pattern, &change.key)).collect();
    let (next, shown, cursor) = (0, None, None);
    let mut stream = Stream { timeline, pattern, due, next, shown, cursor, tally: Tally::default() };
    for seen in seen {
        stream.take(seen).map_err(|error| format!("the stream of {pattern}: {error}"))?;
    }
    stream.end(until).map_err(|error| format!("the stream of {pattern}: {error}"))
}

struct Stream<'a> {
    timeline: Timeline<'a>,
    pattern: &'a str,
    /// The changes that match.
    due: Vec<&'a Change>,
    /// How many of them are behind the stream.
    next: usize,
    /// The last event since it began or was resumed.
    shown: Option<u64>,
    /// Where it may be resumed; none before it has begun.
    cursor: Option<u64>,
    tally: Tally,
}

impl Stream<'_> {
    fn take(&mut self, seen: &Seen) -> Result<(), String> {
        match seen {
            Seen::From(cursor) => self.begin(*cursor),
            Seen::Snapshot(entries, cursor) => self.snapshot(entries, *cursor),
            Seen::Event(event) => self.event(event),
            Seen::Cursor(cursor) => self.bookmark(*cursor),
        }
    }

    /// Resumable: it goes on behind the whole commits up to the cursor, wherever it has been.
    fn begin(&mut self, cursor: Cursor) -> Result<(), String> {
        self.tally.resumed += u64::from(self.cursor.is_some());
        let at = self.timeline.state_before(self.place(cursor)?);
        self.next = self.due.partition_point(|change| change.seq.as_u64() <= at);
        (self.shown, self.cursor) = (None, Some(at));
        Ok(())
    }

    fn snapshot(&mut self, entries: &[Entry], cursor: Cursor) -> Result<(), String> {
        self.begin(cursor)?;
        self.tally.snapshots += 1;
        let at = cursor.seq().as_u64();
        if !self.timeline.is_state(at) {
            return Err(format!("its snapshot is of half a commit, at {at}"));
        }
        if self.timeline.entries(at, |key| matches(self.pattern, key)) != entries {
            return Err(format!("its snapshot is not the state at {at}"));
        }
        Ok(())
    }

    fn event(&mut self, event: &WatchEvent) -> Result<(), String> {
        let seq = event.seq.as_u64();
        let change = self.timeline.change(seq).ok_or_else(|| format!("event {seq} never happened"))?;
        if self.cursor.is_none() {
            return Err(format!("event {seq} came before it had begun"));
        }
        if !matches(self.pattern, &change.key) || event.key != *change.key {
            return Err(format!("event {seq} is of {}, which is not of its pattern", event.key));
        }
        if self.shown.is_some_and(|shown| shown == seq) {
            return Err(format!("event {seq} came twice"));
        }
        if let Some(shown) = self.shown.filter(|shown| *shown > seq) {
            return Err(format!("event {seq} came after {shown}, out of order or again"));
        }
        match self.due.get(self.next).map(|due| due.seq.as_u64()) {
            Some(due) if due == seq => {}
            Some(due) if due < seq => return Err(format!("event {due} is missing before {seq}")),
            _ => return Err(format!("event {seq} lies before the position that it began behind")),
        }
        self.right(event, change)?;
        self.next += 1;
        self.shown = Some(seq);
        self.tally.events += 1;
        Ok(())
    }

    /// Whether an event says what its change says, and what was there before.
    fn right(&self, event: &WatchEvent, change: &Change) -> Result<(), String> {
        let seq = event.seq;
        let lives = change.kind != ChangeKind::Deleted;
        let old = self.timeline.entry(&change.key, seq.as_u64() - 1).map(|entry| entry.value);
        let wrong = [
            ("kind", event.event_type != change.kind),
            ("value before", event.old_value != old),
            ("value", event.new_value.as_deref() != change.value.as_deref()),
            ("version", event.version != change.version),
            ("version after", event.new_version != if lives { change.version } else { 0 }),
            ("commit", event.commit_seq != change.commit_seq),
            ("time", event.at != change.at),
            ("metadata", event.meta != change.meta),
            ("erasure", event.erased),
        ];
        match wrong.iter().find(|(_, wrong)| *wrong) {
            Some((what, _)) => Err(format!("event {seq} has a wrong {what}")),
            None => Ok(()),
        }
    }

    /// Bookmarkable and atomic: it stands behind whole commits, all of which were shown, and it
    /// does not lag behind what was.
    fn bookmark(&mut self, cursor: Cursor) -> Result<(), String> {
        self.tally.bookmarks += 1;
        let at = self.place(cursor)?;
        if self.cursor.is_none_or(|before| at < before) {
            return Err(format!("its bookmark went back from {:?} to {at}", self.cursor));
        }
        if !self.timeline.is_state(at) {
            return Err(format!("its bookmark {at} is inside a commit"));
        }
        let due = self.due.get(self.next);
        if let Some(due) = due.filter(|due| due.seq.as_u64() <= at) {
            return Err(format!("event {} is missing before the bookmark {at}", due.seq));
        }
        if let Some(shown) = self.shown.and_then(|shown| self.timeline.change(shown)) {
            let whole = due.is_none_or(|due| due.commit_seq != shown.commit_seq);
            if whole && at < shown.commit_seq.as_u64() {
                return Err(format!("its bookmark {at} lags behind the commit at {}", shown.commit_seq));
            }
        }
        self.cursor = Some(at);
        Ok(())
    }

    /// Gapless to the end: it has reached it, and passed over nothing.
    fn end(self, until: u64) -> Result<Tally, String> {
        match self.cursor {
            Some(at) if at >= until => Ok(self.tally),
            at => Err(format!("it stands at {at:?} and has not reached {until}")),
        }
    }

    /// The position of a cursor, which the log must have, with its hash.
    fn place(&self, cursor: Cursor) -> Result<u64, String> {
        let at = cursor.seq().as_u64();
        let hash = self.timeline.change(at).map(|change| change.hash);
        if at > self.timeline.head() || at > 0 && cursor.head().is_some_and(|head| Some(head.hash) != hash) {
            return Err(format!("its cursor {cursor} is no position of the log"));
        }
        Ok(at)
    }
}
