//! `ustate consumers`

use clap::{Args, Subcommand};
use univrs_state::consumer::ConsumerInfo;
use univrs_state::history::Point as Place;
use univrs_state::{Batch, Cursor, LocalStore, StateStore};

use crate::context::{Context, may_write};
use crate::escape::{escape, escape_field};
use crate::json::Object;
use crate::origin::Origin;
use crate::output::Format;
use crate::plan::of_consumer;
use crate::point::{Point, parse_name};
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, fail};
use crate::time::{rfc3339, span};
use crate::value::count;
use crate::width::{left, width as cells};

/// The widest column of names and patterns.
const WIDEST: usize = 40;

const EXAMPLES: &str = "\
Examples:
  ustate consumers
  ustate consumers reset billing --to head -m 'skip the backlog'
  ustate consumers remove billing";

/// List, move and remove the readers whose position the store keeps.
///
/// A consumer holds back 'ustate compact': what it has not read is not dropped, until it was not heard of for as long as
/// it holds. Without a verb, this lists them: the name, the position, how many changes the log has after it, the keys, and
/// for how long it holds. Fields of -o tsv: name, seq, lag, pattern, seconds of the hold, holds or passed, when the
/// position was recorded; of reset name, seq; of remove name.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Consumers {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Reset(Reset),
    Remove(Remove),
}

/// List the consumers, and how far they are.
#[derive(Debug, Args)]
struct List {}

/// Move a consumer: it goes on with the commits after the point, forward or back.
///
/// Whoever has it open is refused from then on, and opens it again.
#[derive(Debug, Args)]
struct Reset {
    /// The name.
    #[arg(value_parser = parse_name)]
    name: String,
    /// The point ('ustate --help').
    #[arg(long, value_name = "POINT")]
    to: Point,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

/// Remove a consumer, which then holds nothing back. Its history stays in the log.
#[derive(Debug, Args)]
struct Remove {
    /// The name.
    #[arg(value_parser = parse_name)]
    name: String,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

impl Consumers {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "consumers")?;
        match self.verb {
            None | Some(Verb::List(List {})) => list(context).await,
            Some(Verb::Reset(reset)) => reset.run(context).await,
            Some(Verb::Remove(remove)) => remove.run(context).await,
        }
    }
}

impl Reset {
    async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        let source = context.open_to_rehearse(&self.origin.meta()).await?;
        let known = find(context, &source, &self.name).await?;
        let head = self.to.past(context, &source).await?.head();
        if self.dry_run {
            source.local().rehearse(Batch::new().meta(self.origin.meta())).await?;
        } else {
            source.close().await?;
            let store = context.open_to_write(&self.origin.meta()).await?;
            store.with_meta(self.origin.meta()).reset_consumer(&self.name, Place::Anchor(head)).await?;
            context.close(&store).await;
        }
        match context.format {
            Format::Human if context.quiet => Ok(()),
            Format::Human => {
                let done = if self.dry_run { "would move" } else { "moved" };
                let from = known.cursor.seq();
                context.out.line(&format!("{done} {} from {from} to {}", escape(&self.name), head.seq))
            }
            Format::Tsv => context.out.fields([&*escape_field(&self.name), &head.seq.to_string()]),
            _ => {
                let object = Object::of_type("consumer").text("name", &self.name);
                let object = object.number("from", known.cursor.seq().as_u64());
                let object = object.number("seq", head.seq.as_u64());
                let cursor = Cursor::new(source.store_id(), head).to_string();
                let object = object.text("cursor", &cursor);
                context.out.line(&dry(object, self.dry_run))
            }
        }
    }
}

impl Remove {
    async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        let source = context.open_to_rehearse(&self.origin.meta()).await?;
        find(context, &source, &self.name).await?;
        if self.dry_run {
            source.local().rehearse(Batch::new().meta(self.origin.meta())).await?;
        } else {
            source.close().await?;
            let store = context.open_to_write(&self.origin.meta()).await?;
            let removed = store.with_meta(self.origin.meta()).remove_consumer(&self.name).await?;
            context.close(&store).await;
            if !removed {
                return fail(unknown(context, &self.name));
            }
        }
        match context.format {
            Format::Human if context.quiet => Ok(()),
            Format::Human => {
                let done = if self.dry_run { "would remove" } else { "removed" };
                context.out.line(&format!("{done} the consumer {}", escape(&self.name)))
            }
            Format::Tsv => context.out.fields([&*escape_field(&self.name)]),
            _ => {
                let object = Object::of_type("consumer").text("name", &self.name);
                context.out.line(&dry(object.flag("removed", !self.dry_run), self.dry_run))
            }
        }
    }
}

fn dry(object: Object, dry_run: bool) -> String {
    if dry_run { object.flag("dry_run", true) } else { object }.finish()
}

async fn find(context: &Context, source: &Source, name: &str) -> Done<ConsumerInfo> {
    let found = source.consumers().await?.into_iter().find(|consumer| consumer.name == name);
    found.ok_or_else(|| unknown(context, name).into())
}

fn unknown(context: &Context, name: &str) -> Failure {
    let failure = Failure::new(Exit::No, "unknown_consumer", format!("there is no consumer {name}"));
    failure.hint(context.hint("consumers"))
}

async fn list(context: &mut Context) -> Done {
    let source = context.open().await?;
    let (consumers, floor) = (source.consumers().await?, source.local().floor().await?.seq);
    let width = |column: fn(&ConsumerInfo) -> String| {
        consumers.iter().map(|consumer| cells(&column(consumer)).min(WIDEST)).max().unwrap_or_default()
    };
    let name = |consumer: &ConsumerInfo| escape(&consumer.name).into_owned();
    let seq = |consumer: &ConsumerInfo| consumer.cursor.seq().to_string();
    let pattern = |consumer: &ConsumerInfo| escape(&consumer.pattern).into_owned();
    let lag = |consumer: &ConsumerInfo| count(consumer.lag);
    let [names, seqs, lags, patterns] = [width(name), width(seq), width(lag), width(pattern)];
    for consumer in &consumers {
        let hold = match (consumer.cursor.seq() < floor, consumer.holds) {
            (true, _) => "has lost its place".to_owned(),
            (_, true) => format!("holds for {}", span(consumer.hold)),
            (_, false) => format!("held for {}", span(consumer.hold)),
        };
        let (shown, keys) = (left(&name(consumer), names), left(&pattern(consumer), patterns));
        match context.format {
            Format::Human => context.out.line(&format!(
                "{shown}  {:>seqs$}  {:>lags$} behind  {keys}  {hold}",
                seq(consumer),
                lag(consumer)
            ))?,
            Format::Tsv => context.out.fields([
                &*escape_field(&consumer.name),
                &seq(consumer),
                &consumer.lag.to_string(),
                &*escape_field(&consumer.pattern),
                &consumer.hold.as_secs().to_string(),
                if consumer.holds { "holds" } else { "passed" },
                &rfc3339(consumer.recorded),
            ])?,
            _ => context.out.line(&of_consumer(Object::of_type("consumer"), consumer))?,
        }
    }
    if consumers.is_empty() {
        context.out.flush()?;
        context.note("there are no consumers");
    }
    Ok(())
}
