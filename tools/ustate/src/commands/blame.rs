//! `ustate blame`

use std::collections::HashMap;

use clap::Args;
use similar::{DiffOp, TextDiff};
use univrs_state::StateError;
use univrs_state::key::validate_key;
use univrs_state::log::{Change, ChangeKind};

use super::get::absent;
use crate::as_of::{AsOf, State};
use crate::context::Context;
use crate::delta::PATIENCE;
use crate::escape::{escape, escape_field, escape_lines};
use crate::json::Object;
use crate::leaves::{is_same, leaves, parse};
use crate::output::{DIM, Format};
use crate::rows::VALUE_ROOM;
use crate::stop::{Done, fail};
use crate::time::rfc3339;
use crate::value::{Encoded, brief};
use crate::width::{left, right, width as cells};

/// Changes that are read at a time.
const PAGE: usize = 50;
/// The widest column.
const WIDEST: usize = 40;

const EXAMPLES: &str = "\
Examples:
  ustate blame /nodes/n1
  ustate blame /nodes/n1 --at head --json";

/// Show who last changed each part of a value.
///
/// The parts of JSON are its leaves, named by JSON pointers: the elements of a list by their places in
/// it. Those of other text are its lines; other bytes are one. Fields of -o tsv: pointer or number of
/// the line, value, seq, time, actor, reason.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Blame {
    /// The key.
    key: String,
    #[command(flatten)]
    as_of: AsOf,
}

/// A part of a value.
struct Part {
    place: Place,
    /// JSON, or a line.
    value: Vec<u8>,
    /// The change that it has been there since.
    since: Change,
    /// Whether a change before that may have been the one.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A JSON pointer.
    Leaf(String),
    /// The number of a line of text, and where it stands in the version that is looked at.
    Line(usize, usize),
    Whole,
}

impl Blame {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "blame")?;
        validate_key(&self.key)?;
        let state = self.as_of.open(context).await?;
        let newest = state.newest(&self.key).await?;
        let Some(newest) = newest.filter(|newest| newest.kind != ChangeKind::Deleted) else {
            return fail(absent(context, &state, &self.key).await?);
        };
        let Some(value) = &newest.value else {
            let gone =
                format!("the value that change {} gave {} is gone; its hash remains", newest.seq, self.key);
            return Err(StateError::Erased(gone).into());
        };
        let mut parts = take_apart(&newest, value);
        if let Some(gap) = trace(&state, newest, &mut parts).await? {
            context.note(&gap);
        }
        print(context, &self.key, &parts)
    }
}

fn take_apart(newest: &Change, value: &[u8]) -> Vec<Part> {
    let part =
        |place, value: &[u8]| Part { place, value: value.to_owned(), since: newest.clone(), open: true };
    if let Some(json) = parse(value) {
        return leaves(json)
            .into_iter()
            .map(|(pointer, json)| part(Place::Leaf(pointer), json.as_bytes()))
            .collect();
    }
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() => {
            let lines = text.split_inclusive('\n').enumerate();
            lines.map(|(i, line)| part(Place::Line(i + 1, i), line.as_bytes())).collect()
        }
        _ => vec![part(Place::Whole, value)],
    }
}

/// Follows the parts back through the history of the key; says where that ends too early.
async fn trace(state: &State, newest: Change, parts: &mut [Part]) -> Done<Option<String>> {
    let mut change = newest;
    loop {
        let gone = |seq| format!("the history before {seq} is gone; what is older counts as of then");
        let (page, _) = state.source.changes_of(&change.key, Some(change.seq), PAGE).await?;
        if page.is_empty() {
            return Ok((change.kind != ChangeKind::Created).then(|| gone(change.seq)));
        }
        for earlier in page {
            // A life of the key begins with nothing.
            if change.kind == ChangeKind::Created || parts.iter().all(|part| !part.open) {
                return Ok(None);
            }
            let (Some(old), Some(new)) = (&earlier.value, &change.value) else {
                return Ok(Some(gone(change.seq)));
            };
            compare(parts, old, new, &earlier);
            change = earlier;
        }
    }
}

/// Parts that the earlier value has as well are as old as that, at least; the others are settled.
fn compare(parts: &mut [Part], old: &[u8], new: &[u8], earlier: &Change) {
    let (mut old_leaves, mut kept) = (HashMap::new(), HashMap::new());
    match parts.first().map(|part| &part.place) {
        Some(Place::Leaf(_)) => old_leaves.extend(parse(old).map(leaves).unwrap_or_default()),
        Some(Place::Line(..)) => kept = kept_lines(old, new),
        _ => {}
    }
    for part in parts.iter_mut().filter(|part| part.open) {
        let place = match &part.place {
            Place::Leaf(pointer) => {
                old_leaves.get(pointer).filter(|old| same(old, &part.value)).map(|_| part.place.clone())
            }
            Place::Line(number, at) => kept.get(at).map(|at| Place::Line(*number, *at)),
            Place::Whole => (old == new).then_some(Place::Whole),
        };
        match place {
            Some(place) => (part.place, part.since) = (place, earlier.clone()),
            None => part.open = false,
        }
    }
}

/// Whether two leaves are the same but for how they are written.
fn same(old: &str, new: &[u8]) -> bool {
    let old = parse(old.as_bytes());
    old.zip(parse(new)).is_some_and(|(old, new)| is_same(old, new))
}

/// Where lines of the new text stand in the old one.
fn kept_lines(old: &[u8], new: &[u8]) -> HashMap<usize, usize> {
    let (Ok(old), Ok(new)) = (std::str::from_utf8(old), std::str::from_utf8(new)) else {
        return HashMap::new();
    };
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
    let mut kept = HashMap::new();
    for op in diff.ops() {
        if let DiffOp::Equal { old_index, new_index, len } = *op {
            kept.extend((0..len).map(|i| (new_index + i, old_index + i)));
        }
    }
    kept
}

fn print(context: &mut Context, key: &str, parts: &[Part]) -> Done {
    match context.format {
        Format::Human => human(context, parts),
        Format::Tsv => parts.iter().try_for_each(|part| {
            let meta = part.since.meta.as_deref();
            let said =
                |text: Option<&String>| text.map(|text| escape_field(text).into_owned()).unwrap_or_default();
            context.out.fields([
                &escape_field(&part.place.name()),
                &part.field(),
                &part.since.seq.to_string(),
                &rfc3339(part.since.at),
                &said(meta.and_then(|meta| meta.actor.as_ref())),
                &said(meta.and_then(|meta| meta.reason.as_ref())),
            ])
        }),
        _ => parts.iter().try_for_each(|part| {
            let object = Object::of_type("blame").text("key", key);
            let object = match &part.place {
                Place::Leaf(pointer) => object.text("pointer", pointer).value(&part.value),
                Place::Line(number, _) => {
                    object.number("line", *number as u64).text("text", &String::from_utf8_lossy(&part.value))
                }
                Place::Whole => object.value(&part.value),
            };
            let object = object
                .number("seq", part.since.seq.as_u64())
                .text("at", &rfc3339(part.since.at))
                .number("version", part.since.version);
            context.out.line(&object.meta(part.since.meta.as_deref()).finish())
        }),
    }
}

impl Place {
    fn name(&self) -> String {
        match self {
            Self::Leaf(pointer) => pointer.clone(),
            Self::Line(number, _) => number.to_string(),
            Self::Whole => String::new(),
        }
    }
}

/// `4487  2026-09-01T12:05:02Z  deploy@ci  /max  0  "rollout 88"`
fn human(context: &mut Context, parts: &[Part]) -> Done {
    let room = if context.verbose { usize::MAX } else { VALUE_ROOM };
    let actor = |part: &Part| {
        let meta = part.since.meta.as_deref();
        meta.and_then(|meta| meta.actor.as_ref()).map(|actor| escape(actor).into_owned()).unwrap_or_default()
    };
    let name = |part: &Part| escape(&part.place.name()).into_owned();
    let width = |text: &dyn Fn(&Part) -> String| {
        let widths = parts.iter().map(|part| cells(&text(part)));
        widths.max().unwrap_or(0).min(WIDEST)
    };
    let (seqs, actors) = (width(&|part| part.since.seq.to_string()), width(&actor));
    let (names, values) = (width(&name), width(&|part| part.text(room)));
    for part in parts {
        let time = context.out.paint(DIM, &context.times.date(part.since.at));
        let reason = part.since.meta.as_deref().and_then(|meta| meta.reason.as_deref());
        let reason = reason.map(|reason| format!("  \"{}\"", escape(reason))).unwrap_or_default();
        let name = match part.place {
            Place::Leaf(_) => format!("{}  ", left(&name(part), names)),
            Place::Line(..) => format!("{}  ", right(&name(part), names)),
            Place::Whole => String::new(),
        };
        let (seq, actor) = (part.since.seq.as_u64(), left(&actor(part), actors));
        let value = left(&part.text(room), values);
        let line = format!("{seq:>seqs$}  {time}  {actor}  {name}{value}{reason}");
        context.out.line(&line)?;
    }
    Ok(())
}

impl Part {
    fn field(&self) -> String {
        match self.place {
            Place::Line(..) => {
                let line = String::from_utf8_lossy(&self.value);
                escape_field(line.strip_suffix('\n').unwrap_or(&line)).into_owned()
            }
            _ => Encoded::of(&self.value).field(),
        }
    }

    fn text(&self, room: usize) -> String {
        match self.place {
            Place::Line(..) => {
                let line = String::from_utf8_lossy(&self.value);
                escape_lines(line.strip_suffix('\n').unwrap_or(&line)).into_owned()
            }
            _ => brief(&self.value, room),
        }
    }
}
