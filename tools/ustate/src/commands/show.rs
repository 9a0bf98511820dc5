//! `ustate show`

use clap::Args;
use univrs_state::Seq;
use univrs_state::log::{Change, ChangeKind, Commit};

use super::history::previous;
use crate::context::Context;
use crate::delta::Delta;
use crate::escape::{escape, escape_key};
use crate::json;
use crate::output::{DIM, Format};
use crate::point::Point;
use crate::rows::{Row, VALUE_ROOM};
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, fail};
use crate::value::{brief, size, whole};

const EXAMPLES: &str = "\
Examples:
  ustate show head --diff
  ustate show 1 -o raw > first.value";

/// Show changes in full.
///
/// -o raw writes the value alone, to the byte. Fields of -o tsv: seq, time, kind, key, encoding,
/// value, actor, reason.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Show {
    /// Their places in the log: 4711 or hash:9f2c, also inside a commit; head~10, a mark or a time for the
    /// last change of the commit there ('ustate --help').
    #[arg(required = true, value_name = "SEQ")]
    seqs: Vec<Point>,
    /// Show how each change differs from the value before, instead of the value.
    #[arg(long)]
    diff: bool,
}

impl Show {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        if context.format == Format::Raw && self.seqs.len() > 1 {
            return fail(Failure::usage("raw output is that of one change only"));
        }
        if self.diff {
            context.refuse(Format::Raw, "show --diff")?;
            context.refuse(Format::Tsv, "show --diff")?;
        }
        let source = context.open().await?;
        let head = source.head().await?.seq;
        let mut last = None;
        for (i, point) in self.seqs.iter().enumerate() {
            let seq = point.change(context, &source, head).await?;
            // The changes of one commit, which may be large, are read once.
            let (commit, change) = match last.take().and_then(|commit| part(commit, seq)) {
                Some(found) => found,
                None => find(context, &source, head, seq).await?,
            };
            let before = if self.diff { before(&source, &change).await? } else { None };
            match context.format {
                Format::Human => {
                    if i > 0 {
                        context.out.line("")?;
                    }
                    facts(context, &commit, &change)?;
                    match &before {
                        _ if !self.diff => value(context, &change)?,
                        before => differences(context, before.as_ref(), &change)?,
                    }
                }
                Format::Raw => match &change.value {
                    Some(value) => context.out.bytes(value)?,
                    None => return fail(no_value(&change)),
                },
                Format::Tsv => {
                    let row = Row::of_change(&change, String::new());
                    context.out.fields(row.fields(change.at).each_ref().map(String::as_str))?;
                }
                Format::Json | Format::Ndjson => {
                    let object = json::change_object(&change);
                    let object = match &before {
                        Some(before) => object.raw("before", &json::change_object(before).finish()),
                        None => object,
                    };
                    context.out.line(&object.finish())?;
                }
            }
            last = Some(commit);
        }
        Ok(())
    }
}

/// A change of a commit, with the commit; none if the commit does not have it.
fn part(commit: Commit, seq: Seq) -> Option<(Commit, Change)> {
    let change = commit.changes.iter().find(|change| change.seq == seq)?.clone();
    Some((commit, change))
}

/// A change and the commit that it is part of.
async fn find(context: &Context, source: &Source, head: Seq, seq: Seq) -> Done<(Commit, Change)> {
    if seq > Seq::ZERO && seq <= head {
        // A place within a commit counts as the one before it.
        let commit = source.changes(seq.previous(), 1).await?.into_iter().next();
        if let Some(found) = commit.and_then(|commit| part(commit, seq)) {
            return Ok(found);
        }
    }
    if seq > source.floor() && seq <= head && source.withheld() > 0 {
        let what = format!("change {seq} is withheld from this export; the hash of its header remains");
        return fail(Failure::new(Exit::HistoryGone, "erased", what));
    }
    let failure = Failure::new(Exit::No, "change_not_found", format!("there is no change {seq}"));
    fail(failure.fact(format!("the log ends at {head}")).hint(context.hint("log -n 10")))
}

fn no_value(change: &Change) -> Failure {
    let what = format!("change {} {} {} and has no value", change.seq, change.kind, change.key);
    Failure::new(Exit::No, "no_value", what)
}

/// The change that gave the key its value before; none if it had none.
async fn before(source: &Source, change: &Change) -> Done<Option<Change>> {
    match change.kind {
        ChangeKind::Created => Ok(None),
        _ => previous(source, &change.key, change.seq).await,
    }
}

fn facts(context: &mut Context, commit: &Commit, change: &Change) -> Done {
    let mut facts = vec![
        ("change", format!("{} {} {}", change.seq, context.out.kind(change.kind), escape_key(&change.key))),
        ("version", change.version.to_string()),
        ("at", context.times.exact(change.at)),
    ];
    facts.extend(change.until.map(|until| ("until", context.times.until(until))));
    if let Some(meta) = change.meta.as_deref() {
        let cause = meta.cause().map(str::to_owned);
        let said = [
            ("actor", &meta.actor),
            ("reason", &meta.reason),
            ("correlation", &meta.correlation),
            ("cause", &cause),
        ];
        facts.extend(
            said.into_iter().filter_map(|(name, text)| Some((name, escape(text.as_ref()?).into_owned()))),
        );
        let labels = meta
            .labels
            .iter()
            .map(|(name, value)| ("label", escape(&format!("{name} = {value}")).into_owned()));
        facts.extend(labels);
    }
    let changes = commit.changes.len();
    if changes > 1 {
        facts.push(("commit", format!("{} to {} ({changes} changes)", commit.first, commit.last)));
    }
    if change.prev > Seq::ZERO {
        facts.push(("previous", change.prev.to_string()));
    }
    facts.push(("hash", change.hash.to_string()));
    if let Some(value) = &change.value {
        facts.push(("size", size(value.len() as u64)));
    }
    for (name, fact) in facts {
        let name = context.out.paint(DIM, &format!("{name:<11}"));
        context.out.line(&format!("{name} {fact}"))?;
    }
    Ok(())
}

/// What is different from before, a line each.
fn differences(context: &mut Context, before: Option<&Change>, change: &Change) -> Done {
    let room = if context.verbose { usize::MAX } else { VALUE_ROOM };
    let old = before.and_then(|before| before.value.as_deref());
    let lines = match (old, change.value.as_deref()) {
        (Some(old), Some(new)) => Delta::of(old, new).lines(room, &context.out),
        (old, new) => {
            let text = |value: Option<&[u8]>, erased| match value {
                Some(value) => brief(value, room),
                None if erased => "(erased)".into(),
                None => "(absent)".into(),
            };
            let old = text(old, before.is_some_and(Change::is_erased));
            vec![format!("{old} → {}", text(new, change.is_erased()))]
        }
    };
    context.out.line("")?;
    lines.iter().try_for_each(|line| context.out.line(line))
}

fn value(context: &mut Context, change: &Change) -> Done {
    match &change.value {
        Some(value) => {
            let (text, note) = whole(value);
            context.out.line(&format!("\n{}", text.trim_end_matches('\n')))?;
            context.out.flush()?;
            if let Some(note) = note {
                context.note(note);
            }
            Ok(())
        }
        None if change.is_erased() => context.out.line("\n(the value was erased)"),
        None => Ok(()),
    }
}
