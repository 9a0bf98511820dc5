//! `ustate diff`

use std::path::PathBuf;

use clap::Args;
use univrs_state::StateError;
use univrs_state::history::Past;
use univrs_state::log::{Change, ChangeKind};

use crate::context::Context;
use crate::delta::{Delta, patch};
use crate::escape::{escape_field, escape_key};
use crate::json::{Object, plain};
use crate::leaves::{below, compare, parse};
use crate::output::Format;
use crate::pairs::{Pair, Pairs};
use crate::point::{Point, Range};
use crate::rows::{VALUE_ROOM, origin};
use crate::selection::{Selection, parse_selection, sort_out};
use crate::source::Source;
use crate::stop::{Done, Failure, Stop, fail};
use crate::strict::is_strict;
use crate::time::rfc3339;
use crate::value::{Encoded, brief, counted, size};
use crate::width::{left, width as cells};

/// The widest column of keys.
const WIDEST: usize = 40;

const EXAMPLES: &str = "\
Examples:
  ustate diff 2h-ago..
  ustate diff head~100..head '/config/**' --stat
  ustate diff 0.. --json-patch > all.patch.json";

/// Show what is different between two states.
///
/// JSON values are compared leaf by leaf, other text line by line; a key that has the same value again
/// is not shown. With --with the first state is that of this store, the second that of another. Exit
/// code 1 says that there are differences, if --exit-code asks for it. Fields of -o tsv: kind, key,
/// encoding and value before, encoding and value after; with --stat kind, key, bytes before, bytes
/// after.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // switches of a command line
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Diff {
    /// The two states, A..B, each a point ('ustate --help'), and patterns of keys. Without A it is the
    /// empty store, without B the end of the log; with --with both are ends.
    #[arg(value_name = "A..B|PATTERN", value_parser = parse_selection)]
    select: Vec<Selection>,
    /// Compare with this store or export.
    #[arg(long, value_name = "PATH")]
    with: Option<PathBuf>,
    /// How large the values are, and how many there are.
    #[arg(long)]
    stat: bool,
    /// The keys alone.
    #[arg(long, conflicts_with = "stat")]
    name_only: bool,
    /// A JSON patch (RFC 6902) of the state as one object, whose names are the keys.
    #[arg(long, conflicts_with_all = ["stat", "name_only"])]
    json_patch: bool,
    /// Exit with 1 if there are differences.
    #[arg(long)]
    exit_code: bool,
}

/// How many keys there are of each kind.
#[derive(Default)]
struct Sum {
    created: u64,
    updated: u64,
    deleted: u64,
}

impl Sum {
    fn keys(&self) -> u64 {
        self.created + self.updated + self.deleted
    }

    fn count(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Created => self.created += 1,
            ChangeKind::Updated => self.updated += 1,
            ChangeKind::Deleted => self.deleted += 1,
        }
    }
}

impl Diff {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        if context.format == Format::Raw && !self.name_only && !self.json_patch {
            context.refuse(Format::Raw, "diff")?;
        }
        let (patterns, range) = sort_out(&self.select)?;
        let sum = if let Some(path) = &self.with {
            let (source, other) = context.open_beside(path).await?;
            let Range { after, to } = range.unwrap_or_default();
            let (from, to) = (end(context, &source, after).await?, end(context, &other, to).await?);
            self.show(context, Pairs::across((&source, &from), (&other, &to), &patterns)).await?
        } else {
            let Some(Range { after, to }) = range else {
                let failure = Failure::usage("two points are needed, A..B, or another store");
                return fail(
                    failure.fact("2h-ago.. is what has changed since").hint(context.hint("diff head~10..")),
                );
            };
            let source = context.open().await?;
            let from = match after {
                Some(point) => point.start(context, &source).await?,
                None => source.at(source.floor().into()).await?,
            };
            let to = end(context, &source, to).await?;
            self.show(context, Pairs::within(&source, &from, &to, &patterns)).await?
        };
        if sum.keys() > 0 {
            return if self.exit_code { Err(Stop::No) } else { Ok(()) };
        }
        context.out.flush()?;
        context.note("nothing is different");
        Ok(())
    }

    async fn show(&self, context: &mut Context, mut pairs: Pairs<'_>) -> Done<Sum> {
        let mut sum = Sum::default();
        let (mut width, mut separator) = (0, "\n");
        if self.json_patch {
            context.out.bytes(b"[")?;
        }
        while let Some(page) = pairs.next().await? {
            let widths = page.iter().map(|pair| cells(&escape_key(&pair.key)));
            width = widths.filter(|width| *width <= WIDEST).fold(width, usize::max);
            for pair in &page {
                sum.count(pair.kind());
                match context.format {
                    _ if self.json_patch => {
                        for operation in operations(pair)? {
                            context.out.bytes(format!("{separator}{operation}").as_bytes())?;
                            separator = ",\n";
                        }
                    }
                    _ if self.name_only => name(context, &pair.key)?,
                    Format::Human if self.stat => stat(context, pair, width)?,
                    Format::Human => human(context, pair, width)?,
                    Format::Tsv => self.tsv(context, pair)?,
                    _ => context.out.line(&self.object(pair))?,
                }
            }
        }
        if self.json_patch {
            context.out.line("\n]")?;
        } else if self.stat && sum.keys() > 0 {
            total(context, &sum)?;
        }
        Ok(sum)
    }

    fn tsv(&self, context: &mut Context, pair: &Pair) -> Done {
        let (kind, key) = (pair.kind().to_string(), escape_field(&pair.key));
        if self.stat {
            let bytes = |change| length(change).map(|bytes| bytes.to_string()).unwrap_or_default();
            return context.out.fields([&kind, &key, &bytes(pair.before.as_ref()), &bytes(pair.now())]);
        }
        let fields = |change: Option<&Change>| match change.map(|change| change.value.as_deref()) {
            Some(Some(value)) => {
                let value = Encoded::of(value);
                (value.name(), value.field())
            }
            Some(None) => ("erased", String::new()),
            None => ("", String::new()),
        };
        let (before, after) = (fields(pair.before.as_ref()), fields(pair.now()));
        context.out.fields([&kind, &*key, before.0, &before.1, after.0, &after.1])
    }

    fn object(&self, pair: &Pair) -> String {
        let object =
            Object::of_type("difference").text("key", &pair.key).text("kind", &pair.kind().to_string());
        let side = |change: &Change| {
            let object = Object::nested()
                .number("seq", change.seq.as_u64())
                .text("at", &rfc3339(change.at))
                .number("version", change.version);
            let object = match &change.value {
                _ if change.kind == ChangeKind::Deleted => object.flag("deleted", true),
                Some(value) if self.stat => object.number("bytes", value.len() as u64),
                Some(value) => object.value(value),
                None => object.flag("erased", true),
            };
            object.meta(change.meta.as_deref()).finish()
        };
        let sides = [("before", &pair.before), ("after", &pair.after)];
        let object = sides.into_iter().fold(object, |object, (name, change)| match change {
            Some(change) => object.raw(name, &side(change)),
            None => object,
        });
        object.finish()
    }
}

/// The state at a point; without one, at the end of the log.
async fn end(context: &Context, source: &Source, point: Option<Point>) -> Done<Past> {
    match point {
        Some(point) => point.past(context, source).await,
        None => Ok(source.at(univrs_state::history::Point::Head).await?),
    }
}

fn name(context: &mut Context, key: &str) -> Done {
    match context.format {
        Format::Human => context.out.line(&escape_key(key)),
        Format::Tsv => context.out.line(&escape_field(key)),
        Format::Raw => context.out.line(key),
        _ => context.out.line(&Object::of_type("key").text("key", key).finish()),
    }
}

/// `updated /cluster/leader  "node-1" → "node-7"  by scheduler@node-7  "failover"`
fn human(context: &mut Context, pair: &Pair, width: usize) -> Done {
    let room = if context.verbose { usize::MAX } else { VALUE_ROOM };
    let text = |change: &Change| match &change.value {
        Some(value) => brief(value, room),
        None => "(erased)".into(),
    };
    let mut below = Vec::new();
    let shown = match (&pair.before, pair.now()) {
        (Some(before), Some(after)) => match (&before.value, &after.value) {
            (Some(old), Some(new)) => {
                let delta = Delta::of(old, new);
                delta.inline(room.min(VALUE_ROOM)).unwrap_or_else(|| {
                    below = delta.lines(room, &context.out);
                    delta.sum()
                })
            }
            _ => format!("{} → {}", text(before), text(after)),
        },
        (before, after) => before.as_ref().or(after).map(text).unwrap_or_default(),
    };
    let by = origin(pair.after.as_ref().and_then(|after| after.meta.as_deref()));
    let (kind, key) = (context.out.kind(pair.kind()), left(&escape_key(&pair.key), width));
    context.out.line(&format!("{kind} {key}  {shown}{by}"))?;
    below.iter().try_for_each(|line| context.out.line(&format!("    {line}")))
}

fn length(change: Option<&Change>) -> Option<u64> {
    change.and_then(|change| change.value.as_ref()).map(|value| value.len() as u64)
}

/// `updated /cluster/leader  8 B → 8 B`
fn stat(context: &mut Context, pair: &Pair, width: usize) -> Done {
    let bytes = |change: &Change| length(Some(change)).map_or("(erased)".into(), size);
    let (before, after) = (pair.before.as_ref().map(bytes), pair.now().map(bytes));
    let sizes: Vec<String> = before.into_iter().chain(after).collect();
    let (kind, key) = (context.out.kind(pair.kind()), left(&escape_key(&pair.key), width));
    context.out.line(&format!("{kind} {key}  {}", sizes.join(" → ")))
}

fn total(context: &mut Context, sum: &Sum) -> Done {
    match context.format {
        Format::Human => {
            let kinds = [(sum.created, "created"), (sum.updated, "updated"), (sum.deleted, "deleted")];
            let kinds: Vec<String> = kinds
                .into_iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, kind)| format!("{number} {kind}"))
                .collect();
            context.out.line(&format!("{}: {}", counted(sum.keys(), "key"), kinds.join(", ")))
        }
        Format::Tsv => Ok(()),
        _ => {
            let object = Object::of_type("total")
                .number("keys", sum.keys())
                .number("created", sum.created)
                .number("updated", sum.updated)
                .number("deleted", sum.deleted);
            context.out.line(&object.finish())
        }
    }
}

/// The operations of a JSON patch for one key.
fn operations(pair: &Pair) -> Done<Vec<String>> {
    let pointer = below("", &pair.key);
    let object = |name: &str| Object::nested().text("op", name).text("path", &pointer);
    let Some(after) = pair.now() else { return Ok(vec![object("remove").finish()]) };
    let Some(new) = &after.value else {
        let gone = format!("the value that change {} gave {} is gone; its hash remains", after.seq, pair.key);
        return Err(StateError::Erased(gone).into());
    };
    let old = pair.before.as_ref().and_then(|before| before.value.as_deref());
    // What is not embedded as JSON is one string in the state, and has no parts.
    let embedded = |value| parse(value).filter(|json| is_strict(json.get()));
    if let (Some(old), Some(new)) = (old.and_then(embedded), embedded(new)) {
        return Ok(patch(&compare(old, new), &pointer));
    }
    let name = if pair.before.is_some() { "replace" } else { "add" };
    Ok(vec![object(name).raw("value", &plain(new)).finish()])
}
