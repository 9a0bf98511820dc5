//! `ustate log`

use clap::Args;
use univrs_state::Seq;
use univrs_state::log::{Change, ChangeKind};
use univrs_state::pattern::Pattern;

use crate::condition::Condition;
use crate::context::Context;
use crate::json;
use crate::output::Format;
use crate::pages::Pages;
use crate::point::Point;
use crate::rows::{Columns, Row};
use crate::selection::{Selection, matches, parse_selection, sort_out};
use crate::source::Source;
use crate::stop::Done;

const EXAMPLES: &str = "\
Examples:
  ustate log '/nodes/**' -n 20
  ustate log head~100.. --actor alice@ops --json
  ustate log '/nodes/**' --where /ready=true -S ready";

/// Show the log, newest first.
///
/// Fields of -o tsv: seq, time, kind, key, encoding, value, actor, reason.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Log {
    /// Patterns of keys, and a range A..B: after A, up to B, each a point ('ustate --help').
    #[arg(value_name = "PATTERN|A..B", value_parser = parse_selection)]
    select: Vec<Selection>,
    /// Only what this actor wrote.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    actor: Option<String>,
    /// Only this kind of change.
    #[arg(long)]
    kind: Option<Kind>,
    /// Only changes with this correlation.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    correlation: Option<String>,
    /// Only changes whose value contains this text.
    #[arg(short = 'S', value_name = "TEXT", allow_hyphen_values = true)]
    contains: Option<String>,
    /// Only changes whose value is JSON that has VALUE where the JSON pointer leads; VALUE is JSON, or a
    /// string as it is.
    #[arg(long = "where", value_name = "POINTER=VALUE")]
    conditions: Vec<Condition>,
    /// At most so many changes.
    #[arg(short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Oldest first.
    #[arg(long)]
    reverse: bool,
    /// As of this point: only what had been recorded by then.
    #[arg(long, value_name = "POINT")]
    at: Option<Point>,
}

/// A kind of change.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    Created,
    Updated,
    Deleted,
}

impl Log {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "log")?;
        let (patterns, range) = sort_out(&self.select)?;
        let source = context.open().await?;
        let (after, mut to) = range.unwrap_or_default().places(context, &source).await?;
        if let Some(point) = &self.at {
            to = to.min(point.past(context, &source).await?.seq());
        }
        let shown = self.show(context, &source, &patterns, (after, to)).await?;
        if shown == 0 {
            context.out.flush()?;
            context.note("no change matches");
        }
        Ok(())
    }

    /// Shows the changes after one place and up to another; returns how many.
    async fn show(
        &self,
        context: &mut Context,
        source: &Source,
        patterns: &[Pattern],
        (after, to): (Seq, Seq),
    ) -> Done<u64> {
        let mut pages = Pages::of(source, patterns, self.reverse, (after, to));
        let most = self.count.unwrap_or(u64::MAX);
        let mut shown = 0;
        let mut columns = Columns::new(to.as_u64(), context.verbose);
        while shown < most
            && let Some(mut changes) = pages.next().await?
        {
            changes.retain(|change| self.selects(patterns, change));
            changes.truncate(usize::try_from(most - shown).unwrap_or(usize::MAX));
            shown += changes.len() as u64;
            print(context, &mut columns, &changes)?;
            context.out.flush()?;
        }
        Ok(shown)
    }

    fn selects(&self, patterns: &[Pattern], change: &Change) -> bool {
        let meta = change.meta.as_deref();
        let kind = self.kind.map(|kind| match kind {
            Kind::Created => ChangeKind::Created,
            Kind::Updated => ChangeKind::Updated,
            Kind::Deleted => ChangeKind::Deleted,
        });
        matches(patterns, &change.key)
            && kind.is_none_or(|kind| change.kind == kind)
            && self.contains.as_ref().is_none_or(|text| contains(change.value.as_deref(), text.as_bytes()))
            && self.conditions.iter().all(|condition| condition.holds(change.value.as_deref()))
            && said(self.actor.as_ref(), meta.and_then(|meta| meta.actor.as_ref()))
            && said(self.correlation.as_ref(), meta.and_then(|meta| meta.correlation.as_ref()))
    }
}

/// Whether a value has these bytes somewhere.
fn contains(value: Option<&[u8]>, bytes: &[u8]) -> bool {
    value.is_some_and(|value| bytes.is_empty() || value.windows(bytes.len()).any(|window| window == bytes))
}

fn said(asked: Option<&String>, found: Option<&String>) -> bool {
    asked.is_none() || asked == found
}

fn print(context: &mut Context, columns: &mut Columns, changes: &[Change]) -> Done {
    let rows: Vec<Row> =
        changes.iter().map(|change| Row::of_change(change, context.times.date(change.at))).collect();
    if context.format == Format::Human {
        for row in &rows {
            columns.widen(row);
        }
    }
    for (row, change) in rows.iter().zip(changes) {
        match context.format {
            Format::Human => {
                let line = columns.line(row, &context.out);
                context.out.line(&line)?;
            }
            Format::Tsv => context.out.fields(row.fields(change.at).each_ref().map(String::as_str))?,
            _ => context.out.line(&json::change(change))?,
        }
    }
    Ok(())
}
