//! `ustate delete`

use clap::Args;
use univrs_state::key::validate_key;
use univrs_state::{Batch, StateStore};

use crate::confirm::{confirm, some_of};
use crate::context::{Context, may_write};
use crate::escape::{escape, escape_field, escape_key};
use crate::json::{Object, quote};
use crate::origin::Origin;
use crate::output::Format;
use crate::stop::{Done, Exit, Failure, fail};
use crate::time::rfc3339;
use crate::value::counted;

const EXAMPLES: &str = "\
Examples:
  ustate delete /locks/deploy -m deployed
  ustate delete --prefix /nodes/ --dry-run";

/// Delete keys, all in one commit.
///
/// Their history stays in the log. Exit code 1 says that none of them existed. Fields of -o tsv:
/// seq, key, of what was deleted.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Delete {
    /// The keys.
    #[arg(required_unless_present = "prefix", conflicts_with = "prefix", value_name = "KEY")]
    keys: Vec<String>,
    /// All keys that start with these bytes. Asks first.
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    prefix: Option<String>,
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

impl Delete {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        context.refuse(Format::Raw, "delete")?;
        self.keys.iter().try_for_each(|key| validate_key(key))?;
        let (present, absent) = self.sort_out(context).await?;
        if present.is_empty() {
            return fail(self.nothing());
        }
        if self.dry_run {
            return report(context, &Deleted { present, absent, receipt: None });
        }
        self.ask(&present)?;
        let store = context.open_to_write(&self.origin.meta()).await?;
        // The keys that were there when they were counted; what came later stays.
        let batch = Batch::new().meta(self.origin.meta());
        let receipt = store.commit(present.iter().fold(batch, Batch::delete)).await?;
        if receipt.is_empty() {
            return fail(self.nothing());
        }
        let commits = store.changes(receipt.first.previous(), 1).await?;
        let deleted: Vec<String> = commits
            .first()
            .map(|commit| commit.changes.iter().map(|change| change.key.to_string()).collect())
            .unwrap_or_default();
        context.close(&store).await;
        report(context, &Deleted { present: deleted, absent, receipt: Some(receipt) })
    }

    /// Which of the keys exist now, and which do not.
    async fn sort_out(&self, context: &Context) -> Done<(Vec<String>, Vec<String>)> {
        let store = context.open_to_rehearse().await?;
        if let Some(prefix) = &self.prefix {
            return Ok((store.list(prefix).await?, Vec::new()));
        }
        let (mut present, mut absent) = (Vec::new(), Vec::new());
        for key in &self.keys {
            if present.contains(key) || absent.contains(key) {
                continue;
            }
            let exists = store.exists(key).await?;
            if exists { &mut present } else { &mut absent }.push(key.clone());
        }
        Ok((present, absent))
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
    fn ask(&self, keys: &[String]) -> Done {
        let Some(prefix) = self.prefix.as_deref().filter(|_| !self.yes) else { return Ok(()) };
        let (much, some) = (counted(keys.len() as u64, "key"), some_of(keys.iter().map(String::as_str)));
        confirm(
            &format!("delete {much} starting with {} ({some})", escape(prefix)),
            "--yes deletes without asking, --dry-run lists the keys",
            "deleted",
        )
    }
}

/// What came of it.
struct Deleted {
    present: Vec<String>,
    absent: Vec<String>,
    /// None in a rehearsal.
    receipt: Option<univrs_state::Receipt>,
}

fn report(context: &mut Context, deleted: &Deleted) -> Done {
    let seqs = |i: usize| {
        let first = deleted.receipt.as_ref().map(|receipt| receipt.first.as_u64());
        first.map(|first| (first + i as u64).to_string()).unwrap_or_default()
    };
    match context.format {
        Format::Human => {
            for (i, key) in deleted.present.iter().enumerate() {
                let done = if deleted.receipt.is_some() { "deleted" } else { "would delete" };
                // Also where all else is quiet.
                context.out.line(format!("{} {done} {}", seqs(i), escape_key(key)).trim_start())?;
            }
            context.out.flush()?;
            for key in &deleted.absent {
                context.note(&format!("{key} does not exist"));
            }
            Ok(())
        }
        Format::Tsv => {
            let mut keys = deleted.present.iter().enumerate();
            keys.try_for_each(|(i, key)| context.out.fields([&seqs(i), &escape_field(key)]))
        }
        _ => {
            let list = |keys: &[String]| keys.iter().map(|key| quote(key)).collect::<Vec<_>>();
            let mut object = Object::of_type("receipt");
            if let Some(receipt) = &deleted.receipt {
                object = object
                    .number("first", receipt.first.as_u64())
                    .number("last", receipt.last.as_u64())
                    .text("at", &rfc3339(receipt.at))
                    .text("head", &receipt.head.to_string());
            } else {
                object = object.flag("dry_run", true);
            }
            context.out.line(
                &object
                    .list("deleted", list(&deleted.present))
                    .list("absent", list(&deleted.absent))
                    .finish(),
            )
        }
    }
}
