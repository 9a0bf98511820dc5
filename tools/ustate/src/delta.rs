//! How two values of a key differ.

use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use crate::escape::{escape, escape_lines};
use crate::json::Object;
use crate::leaves::{Replaced, compare, parse};
use crate::output::{DIM, GOOD, Output, REMOVED};
use crate::value::{brief, counted};
use crate::width::width;

/// How long the shortest difference of two texts is looked for; after it, any will do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// Lines that are shown around those that differ.
const AROUND: usize = 3;

/// What makes one value out of another.
pub(crate) enum Delta<'a> {
    /// Of JSON, by leaf.
    Json(Vec<Replaced>),
    /// Of text, by line.
    Text(&'a str, &'a str),
    /// Nothing differs.
    Same,
    /// As a whole.
    Bytes(&'a [u8], &'a [u8]),
}

impl<'a> Delta<'a> {
    pub(crate) fn of(before: &'a [u8], after: &'a [u8]) -> Self {
        if before == after {
            return Self::Same;
        }
        if let (Some(before), Some(after)) = (parse(before), parse(after)) {
            return Self::Json(compare(before, after));
        }
        match (std::str::from_utf8(before), std::str::from_utf8(after)) {
            (Ok(before), Ok(after)) => Self::Text(before, after),
            _ => Self::Bytes(before, after),
        }
    }

    /// On part of a line; none if it takes lines of its own.
    pub(crate) fn inline(&self, room: usize) -> Option<String> {
        match self {
            Self::Json(replaced) => match replaced.as_slice() {
                [] => Some("(the same JSON, written differently)".into()),
                [whole] if whole.pointer.is_empty() => Some(place(whole, room)),
                replaced => {
                    let places: Vec<String> = replaced.iter().map(|one| place(one, room)).collect();
                    Some(places.join(", ")).filter(|text| width(text) <= room)
                }
            },
            Self::Text(before, after) => {
                let single = |text: &str| !text.contains('\n');
                let both = || arrow(before.as_bytes(), after.as_bytes(), room);
                (single(before) && single(after)).then(both)
            }
            Self::Same => Some("(the same value)".into()),
            Self::Bytes(before, after) => Some(arrow(before, after, room)),
        }
    }

    /// How much it is, where it does not fit on a line.
    pub(crate) fn sum(&self) -> String {
        match self {
            Self::Json(replaced) => counted(replaced.len() as u64, "place"),
            Self::Text(before, after) => {
                let diff = diff(before, after);
                let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count() as u64;
                let (removed, added) = (count(ChangeTag::Delete), count(ChangeTag::Insert));
                format!("{} removed, {added} added", counted(removed, "line"))
            }
            Self::Same | Self::Bytes(..) => String::new(),
        }
    }

    /// On lines of its own.
    pub(crate) fn lines(&self, room: usize, out: &Output) -> Vec<String> {
        match self {
            Self::Json(replaced) if !replaced.is_empty() => {
                replaced.iter().map(|one| place(one, room)).collect()
            }
            Self::Text(before, after) if self.inline(room).is_none() => hunks(before, after, out),
            _ => self.inline(room).into_iter().collect(),
        }
    }
}

/// `/max: 0 → 100`
fn place(replaced: &Replaced, room: usize) -> String {
    let text = |json: &str| brief(json.as_bytes(), room);
    let change = match (&replaced.before, &replaced.after) {
        (Some(before), Some(after)) => format!("{} → {}", text(before), text(after)),
        (None, Some(after)) => format!("added {}", text(after)),
        (Some(before), None) => format!("removed {}", text(before)),
        (None, None) => String::new(),
    };
    let pointer = escape(&replaced.pointer);
    if pointer.is_empty() { change } else { format!("{pointer}: {change}") }
}

fn arrow(before: &[u8], after: &[u8], room: usize) -> String {
    format!("{} → {}", brief(before, room), brief(after, room))
}

fn diff<'a>(before: &'a str, after: &'a str) -> TextDiff<'a, 'a, str> {
    TextDiff::configure().timeout(PATIENCE).diff_lines(before, after)
}

fn hunks(before: &str, after: &str, out: &Output) -> Vec<String> {
    let diff = diff(before, after);
    let mut lines = Vec::new();
    for hunk in diff.unified_diff().context_radius(AROUND).iter_hunks() {
        lines.push(out.paint(DIM, &hunk.header().to_string()));
        for change in hunk.iter_changes() {
            let text = change.value();
            let line = escape_lines(text.strip_suffix('\n').unwrap_or(text)).into_owned();
            let cut = if text.ends_with('\n') { "" } else { "  (without a line end)" };
            lines.push(match change.tag() {
                ChangeTag::Equal => format!(" {line}{cut}"),
                ChangeTag::Delete => out.paint(REMOVED, &format!("-{line}{cut}")),
                ChangeTag::Insert => out.paint(GOOD, &format!("+{line}{cut}")),
            });
        }
    }
    lines
}

/// The operations of a JSON patch (RFC 6902) at a place of a document that holds the value.
pub(crate) fn patch(replaced: &[Replaced], pointer: &str) -> Vec<String> {
    let operation = |one: &Replaced| {
        let name = match (&one.before, &one.after) {
            (Some(_), Some(_)) => "replace",
            (None, _) => "add",
            (_, None) => "remove",
        };
        let object = Object::nested().text("op", name).text("path", &format!("{pointer}{}", one.pointer));
        match &one.after {
            Some(after) => object.raw("value", &crate::escape::escape_json(after)).finish(),
            None => object.finish(),
        }
    };
    replaced.iter().map(operation).collect()
}
