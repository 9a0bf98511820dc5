//! `ustate thin`

use clap::Args;
use univrs_state::history::Point as Place;
use univrs_state::pattern::Pattern;
use univrs_state::retain::{Retention, Thin as Request, Thinned, ThinningPlan};
use univrs_state::{Batch, Head, StateError, StateStore};

use crate::confirm::confirm;
use crate::context::{Context, may_write};
use crate::escape::{escape, escape_field};
use crate::interrupt::interruptible;
use crate::json::Object;
use crate::origin::Origin;
use crate::output::Format;
use crate::plan::{consumer_in_the_way, of_consumer};
use crate::point::Point;
use crate::progress::{Progress, Unit};
use crate::selection::parse_pattern;
use crate::stop::{Done, Failure, fail};
use crate::value::{counted, size};

const EXAMPLES: &str = "\
Examples:
  ustate thin '/metrics/**' --at 7d-ago --dry-run
  ustate thin '/metrics/**' --at 7d-ago --keep 3 --yes -m 'old values are large'
  ustate thin --resume";

/// Drop the values of what was replaced before a point, for good.
///
/// That a key changed, when, by whom and why stays, with the hash of the value. The state at the point and everything after
/// it stay as they are. Without --yes it asks first. Readers and writers go on meanwhile. If it is cut off, 'ustate thin
/// --resume' finishes it. Exit code 1 says that a consumer is in the way. Fields of -o tsv: at, values, bytes; with
/// --dry-run then consumer, name, seq, holds or passed.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // switches of a command line
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Thin {
    /// Of which keys; keys below /.univrs/ keep theirs.
    #[arg(value_name = "PATTERN", required_unless_present = "resume", conflicts_with = "resume")]
    pattern: Option<String>,
    /// The point: the end of a commit ('ustate --help').
    #[arg(long, value_name = "POINT", required_unless_present = "resume", conflicts_with = "resume")]
    at: Option<Point>,
    /// How many versions of each key keep their values, counted back from the newest one at the point.
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "resume", value_parser = clap::value_parser!(u64).range(1..))]
    keep: u64,
    /// Also where a consumer is not done with it.
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// Finish a thinning that was cut off.
    #[arg(long)]
    resume: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Say what would be done, and who is in the way, and do nothing.
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

impl Thin {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        context.refuse(Format::Raw, "thin")?;
        let (Some(pattern), Some(point)) = (&self.pattern, &self.at) else {
            return self.resume(context).await;
        };
        let pattern = parse_pattern(pattern)?;
        let source = context.open_to_rehearse(&self.origin.meta()).await?;
        let at = point.past(context, &source).await?.head();
        let progress = Progress::of(context, "planning", Unit::Changes);
        let request = self.request(at, &pattern).progress(move |at| progress.at(at.done, at.total));
        let plan = source.plan_thinning(request).await?;
        if self.dry_run {
            // The metadata can be refused, too.
            source.local().rehearse(Batch::new().meta(self.origin.meta())).await?;
            self.planned(context, &plan)?;
            context.out.flush()?;
        }
        if !self.force && plan.consumers.iter().any(|consumer| consumer.holds) {
            let what = format!("the log cannot be thinned up to {} as it is", at.seq);
            let failure = Failure::of(&StateError::Held(what));
            let named = self.dry_run && context.format == Format::Human;
            let facts = plan
                .consumers
                .iter()
                .filter(|_| !named)
                .map(|consumer| consumer_in_the_way(consumer, self.force));
            return fail(facts.fold(failure, Failure::fact).hint(context.hint("consumers")));
        }
        if self.dry_run {
            return Ok(());
        }
        if !self.yes {
            let much = format!("{} ({})", counted(plan.values, "value"), size(plan.bytes));
            confirm(
                &format!("drop {much} up to {} for good", at.seq),
                "--yes drops them without asking, --dry-run says who is in the way",
                "dropped",
            )?;
        }
        source.close().await?;
        let store = context.open_to_write(&self.origin.meta()).await?;
        let progress = Progress::of(context, "thinning", Unit::Changes);
        let request = self.request(at, &pattern).progress(move |at| progress.at(at.done, at.total));
        let handle = store.with_meta(self.origin.meta());
        let thinned = interruptible(context, &store, "thin --resume", handle.thin(request)).await?;
        context.close(&store).await;
        report(context, &thinned)
    }

    fn request(&self, at: Head, pattern: &Pattern) -> Request {
        let request = Request::at(Place::Anchor(at), pattern.clone()).keep(self.keep);
        if self.force { request.force() } else { request }
    }

    /// Finishes a thinning that was cut off.
    async fn resume(&self, context: &mut Context) -> Done {
        let store = context.open_to_write(&self.origin.meta()).await?;
        let handle = store.with_meta(self.origin.meta());
        let thinned = interruptible(context, &store, "thin --resume", handle.resume_thinning()).await?;
        context.close(&store).await;
        let Some(thinned) = thinned else {
            context.note("no thinning was cut off, so there is nothing to finish");
            return Ok(());
        };
        report(context, &thinned)
    }

    fn planned(&self, context: &mut Context, plan: &ThinningPlan) -> Done {
        let ThinningPlan { at, values, bytes, consumers, .. } = plan;
        match context.format {
            Format::Human => {
                let much = format!("{} ({})", counted(*values, "value"), size(*bytes));
                context.out.line(&format!("would drop {much} up to {}, and keep their changes", at.seq))?;
                let lines = consumers.iter().map(|consumer| consumer_in_the_way(consumer, self.force));
                lines.into_iter().try_for_each(|line| context.out.line(&format!("  {}", escape(&line))))
            }
            Format::Tsv => {
                let numbers = [at.seq.as_u64(), *values, *bytes].map(|number| number.to_string());
                context.out.fields(numbers.each_ref().map(String::as_str))?;
                consumers.iter().try_for_each(|consumer| {
                    let holds = if consumer.holds { "holds" } else { "passed" };
                    let seq = consumer.cursor.seq().to_string();
                    context.out.fields(["consumer", &escape_field(&consumer.name), &seq, holds])
                })
            }
            _ => {
                let consumers = consumers.iter().map(|consumer| of_consumer(Object::nested(), consumer));
                let object = object(at, *values, *bytes).flag("dry_run", true);
                context.out.line(&object.list("consumers", consumers).finish())
            }
        }
    }
}

fn object(at: &Head, values: u64, bytes: u64) -> Object {
    Object::of_type("thinning").text("at", &at.to_string()).number("values", values).number("bytes", bytes)
}

fn report(context: &mut Context, thinned: &Thinned) -> Done {
    let Thinned { at, values, bytes, .. } = thinned;
    match context.format {
        Format::Human if context.quiet => Ok(()),
        Format::Human => context.out.line(&outcome(thinned)),
        Format::Tsv => {
            let numbers = [at.seq.as_u64(), *values, *bytes].map(|number| number.to_string());
            context.out.fields(numbers.each_ref().map(String::as_str))
        }
        _ => context.out.line(&object(at, *values, *bytes).finish()),
    }
}

/// What a thinning did: `dropped 1 200 values (3 MiB) up to 300`
pub(crate) fn outcome(thinned: &Thinned) -> String {
    let Thinned { at, values, bytes, .. } = thinned;
    format!("dropped {} ({}) up to {}", counted(*values, "value"), size(*bytes), at.seq)
}
