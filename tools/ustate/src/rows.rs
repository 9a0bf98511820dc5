//! A change as a line for people, in columns that grow as they must.

use univrs_state::log::{Change, ChangeKind};
use univrs_state::{Meta, WatchEvent};

use crate::escape::{escape, escape_field, escape_key};
use crate::output::{DIM, Output};
use crate::time::rfc3339;
use crate::value::{Encoded, brief};
use crate::width::{left, width as cells};

/// The most characters that a column is aligned to.
const WIDEST: usize = 40;
/// The most characters of a value on a line.
pub(crate) const VALUE_ROOM: usize = 60;

/// What a line shows.
pub(crate) struct Row<'a> {
    pub(crate) time: String,
    pub(crate) seq: u64,
    pub(crate) kind: ChangeKind,
    pub(crate) key: &'a str,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) erased: bool,
    pub(crate) meta: Option<&'a Meta>,
}

impl<'a> Row<'a> {
    pub(crate) fn of_change(change: &'a Change, time: String) -> Self {
        Self {
            time,
            seq: change.seq.as_u64(),
            kind: change.kind,
            key: &change.key,
            value: change.value.as_deref(),
            erased: change.is_erased(),
            meta: change.meta.as_deref(),
        }
    }

    pub(crate) fn of_event(event: &'a WatchEvent, time: String) -> Self {
        Self {
            time,
            seq: event.seq.as_u64(),
            kind: event.event_type,
            key: &event.key,
            value: event.new_value.as_deref(),
            erased: event.new_value.is_none() && event.event_type != ChangeKind::Deleted,
            meta: event.meta.as_deref(),
        }
    }

    /// The fields of a line between tabs: seq, time, kind, key, encoding, value, actor, reason.
    pub(crate) fn fields(&self, at: univrs_state::log::Timestamp) -> [String; 8] {
        let value = self.value.map(Encoded::of);
        let said = |field: fn(&Meta) -> Option<&String>| {
            self.meta.and_then(field).map(|text| escape_field(text).into_owned()).unwrap_or_default()
        };
        [
            self.seq.to_string(),
            rfc3339(at),
            self.kind.to_string(),
            escape_field(self.key).into_owned(),
            value.as_ref().map_or(if self.erased { "erased" } else { "" }, Encoded::name).to_owned(),
            value.as_ref().map(Encoded::field).unwrap_or_default(),
            said(|meta| meta.actor.as_ref()),
            said(|meta| meta.reason.as_ref()),
        ]
    }
}

/// Who and why, at the end of a line.
pub(crate) fn origin(meta: Option<&Meta>) -> String {
    let mut line = String::new();
    if let Some(actor) = meta.and_then(|meta| meta.actor.as_deref()) {
        line.extend(["  by ", &escape(actor)]);
    }
    if let Some(reason) = meta.and_then(|meta| meta.reason.as_deref()) {
        line.extend(["  \"", &escape(reason), "\""]);
    }
    line
}

/// The widths so far.
pub(crate) struct Columns {
    seq: usize,
    key: usize,
    value: usize,
    /// The most characters of a value.
    room: usize,
}

impl Columns {
    /// Columns for positions up to `head`; values whole where `verbose`.
    pub(crate) fn new(head: u64, verbose: bool) -> Self {
        let room = if verbose { usize::MAX } else { VALUE_ROOM };
        Self { seq: head.to_string().len(), key: 0, value: 0, room }
    }

    /// Makes room for a row, so that those before it stand in line with it.
    pub(crate) fn widen(&mut self, row: &Row<'_>) {
        let (key, value) = self.texts(row);
        self.key = grown(self.key, &key);
        self.value = grown(self.value, &value);
    }

    pub(crate) fn line(&mut self, row: &Row<'_>, out: &Output) -> String {
        self.widen(row);
        let (key, value) = self.texts(row);
        let time = out.paint(DIM, &row.time);
        let (seq, kind) = (row.seq, out.kind(row.kind));
        let mut line = format!("{time}  {seq:>0$} {kind} {1}", self.seq, left(&key, self.key));
        if self.value > 0 {
            line.extend(["  ", &left(&value, self.value)]);
        }
        line + &origin(row.meta)
    }

    fn texts(&self, row: &Row<'_>) -> (String, String) {
        let value = match row.value {
            Some(value) => brief(value, self.room),
            None if row.erased => "(erased)".into(),
            None => String::new(),
        };
        (escape_key(row.key).into_owned(), value)
    }
}

fn grown(width: usize, text: &str) -> usize {
    width.max(cells(text).min(WIDEST))
}
