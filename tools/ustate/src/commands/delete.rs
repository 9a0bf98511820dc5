//! `ustate delete`

use std::collections::BTreeSet;

use clap::Args;
use univrs_state::key::validate_key;
use univrs_state::{Batch, Receipt, Scan, Seq, SqliteStore, StateError, StateStore};

use crate::confirm::{confirm, some_of};
use crate::context::{Context, may_write, quoted_text};
use crate::escape::{escape, escape_field, escape_key};
use crate::json::{Object, quote};
use crate::origin::Origin;
use crate::output::Format;
use crate::slices::{SLICE, Slices, kept, key_of};
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, Stop, fail};
use crate::time::rfc3339;
use crate::value::counted;

const EXAMPLES: &str = "\
Examples:
  ustate delete /locks/deploy -m deployed
  ustate delete --prefix /nodes/ --dry-run
  ustate delete --prefix /nodes/ --in-slices --yes";

/// Delete keys, all in one commit.
///
/// Their history stays in the log. With --prefix, keys that others change after they were listed are kept and named,
/// with exit code 1. What is too much for one commit can be deleted --in-slices. Exit code 1 says that none of them
/// existed. Fields of -o tsv: seq, key, of what was deleted.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Delete {
    /// The keys.
    #[arg(required_unless_present = "prefix", conflicts_with = "prefix", value_name = "KEY")]
    keys: Vec<String>,
    /// All keys that start with these bytes. Asks first.
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    prefix: Option<String>,
    /// In several commits, each of which is whole. Says the first and the last place, and how to go on.
    #[arg(long, requires = "prefix")]
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

/// An empty prefix is more likely a variable that is not set than a wish to delete everything.
pub(super) fn parse_prefix(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err("a prefix starts with '/', which alone stands for every key".into())
}

/// A key that exists, with its version.
struct Present {
    key: String,
    version: u64,
}

/// What was found.
struct Found {
    present: Vec<Present>,
    absent: Vec<String>,
    /// The position that this is of.
    at: Seq,
}

impl Delete {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        context.refuse(Format::Raw, "delete")?;
        self.keys.iter().try_for_each(|key| validate_key(key))?;
        let source = context.open_to_rehearse(&self.origin.meta()).await?;
        let Found { present, absent, at } = self.find(&source).await?;
        if present.is_empty() {
            return fail(self.nothing());
        }
        // Of slices, none begins before all were judged.
        if self.dry_run || self.in_slices {
            for slice in present.chunks(if self.in_slices { SLICE } else { usize::MAX }) {
                let rehearsed = source.local().rehearse(self.batch(slice)).await;
                rehearsed.map_err(|error| self.refused(context, error))?;
            }
        }
        if self.dry_run {
            if self.in_slices {
                drop(self.slices(context, &present, at));
            }
            return report(context, &present_keys(present), &absent, None);
        }
        self.ask(&present)?;
        source.close().await?;
        let store = context.open_to_write(&self.origin.meta()).await?;
        if self.in_slices {
            let mut slices = self.slices(context, &present, at);
            let mut present = present.into_iter().peekable();
            while present.peek().is_some() {
                let slice: Vec<Present> = present.by_ref().take(SLICE).collect();
                let attempt = async |slice: &[Present]| store.commit(self.batch(slice)).await;
                let receipt = slices.commit(context, slice, |one| &one.key, attempt).await?;
                self.report_recorded(context, &store, &[], receipt).await?;
            }
            context.close(&store).await;
            return slices.end(context);
        }
        let (receipt, changed) = self.commit(context, &store, present).await?;
        if receipt.as_ref().is_none_or(Receipt::is_empty) && changed == 0 {
            return fail(self.nothing());
        }
        self.report_recorded(context, &store, &absent, receipt).await?;
        context.close(&store).await;
        kept(changed, "deleted")
    }

    /// Deletes what nobody changed since it was listed. Also returns how many keys somebody did change.
    async fn commit(
        &self,
        context: &Context,
        store: &SqliteStore,
        mut present: Vec<Present>,
    ) -> Done<(Option<Receipt>, u64)> {
        let mut changed = 0;
        while !present.is_empty() {
            match store.commit(self.batch(&present)).await {
                Err(StateError::Rejected(rejection)) if self.prefix.is_some() => {
                    let failed: BTreeSet<&str> = rejection.failed.iter().map(key_of).collect();
                    for key in &failed {
                        context.note(&format!("{key} was changed meanwhile, and is kept"));
                    }
                    changed += failed.len() as u64;
                    present.retain(|one| !failed.contains(one.key.as_str()));
                }
                receipt => {
                    return Ok((Some(receipt.map_err(|error| self.refused(context, error))?), changed));
                }
            }
        }
        Ok((None, changed))
    }

    /// The batch that deletes these keys. Those of a prefix nobody named, so they must be as they were listed.
    fn batch(&self, present: &[Present]) -> Batch {
        let batch = Batch::new().meta(self.origin.meta());
        present.iter().fold(batch, |batch, Present { key, version }| {
            let batch = if self.prefix.is_some() { batch.expect(key, *version) } else { batch };
            batch.delete(key)
        })
    }

    fn slices(&self, context: &Context, present: &[Present], at: Seq) -> Slices {
        let prefix = quoted_text(self.prefix.as_deref().unwrap_or_default());
        let again = context.hint(&format!("delete --prefix {prefix} --in-slices --until {at}"));
        let keys = present.len() as u64;
        Slices::begin(context, (keys, keys.div_ceil(SLICE as u64)), "deleted", again)
    }

    /// The error, with a way for what is too much.
    fn refused(&self, context: &Context, error: StateError) -> Stop {
        match (&self.prefix, &error) {
            (Some(prefix), StateError::LimitExceeded(_)) if !self.in_slices => {
                let way = format!("delete --prefix {} --in-slices", quoted_text(prefix));
                Failure::of(&error).fact("nothing was deleted").hint(context.hint(&way)).into()
            }
            _ => error.into(),
        }
    }

    async fn report_recorded(
        &self,
        context: &mut Context,
        store: &SqliteStore,
        absent: &[String],
        receipt: Option<Receipt>,
    ) -> Done {
        let Some(receipt) = receipt.filter(|receipt| !receipt.is_empty()) else { return Ok(()) };
        let commits = store.changes(receipt.first.previous(), 1).await?;
        let changes = commits.first().into_iter().flat_map(|commit| &commit.changes);
        let deleted: Vec<String> = changes.map(|change| change.key.to_string()).collect();
        report(context, &deleted, absent, Some(&receipt))
    }

    /// Which of the keys exist now, and which do not.
    async fn find(&self, source: &Source) -> Done<Found> {
        let at = source.head().await?.seq;
        let (mut present, mut absent) = (Vec::new(), Vec::new());
        if let Some(prefix) = &self.prefix {
            let (mut next, mut at) = (Some(Scan::prefix(prefix)), at);
            while let Some(scan) = next {
                let page = source.scan(scan).await?;
                at = page.cursor.seq();
                let until = self.until.map_or(at, Seq::new);
                let entries = page.entries.into_iter().filter(|entry| entry.seq <= until);
                present.extend(entries.map(|entry| Present { key: entry.key, version: entry.version }));
                next = page.next;
            }
            return Ok(Found { present, absent, at: self.until.map_or(at, Seq::new) });
        }
        let mut seen = BTreeSet::new();
        for key in self.keys.iter().filter(|key| seen.insert(key.as_str())) {
            match source.version(key).await? {
                0 => absent.push(key.clone()),
                version => present.push(Present { key: key.clone(), version }),
            }
        }
        Ok(Found { present, absent, at })
    }

    fn nothing(&self) -> Failure {
        let what = match (&self.prefix, self.keys.as_slice()) {
            (Some(prefix), _) => format!("no key starts with {prefix}"),
            (None, [key]) => format!("{key} does not exist"),
            (None, _) => "none of the keys exists".into(),
        };
        Failure::new(Exit::No, "key_not_found", what).fact("nothing was recorded")
    }

    /// Asks before a whole prefix goes.
    fn ask(&self, keys: &[Present]) -> Done {
        let Some(prefix) = self.prefix.as_deref().filter(|_| !self.yes) else { return Ok(()) };
        let (much, some) =
            (counted(keys.len() as u64, "key"), some_of(keys.iter().map(|one| one.key.as_str())));
        confirm(
            &format!("delete {much} starting with {} ({some})", escape(prefix)),
            "--yes deletes without asking, --dry-run lists the keys",
            "deleted",
        )
    }
}

fn present_keys(present: Vec<Present>) -> Vec<String> {
    present.into_iter().map(|one| one.key).collect()
}

/// Says what was deleted; without a receipt, what would be.
fn report(context: &mut Context, present: &[String], absent: &[String], receipt: Option<&Receipt>) -> Done {
    let seqs = |i: usize| {
        let first = receipt.map(|receipt| receipt.first.as_u64());
        first.map(|first| (first + i as u64).to_string()).unwrap_or_default()
    };
    match context.format {
        Format::Human => {
            for (i, key) in present.iter().enumerate() {
                let done = if receipt.is_some() { "deleted" } else { "would delete" };
                // Also where all else is quiet.
                context.out.line(format!("{} {done} {}", seqs(i), escape_key(key)).trim_start())?;
            }
            context.out.flush()?;
            for key in absent {
                context.note(&format!("{key} does not exist"));
            }
            Ok(())
        }
        Format::Tsv => {
            let mut keys = present.iter().enumerate();
            keys.try_for_each(|(i, key)| context.out.fields([&seqs(i), &escape_field(key)]))
        }
        _ => {
            let list = |keys: &[String]| keys.iter().map(|key| quote(key)).collect::<Vec<_>>();
            let mut object = Object::of_type("receipt");
            if let Some(receipt) = receipt {
                object = object
                    .number("first", receipt.first.as_u64())
                    .number("last", receipt.last.as_u64())
                    .text("at", &rfc3339(receipt.at))
                    .text("head", &receipt.head.to_string());
            } else {
                object = object.flag("dry_run", true);
            }
            context.out.line(&object.list("deleted", list(present)).list("absent", list(absent)).finish())
        }
    }
}
