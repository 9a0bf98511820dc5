//! `ustate restore`

use clap::{ArgGroup, Args};
use univrs_state::error::FailedCondition;
use univrs_state::history::Difference;
use univrs_state::key::validate_key;
use univrs_state::log::{Change, ChangeKind, Commit};
use univrs_state::{Seq, StateError, StateStore};

use super::delete::parse_prefix;
use super::get::by;
use super::restore_in_slices::InSlices;
use crate::confirm::{confirm, some_of};
use crate::context::{Context, may_write, quoted_text};
use crate::json::Object;
use crate::origin::Origin;
use crate::output::Format;
use crate::point::Point;
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, Stop, fail};
use crate::time::ago;
use crate::value::{counted, were};
use crate::written::{Outcome, Written, written};

const EXAMPLES: &str = "\
Examples:
  ustate restore /nodes/n1 --to head~1 -m 'as it was'
  ustate restore --prefix /nodes/ --to head~2 --dry-run
  ustate restore --all --to head~2 --in-slices --yes
  ustate restore --undo head -m 'wrong cluster'";

/// Bring back what was, as new changes in one commit.
///
/// If others change a key after it was compared, nothing is restored, with exit code 1. What is too much for one
/// commit can be restored --in-slices, which keeps such a key and names it. The history stays: the new changes name
/// the position that they come from. Keys that did not exist then are deleted. A value that had an end comes back
/// without one. --undo brings back what was before a commit, and refuses, with exit code 1, if one of its keys has
/// changed since. Fields of -o tsv: seq, kind, key.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
#[command(group(ArgGroup::new("what").required(true).args(["keys", "prefix", "all", "undo"])))]
#[allow(clippy::struct_excessive_bools)] // switches of a command line
pub(crate) struct Restore {
    /// The keys.
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// All keys that start with these bytes. Asks first.
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    prefix: Option<String>,
    /// All keys. Asks first.
    #[arg(long)]
    all: bool,
    /// The point whose values come back ('ustate --help').
    #[arg(long, value_name = "POINT", required_unless_present = "undo", conflicts_with = "undo")]
    to: Option<Point>,
    /// Undo the commit of this change, which may be any of its changes: its keys become what they were before it.
    #[arg(long, value_name = "SEQ")]
    undo: Option<Point>,
    /// Undo the commit even if a key has changed since, and undo that change, too.
    #[arg(long, requires = "undo", conflicts_with = "to")]
    force: bool,
    /// In several commits, each of which is whole. Says the first and the last place, and how to go on.
    #[arg(long, conflicts_with_all = ["keys", "undo"])]
    in_slices: bool,
    /// With --in-slices, keep keys that were changed after this position: to go on after an interruption.
    #[arg(long, requires = "in_slices", value_name = "SEQ")]
    until: Option<u64>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

/// What takes back a change of others, too.
const FORCED: &str = "--force takes that back, too";

impl Restore {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        context.refuse(Format::Raw, "restore")?;
        self.keys.iter().try_for_each(|key| validate_key(key))?;
        let source = context.open_to_rehearse(&self.origin.meta()).await?;
        let undone = match &self.undo {
            Some(point) => Some(undone(context, &source, point).await?),
            None => None,
        };
        if self.in_slices {
            let Some(to) = &self.to else { return fail(Failure::usage("--to is missing")) };
            let past = to.past(context, &source).await?;
            let Self { prefix, until, yes, dry_run, origin, .. } = self;
            let slices = InSlices { prefix, until: until.map(Seq::new), yes, dry_run, meta: origin.meta() };
            return slices.run(context, source, &past).await;
        }
        let (restore, to) = self.plan(context, &source, undone.as_ref()).await?;
        let object = Object::of_type("receipt").number("restored_from", to.as_u64());
        let nothing = format!("nothing differs from what was at {to}");
        let (due, at) = due(&source, restore.diff()).await?;
        // What others write from here on stays.
        let restore = if undone.is_none() { restore.expect_unchanged_since(at) } else { restore };
        if let Some(commit) = undone.as_ref().filter(|_| !self.force) {
            refuse_changed(context, &source, commit, &due).await?;
        }
        if due.is_empty() {
            self.check_known(&source).await?;
        }
        told_of_ends(context, due.iter().filter(|difference| ends(difference)).count());
        let mut meta = self.origin.meta();
        if let Some(commit) = &undone {
            meta = meta.label("undone", commit.last.to_string());
        }
        let restore = restore.meta(meta);
        if self.dry_run {
            let batch = source.local().batch_of(restore.clone()).await?;
            source.local().rehearse(batch).await.map_err(|error| self.refused(context, error, to))?;
        }
        if self.dry_run || due.is_empty() {
            let would: Vec<_> = due.iter().map(Written::of_difference).collect();
            return Outcome { rows: &would, receipt: None, dry_run: self.dry_run }
                .report(context, object, &nothing);
        }
        self.ask(&due, to)?;
        // Before its file is looked at again: that would drop the locks of what is open.
        source.close().await?;
        let store = context.open_to_write(&self.origin.meta()).await?;
        let receipt = match store.restore(restore).await {
            Err(StateError::Rejected(rejection)) => {
                let source = Source::live(store).await?;
                let otherwise = if undone.is_some() { FORCED } else { "nothing was recorded; try again" };
                return fail(changed_meanwhile(context, &source, &rejection.failed, otherwise).await?);
            }
            receipt => receipt.map_err(|error| self.refused(context, error, to))?,
        };
        let changes = written(&store, &receipt).await?;
        context.close(&store).await;
        let rows: Vec<_> = changes.iter().map(Written::of_change).collect();
        Outcome { rows: &rows, receipt: Some(&receipt), dry_run: false }.report(context, object, &nothing)
    }

    /// What to bring back, and from where.
    async fn plan(
        &self,
        context: &Context,
        source: &Source,
        undone: Option<&Commit>,
    ) -> Done<(univrs_state::history::Restore, Seq)> {
        if let Some(commit) = undone {
            let before = source.at(commit.first.previous().into()).await?;
            let keys = commit.changes.iter().map(|change| change.key.to_string());
            let restore = univrs_state::history::Restore::keys(keys, before.cursor());
            let restore = if self.force { restore } else { restore.expect_unchanged_since(commit.last) };
            return Ok((restore, before.seq()));
        }
        let Some(to) = &self.to else { return fail(Failure::usage("--to is missing")) };
        let past = to.past(context, source).await?;
        let prefix = if self.all { Some("/") } else { self.prefix.as_deref() };
        let restore = match prefix {
            Some(prefix) => univrs_state::history::Restore::prefix(prefix, past.cursor()),
            None => univrs_state::history::Restore::keys(&self.keys, past.cursor()),
        };
        Ok((restore, past.seq()))
    }

    /// The error, with a way for what is too much.
    fn refused(&self, context: &Context, error: StateError, to: Seq) -> Stop {
        let what = match &self.prefix {
            Some(prefix) => format!("--prefix {}", quoted_text(prefix)),
            None => "--all".to_owned(),
        };
        if matches!(error, StateError::LimitExceeded(_)) && (self.all || self.prefix.is_some()) {
            let way = context.hint(&format!("restore {what} --to {to} --in-slices"));
            return Failure::of(&error).fact("nothing was recorded").hint(way).into();
        }
        error.into()
    }

    /// A key that never was is more likely a slip than a wish for nothing.
    async fn check_known(&self, source: &Source) -> Done {
        for key in &self.keys {
            if source.history(key, None, 1).await?.is_empty() {
                let what = format!("{key} does not exist and never did");
                return fail(Failure::new(Exit::No, "key_not_found", what).fact("nothing was recorded"));
            }
        }
        Ok(())
    }

    /// Asks before many keys change that nobody named.
    fn ask(&self, due: &[Difference], to: Seq) -> Done {
        if self.yes || (self.prefix.is_none() && !self.all) {
            return Ok(());
        }
        let keys = due.iter().map(|difference| difference.key.as_str());
        let (much, some) = (counted(due.len() as u64, "key"), some_of(keys));
        confirm(
            &format!("restore {much} to what {} at {to} ({some})", were(due.len() as u64)),
            "--yes restores without asking, --dry-run says what would be done",
            "restored",
        )
    }
}

/// The commit of a change.
async fn undone(context: &Context, source: &Source, point: &Point) -> Done<Commit> {
    let head = source.head().await?.seq;
    let seq = point.change(context, source, head).await?;
    if seq > Seq::ZERO && seq <= head {
        // A place within a commit counts as the one before it.
        let commit = source.changes(seq.previous(), 1).await?.into_iter().next();
        if let Some(commit) = commit.filter(|commit| commit.first <= seq && seq <= commit.last) {
            return Ok(commit);
        }
    }
    let failure = Failure::new(Exit::No, "change_not_found", format!("there is no change {seq}"));
    fail(failure.fact(format!("the log ends at {head}")).hint(context.hint("log -n 10")))
}

/// What is not what it was.
async fn due(source: &Source, diff: univrs_state::history::Diff) -> Done<(Vec<Difference>, Seq)> {
    let (mut due, mut at, mut next) = (Vec::new(), Seq::ZERO, Some(diff));
    while let Some(diff) = next {
        let page = source.diff(diff).await?;
        at = page.from.seq();
        due.extend(page.differences.into_iter().filter(|difference| !difference.is_same_value()));
        next = page.next;
    }
    let gone = due.iter().find(|difference| difference.after.as_ref().is_some_and(Change::is_erased));
    if let Some(Difference { key, .. }) = gone {
        let what = format!("the value that {key} had then is gone; its hash remains");
        return fail(Failure::new(Exit::HistoryGone, "erased", what).fact("nothing was recorded"));
    }
    Ok((due, at))
}

/// Whether the value that comes back ended by itself.
pub(super) fn ends(difference: &Difference) -> bool {
    difference.after.as_ref().is_some_and(|after| after.until.is_some())
}

/// Says that values which ended by themselves do not end any longer.
pub(super) fn told_of_ends(context: &Context, values: usize) {
    if values > 0 {
        let had = counted(values as u64, "value");
        context
            .note(&format!("{had} had an end then; what is restored stays until it is changed or deleted"));
    }
}

/// Refuses to undo a commit where others changed one of its keys since.
async fn refuse_changed(context: &Context, source: &Source, commit: &Commit, due: &[Difference]) -> Done {
    for difference in due {
        let last = source.history(&difference.key, None, 1).await?;
        if last.first().is_some_and(|last| last.seq > commit.last) {
            return fail(changed(context, source, &difference.key, commit.last, FORCED).await?);
        }
    }
    Ok(())
}

/// Why the commit was refused: a key was changed after it was looked at.
async fn changed_meanwhile(
    context: &Context,
    source: &Source,
    failed: &[FailedCondition],
    otherwise: &str,
) -> Done<Failure> {
    match failed.first() {
        Some(FailedCondition::ChangedSince { prefix, expected, .. }) => {
            changed(context, source, prefix, *expected, otherwise).await
        }
        Some(condition) => {
            let failure =
                Failure::new(Exit::No, "rejected", "a key was changed meanwhile; nothing was recorded");
            Ok(failure.fact(condition.to_string()))
        }
        None => Ok(Failure::new(Exit::No, "rejected", "refused")),
    }
}

async fn changed(
    context: &Context,
    source: &Source,
    key: &str,
    since: Seq,
    otherwise: &str,
) -> Done<Failure> {
    let what = format!("{key} has changed since {since}");
    let mut failure = Failure::new(Exit::No, "changed_since", what);
    if let Some(last) = source.history(key, None, 1).await?.first() {
        let what = if last.kind == ChangeKind::Deleted { "was deleted" } else { "was set" };
        let who = by(last.meta.as_deref());
        failure = failure
            .fact(format!("it {what} at {}{who} {}", last.seq, ago(last.at)))
            .hint(context.hint(&format!("show {}", last.seq)));
    }
    Ok(failure.fact(otherwise))
}
