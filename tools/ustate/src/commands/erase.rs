//! `ustate erase`

use clap::Args;
use univrs_state::pattern::Pattern;
use univrs_state::retain::{Erase as Request, Erasure, ErasurePlan, Retention};
use univrs_state::{Batch, Head, StateError, StateStore};

use crate::confirm::confirm;
use crate::context::{Context, may_write, quoted_text};
use crate::escape::{escape, escape_field};
use crate::interrupt::interruptible;
use crate::json::Object;
use crate::origin::Origin;
use crate::output::Format;
use crate::progress::{Progress, Unit};
use crate::selection::{parse_pattern, prefix};
use crate::stop::{Done, Failure, fail};
use crate::value::{counted, size};

const EXAMPLES: &str = "\
Examples:
  ustate erase '/users/7/**' --dry-run
  ustate erase '/users/7/**' --yes -m 'request 1182'
  ustate erase /config/secret --leave-live --yes
  ustate erase --resume";

/// What an erasure does not reach, for people.
const OUT_OF_REACH: &str = "out of reach: key names, metadata, exports, backups, other machines";

/// Erase replaced values and those of deleted keys.
///
/// They are overwritten, so that reads of them say so for ever. Keys that exist are refused unless --leave-live is given:
/// delete them first. That a key changed, when, by whom and why stays, with the hash of the value. It waits for no consumer.
/// It does not reach key names, metadata, exports, backups, other machines, and the free space within pages of the file. If
/// it is cut off, or a reader keeps the values in the write-ahead log (exit code 4), 'ustate erase --resume' finishes it.
/// Exit code 1 says that a key exists. Fields of -o tsv: at, values, bytes; with --dry-run then live, key.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // switches of a command line
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Erase {
    /// Of which keys; keys below /.univrs/ keep theirs.
    #[arg(value_name = "PATTERN", required_unless_present = "resume", conflicts_with = "resume")]
    pattern: Option<String>,
    /// Leave the values that keys have now, and erase those that they had before.
    #[arg(long, conflicts_with = "resume")]
    leave_live: bool,
    /// Finish an erasure that was cut off, and empty the write-ahead log.
    #[arg(long)]
    resume: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Say what would be done, and which keys are in the way, and do nothing.
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

impl Erase {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        context.refuse(Format::Raw, "erase")?;
        let Some(pattern) = &self.pattern else { return self.resume(context).await };
        let pattern = parse_pattern(pattern)?;
        let source = context.open_to_rehearse(&self.origin.meta()).await?;
        let progress = Progress::of(context, "planning", Unit::Changes);
        let request = self.request(&pattern).progress(move |at| progress.at(at.done, at.total));
        let plan = source.plan_erasure(request).await?;
        if self.dry_run {
            // The metadata can be refused, too.
            source.local().rehearse(Batch::new().meta(self.origin.meta())).await?;
            self.planned(context, &plan)?;
            context.out.flush()?;
        }
        if plan.live > 0 && !self.leave_live {
            let what = format!("{} of the pattern {}", counted(plan.live, "key"), exist(plan.live));
            let failure = Failure::of(&StateError::Held(what));
            let named = self.dry_run && context.format == Format::Human;
            let failure = if named { failure } else { failure.fact(names(&plan)) };
            let failure = failure.fact("delete them first, or leave their values with --leave-live");
            let (pattern, prefix) = (pattern.as_str(), prefix(&pattern));
            let keys = if pattern == prefix {
                quoted_text(pattern)
            } else {
                format!("--prefix {}", quoted_text(prefix))
            };
            return fail(failure.hint(context.hint(&format!("delete {keys} --dry-run"))));
        }
        if self.dry_run {
            return Ok(());
        }
        if !self.yes {
            confirm(
                &format!("erase {} ({}) for good", counted(plan.values, "value"), size(plan.bytes)),
                "--yes erases them without asking, --dry-run says which keys are in the way",
                "erased",
            )?;
        }
        source.close().await?;
        let store = context.open_to_write(&self.origin.meta()).await?;
        let progress = Progress::of(context, "erasing", Unit::Changes);
        let request = self.request(&pattern).progress(move |at| progress.at(at.done, at.total));
        let handle = store.with_meta(self.origin.meta());
        let erased = interruptible(context, &store, "erase --resume", handle.erase(request)).await?;
        context.close(&store).await;
        report(context, &erased)
    }

    fn request(&self, pattern: &Pattern) -> Request {
        let request = Request::of(pattern.clone());
        if self.leave_live { request.leave_live() } else { request }
    }

    /// Finishes an erasure that was cut off.
    async fn resume(&self, context: &mut Context) -> Done {
        let store = context.open_to_write(&self.origin.meta()).await?;
        let handle = store.with_meta(self.origin.meta());
        let erased = interruptible(context, &store, "erase --resume", handle.resume_erasure()).await?;
        context.close(&store).await;
        let Some(erased) = erased else {
            context.note("no erasure was cut off, so there is nothing to finish");
            return Ok(());
        };
        report(context, &erased)
    }

    fn planned(&self, context: &mut Context, plan: &ErasurePlan) -> Done {
        let ErasurePlan { at, values, bytes, live, live_keys, .. } = plan;
        match context.format {
            Format::Human => {
                let much = format!("{} ({})", counted(*values, "value"), size(*bytes));
                context.out.line(&format!("would erase {much}, and keep their changes"))?;
                if *live > 0 {
                    let what = if self.leave_live { "would stay as they are" } else { "in the way" };
                    context.out.line(&format!("  {}: {what}", escape(&names(plan))))?;
                }
                context.out.line(&format!("  {OUT_OF_REACH}"))
            }
            Format::Tsv => {
                let numbers = [at.seq.as_u64(), *values, *bytes].map(|number| number.to_string());
                context.out.fields(numbers.each_ref().map(String::as_str))?;
                live_keys.iter().try_for_each(|key| context.out.fields(["live", &*escape_field(key)]))
            }
            _ => {
                let keys = live_keys.iter().map(|key| crate::json::quote(key));
                let object = object(at, *values, *bytes).flag("dry_run", true).number("live", *live);
                context.out.line(&object.list("live_keys", keys).finish())
            }
        }
    }
}

fn exist(number: u64) -> &'static str {
    if number == 1 { "exists" } else { "exist" }
}

/// The keys that exist: `/a, /b and 7 more keys`
fn names(plan: &ErasurePlan) -> String {
    let more = plan.live.saturating_sub(plan.live_keys.len() as u64);
    let names = plan.live_keys.join(", ");
    if more == 0 { names } else { format!("{names} and {}", counted(more, "more key")) }
}

fn object(at: &Head, values: u64, bytes: u64) -> Object {
    Object::of_type("erasure").text("at", &at.to_string()).number("values", values).number("bytes", bytes)
}

fn report(context: &mut Context, erased: &Erasure) -> Done {
    let Erasure { at, values, bytes, .. } = erased;
    match context.format {
        Format::Human if context.quiet => Ok(()),
        Format::Human => {
            context.out.line(&format!("erased {} ({})", counted(*values, "value"), size(*bytes)))?;
            context.note(OUT_OF_REACH);
            Ok(())
        }
        Format::Tsv => {
            let numbers = [at.seq.as_u64(), *values, *bytes].map(|number| number.to_string());
            context.out.fields(numbers.each_ref().map(String::as_str))
        }
        _ => context.out.line(&object(at, *values, *bytes).flag("swept", erased.swept).finish()),
    }
}
