//! `ustate history`

use clap::Args;
use univrs_state::{Change, ChangeKind, Seq, validate_key};

use crate::as_of::AsOf;
use crate::context::Context;
use crate::escape::escape;
use crate::json;
use crate::output::{DIM, Format};
use crate::rows::{Row, VALUE_ROOM};
use crate::stop::{Done, Exit, Failure, fail};
use crate::value::brief;

/// Changes that are read at a time.
const PAGE: usize = 200;

const EXAMPLES: &str = "\
Examples:
  ustate history /nodes/n1 -n 5";

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
    #[command(flatten)]
    as_of: AsOf,
}

impl History {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "history")?;
        validate_key(&self.key)?;
        let state = self.as_of.open(context).await?;
        let (mut before, mut left) = (state.at().map(Seq::next), self.count.unwrap_or(usize::MAX));
        let mut found = false;
        while left > 0 {
            let changes = state.source.history(&self.key, before, left.min(PAGE)).await?;
            if changes.is_empty() {
                break;
            }
            found = true;
            before = changes.last().map(|change| change.seq);
            left -= changes.len();
            print(context, &changes)?;
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

fn human(context: &mut Context, changes: &[Change]) -> Done {
    let room = if context.verbose { usize::MAX } else { VALUE_ROOM };
    let texts: Vec<[String; 3]> = changes.iter().map(|change| texts(change, room)).collect();
    let width = |i: usize| {
        let widths = texts.iter().filter_map(|texts| texts.get(i)).map(|text| text.chars().count());
        widths.max().unwrap_or(0).min(VALUE_ROOM)
    };
    let (actors, values) = (width(0), width(1));
    let seqs = changes.first().map_or(0, |newest| newest.seq.to_string().len());
    for (change, [actor, value, reason]) in changes.iter().zip(&texts) {
        let time = context.out.paint(DIM, &context.times.date(change.at));
        let line =
            format!("{:>seqs$}  {time}  {actor:<actors$}  {value:<values$}   {reason}", change.seq.as_u64());
        context.out.line(&line)?;
    }
    Ok(())
}

/// Who, what and why.
fn texts(change: &Change, room: usize) -> [String; 3] {
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
    [said(meta.and_then(|meta| meta.actor.as_ref())), value, said(meta.and_then(|meta| meta.reason.as_ref()))]
}
