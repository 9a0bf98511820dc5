//! `ustate history`

use clap::Args;
use univrs_state::Seq;
use univrs_state::key::validate_key;
use univrs_state::log::{Change, ChangeKind};

use crate::as_of::AsOf;
use crate::context::Context;
use crate::delta::Delta;
use crate::escape::escape;
use crate::json;
use crate::output::{DIM, Format, Output};
use crate::rows::{Row, VALUE_ROOM};
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, fail};
use crate::value::brief;
use crate::width::{left, width as cells};

/// Changes that are read at a time.
const PAGE: usize = 200;

const EXAMPLES: &str = "\
Examples:
  ustate history /nodes/n1 -n 5
  ustate history /nodes/n1 --diff";

/// Show the changes of a key, newest first.
///
/// Deletions are among them. Fields of -o tsv: seq, time, kind, key, encoding, value, actor,
/// reason.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct History {
    /// The key.
    key: String,
    /// At most so many changes.
    #[arg(short = 'n', value_name = "N")]
    count: Option<usize>,
    /// Show how each change differs from the value before, instead of the value.
    #[arg(long)]
    diff: bool,
    #[command(flatten)]
    as_of: AsOf,
}

impl History {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "history")?;
        if self.diff {
            context.refuse(Format::Tsv, "history --diff")?;
        }
        validate_key(&self.key)?;
        let state = self.as_of.open(context).await?;
        let (mut before, mut left) = (state.at().map(Seq::next), self.count.unwrap_or(usize::MAX));
        let mut found = false;
        while left > 0 {
            let (changes, gone) = state.source.changes_of(&self.key, before, left.min(PAGE)).await?;
            if gone && !found {
                // Says why.
                state.source.history(&self.key, before, 1).await?;
            }
            if changes.is_empty() {
                if gone {
                    context.out.flush()?;
                    context.note("the history before that is gone");
                }
                break;
            }
            found = true;
            before = changes.last().map(|change| change.seq);
            left -= changes.len();
            if self.diff {
                let last = changes.last().filter(|last| last.kind != ChangeKind::Created);
                let older = match last {
                    Some(last) => previous(&state.source, &last.key, last.seq).await?,
                    None => None,
                };
                print_diff(context, &changes, older.as_ref())?;
            } else {
                print(context, &changes)?;
            }
            context.out.flush()?;
        }
        if !found && left > 0 {
            let what = match state.at() {
                Some(at) => format!("{} had no history at {at}", self.key),
                None => format!("{} does not exist and never did", self.key),
            };
            return fail(Failure::new(Exit::No, "key_not_found", what));
        }
        Ok(())
    }
}

fn print(context: &mut Context, changes: &[Change]) -> Done {
    match context.format {
        Format::Human => human(context, changes),
        Format::Tsv => changes.iter().try_for_each(|change| {
            let row = Row::of_change(change, String::new());
            context.out.fields(row.fields(change.at).each_ref().map(String::as_str))
        }),
        _ => changes.iter().try_for_each(|change| context.out.line(&json::change(change))),
    }
}

/// The change before; none where the log does not have it any longer.
pub(crate) async fn previous(source: &Source, key: &str, seq: Seq) -> Done<Option<Change>> {
    let (changes, _) = source.changes_of(key, Some(seq), 1).await?;
    Ok(changes.into_iter().next())
}

/// Prints changes with what each of them changed; `older` is the change before the last of them.
fn print_diff(context: &mut Context, changes: &[Change], older: Option<&Change>) -> Done {
    let before = changes.iter().skip(1).map(Some).chain([older]);
    let pairs = changes.iter().zip(before).map(|(change, before)| {
        // A new life begins with nothing.
        (change, before.filter(|_| change.kind != ChangeKind::Created))
    });
    if context.format == Format::Human {
        let room = if context.verbose { usize::MAX } else { VALUE_ROOM };
        let texts = pairs.map(|(change, before)| diff_texts(change, before, room, &context.out)).collect();
        return align(context, changes, texts);
    }
    for (change, before) in pairs {
        let object = json::change_object(change);
        let object = match before {
            Some(before) => object.raw("before", &json::change_object(before).finish()),
            None => object,
        };
        context.out.line(&object.finish())?;
    }
    Ok(())
}

fn human(context: &mut Context, changes: &[Change]) -> Done {
    let room = if context.verbose { usize::MAX } else { VALUE_ROOM };
    align(context, changes, changes.iter().map(|change| Texts::of(change, room)).collect())
}

/// What the columns of a line say.
struct Texts {
    actor: String,
    value: String,
    reason: String,
    /// Lines below it.
    below: Vec<String>,
}

impl Texts {
    fn of(change: &Change, room: usize) -> Self {
        let said = |text: Option<&String>| text.map(|text| escape(text).into_owned()).unwrap_or_default();
        let meta = change.meta.as_deref();
        let value = match &change.value {
            Some(value) => brief(value, room),
            None if change.is_erased() => "(erased)".into(),
            None => String::new(),
        };
        let value = match change.kind {
            ChangeKind::Created => format!("created {value}"),
            ChangeKind::Updated => value,
            ChangeKind::Deleted => "deleted".into(),
        };
        Self {
            actor: said(meta.and_then(|meta| meta.actor.as_ref())),
            value,
            reason: said(meta.and_then(|meta| meta.reason.as_ref())),
            below: Vec::new(),
        }
    }
}

fn diff_texts(change: &Change, before: Option<&Change>, room: usize, out: &Output) -> Texts {
    let mut texts = Texts::of(change, room);
    let old = before.and_then(|before| before.value.as_deref());
    match (old, change.value.as_deref()) {
        (Some(old), Some(new)) => {
            let delta = Delta::of(old, new);
            texts.value = delta.inline(room.min(VALUE_ROOM)).unwrap_or_else(|| {
                texts.below = delta.lines(room, out);
                delta.sum()
            });
        }
        (Some(old), None) if change.kind == ChangeKind::Deleted => {
            texts.value = format!("deleted {}", brief(old, room));
        }
        _ => {}
    }
    texts
}

fn align(context: &mut Context, changes: &[Change], texts: Vec<Texts>) -> Done {
    let width = |column: fn(&Texts) -> &String| {
        let widths = texts.iter().map(|texts| cells(column(texts)));
        widths.max().unwrap_or(0).min(VALUE_ROOM)
    };
    let (actors, values) = (width(|texts| &texts.actor), width(|texts| &texts.value));
    let seqs = changes.first().map_or(0, |newest| newest.seq.to_string().len());
    for (change, Texts { actor, value, reason, below }) in changes.iter().zip(texts) {
        let time = context.out.paint(DIM, &context.times.date(change.at));
        let (actor, value) = (left(&actor, actors), left(&value, values));
        let line = format!("{:>seqs$}  {time}  {actor}  {value}   {reason}", change.seq.as_u64());
        context.out.line(&line)?;
        below.iter().try_for_each(|line| context.out.line(&format!("    {line}")))?;
    }
    Ok(())
}
