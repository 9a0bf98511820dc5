//! `ustate retain`

use std::time::Duration;

use clap::{Args, Subcommand};
use univrs_state::retain::{Policy, Retained, Retention, RetentionPlan};
use univrs_state::{Batch, StateStore};

use super::thin;
use crate::confirm::confirm;
use crate::context::{Context, may_write};
use crate::escape::escape;
use crate::interrupt::interruptible;
use crate::json::{Object, quote};
use crate::origin::Origin;
use crate::output::Format;
use crate::plan::outcome;
use crate::policy::{of_policy, show};
use crate::selection::parse_pattern;
use crate::stop::{Done, Exit, Failure, fail};
use crate::time::parse_age;
use crate::value::{counted, size};

const EXAMPLES: &str = "\
Examples:
  ustate retain set --age 90d --keep '/credits/**' --forget -m 'as agreed'
  ustate retain set --age 1y --values '/metrics/**=7d'
  ustate retain --dry-run
  ustate retain --yes
  ustate retain clear";

/// Apply the store's policy of what leaves the log, show it, or set it.
///
/// Without a verb, this drops what the policy says is due, as 'ustate compact' and 'ustate thin' do; without --yes it asks
/// first. Consumers that hold what they have not read, and marks if the policy spares them, are not passed by: less is
/// dropped then, and they are named. If it is cut off, the next run finishes it. The first run after a policy was set is
/// what lets programs follow it on a schedule. Fields of -o tsv: compacted, floor, dropped; thinned, at, values; held,
/// reason; of show: a name and a value.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Retain {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Args)]
struct Asked {
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Say what would be done, and what holds it back, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Show(Show),
    Set(Set),
    Clear(Clear),
}

/// Show the policy.
#[derive(Debug, Args)]
struct Show {}

/// Set the policy, in place of the one before. Nothing is dropped by that.
#[derive(Debug, Args)]
struct Set {
    /// How old a change must be to leave the log, once it was replaced: 90d, 12h.
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    age: Option<Duration>,
    /// Keep all changes of the keys that match.
    #[arg(long, value_name = "PATTERN", requires = "age")]
    keep: Vec<String>,
    /// Forget keys that were deleted so long ago.
    #[arg(long, requires = "age")]
    forget: bool,
    /// Drop nothing before the earliest mark.
    #[arg(long, requires = "age")]
    spare_marks: bool,
    /// Drop replaced values of these keys earlier, but for the newest N versions of each: '/metrics/**=7d' or '…=7d:N'.
    #[arg(long, value_name = "PATTERN=AGE[:N]")]
    values: Vec<String>,
    /// Say what would be set, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

/// Remove the policy, so that everything is kept.
#[derive(Debug, Args)]
struct Clear {
    #[command(flatten)]
    origin: Origin,
}

impl Retain {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "retain")?;
        match self.verb {
            None => self.asked.run(context).await,
            Some(Verb::Show(Show {})) => {
                let policy = context.open().await?.policy().await?;
                show(context, policy.as_ref(), None)
            }
            Some(Verb::Set(set)) => set.run(context).await,
            Some(Verb::Clear(clear)) => {
                may_write()?;
                let store = context.open_to_write(&clear.origin.meta()).await?;
                store.with_meta(clear.origin.meta()).set_policy(None).await?;
                context.close(&store).await;
                show(context, None, Some("removed"))
            }
        }
    }
}

impl Asked {
    async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        let source = context.open_to_rehearse(&self.origin.meta()).await?;
        let plan = source.plan_retention().await?;
        let Some(policy) = &plan.policy else {
            let what = "the store has no policy, so everything is kept";
            return fail(Failure::new(Exit::No, "no_policy", what).hint(context.hint("retain set --help")));
        };
        if self.dry_run {
            source.local().rehearse(Batch::new().meta(self.origin.meta())).await?;
            return planned(context, policy, &plan);
        }
        if !self.yes {
            let parts = parts(&plan);
            let what = if parts.is_empty() {
                "begin with the policy; nothing is due".into()
            } else {
                parts.join(", ")
            };
            confirm(&what, "--yes does it without asking, --dry-run says what holds it back", "dropped")?;
        }
        source.close().await?;
        let store = context.open_to_write(&self.origin.meta()).await?;
        let handle = store.with_meta(self.origin.meta());
        let retained = interruptible(context, &store, "retain", handle.retain()).await?;
        context.close(&store).await;
        report(context, &retained)
    }
}

/// What a run would drop: `drop 1 200 changes (34 KiB) up to 300`
fn parts(plan: &RetentionPlan) -> Vec<String> {
    let compaction = plan.compaction.iter().map(|plan| {
        let much = format!("{} ({})", counted(plan.dropped, "change"), size(plan.dropped_bytes));
        format!("drop {much} up to {} for good", plan.floor.seq)
    });
    let thinnings = plan.thinnings.iter().map(|plan| {
        let much = format!("{} ({})", counted(plan.values, "value"), size(plan.bytes));
        format!("drop {much} up to {} for good", plan.at.seq)
    });
    compaction.chain(thinnings).collect()
}

fn planned(context: &mut Context, policy: &Policy, plan: &RetentionPlan) -> Done {
    match context.format {
        Format::Human => {
            let parts = parts(plan);
            if parts.is_empty() {
                context.out.line("nothing is due")?;
            }
            for part in parts {
                context.out.line(&format!("would {part}"))?;
            }
            plan.held_back
                .iter()
                .try_for_each(|held| context.out.line(&format!("  {}", escape(&held.to_string()))))
        }
        Format::Tsv => {
            if let Some(plan) = &plan.compaction {
                context.out.fields(["compacted", &plan.floor.seq.to_string(), &plan.dropped.to_string()])?;
            }
            for plan in &plan.thinnings {
                context.out.fields(["thinned", &plan.at.seq.to_string(), &plan.values.to_string()])?;
            }
            plan.held_back.iter().try_for_each(|held| context.out.fields(["held", &held.to_string()]))
        }
        _ => {
            let compaction = plan.compaction.as_ref().map(|plan| (plan.floor.to_string(), plan.dropped));
            let thinnings = plan.thinnings.iter().map(|plan| (plan.at.to_string(), plan.values, plan.bytes));
            let object = object(compaction, thinnings, plan.held_back.iter().map(ToString::to_string));
            let object = object.raw("policy", &of_policy(Object::nested(), policy).finish());
            context.out.line(&object.flag("dry_run", true).finish())
        }
    }
}

fn report(context: &mut Context, retained: &Retained) -> Done {
    match context.format {
        Format::Human if context.quiet => Ok(()),
        Format::Human => {
            if retained.compacted.is_none() && retained.thinned.is_empty() {
                context.out.line("nothing was due")?;
            }
            if let Some(compacted) = &retained.compacted {
                context.out.line(&outcome(compacted))?;
            }
            for thinned in &retained.thinned {
                context.out.line(&thin::outcome(thinned))?;
            }
            let mut held = retained.held_back.iter();
            held.try_for_each(|held| context.out.line(&format!("  {}", escape(&held.to_string()))))
        }
        Format::Tsv => {
            if let Some(done) = &retained.compacted {
                context.out.fields(["compacted", &done.floor.seq.to_string(), &done.dropped.to_string()])?;
            }
            for done in &retained.thinned {
                context.out.fields(["thinned", &done.at.seq.to_string(), &done.values.to_string()])?;
            }
            retained.held_back.iter().try_for_each(|held| context.out.fields(["held", &held.to_string()]))
        }
        _ => {
            let compacted = retained.compacted.as_ref().map(|done| (done.floor.to_string(), done.dropped));
            let thinned = retained.thinned.iter().map(|done| (done.at.to_string(), done.values, done.bytes));
            let held = retained.held_back.iter().map(ToString::to_string);
            context.out.line(&object(compacted, thinned, held).finish())
        }
    }
}

fn object(
    compacted: Option<(String, u64)>,
    thinned: impl Iterator<Item = (String, u64, u64)>,
    held: impl Iterator<Item = String>,
) -> Object {
    let object = Object::of_type("retention");
    let object = match compacted {
        Some((floor, dropped)) => object.text("floor", &floor).number("dropped", dropped),
        None => object,
    };
    let thinned = thinned.map(|(at, values, bytes)| {
        Object::nested().text("at", &at).number("values", values).number("bytes", bytes).finish()
    });
    object.list("thinned", thinned).list("held_back", held.map(|held| quote(&held)))
}

impl Set {
    async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        let policy = self.policy()?;
        if self.dry_run {
            let source = context.open_to_rehearse(&self.origin.meta()).await?;
            source.local().rehearse(Batch::new().meta(self.origin.meta())).await?;
            return show(context, Some(&policy), Some("would be"));
        }
        let store = context.open_to_write(&self.origin.meta()).await?;
        store.with_meta(self.origin.meta()).set_policy(Some(policy.clone())).await?;
        context.close(&store).await;
        show(context, Some(&policy), Some("set"))?;
        if context.format == Format::Human {
            let (plan, run) = (context.hint("retain --dry-run"), context.hint("retain"));
            context.note(&format!("nothing was dropped; {plan} says what is due, and {run} drops it"));
        }
        Ok(())
    }

    fn policy(&self) -> Done<Policy> {
        if self.age.is_none() && self.values.is_empty() {
            let what = "a policy needs --age or --values; 'retain clear' removes it";
            return fail(Failure::usage(what));
        }
        let policy = self.age.map_or_else(Policy::new, |age| Policy::new().age(age));
        let mut policy = if self.forget { policy.forget() } else { policy };
        if self.spare_marks {
            policy = policy.spare_marks();
        }
        for text in &self.keep {
            policy = policy.keep(parse_pattern(text)?);
        }
        for text in &self.values {
            let wrong = || {
                Failure::usage(format!(
                    "a rule for values looks like '/metrics/**=7d' or '/metrics/**=7d:3', not {text:?}"
                ))
            };
            let (pattern, rest) = text.rsplit_once('=').ok_or_else(wrong)?;
            let (age, keep) = rest.split_once(':').unwrap_or((rest, "1"));
            let age = parse_age(age).map_err(|_| wrong())?;
            let keep = keep.parse().ok().filter(|keep| *keep > 0).ok_or_else(wrong)?;
            policy = policy.values(parse_pattern(pattern)?, age, keep);
        }
        Ok(policy)
    }
}
