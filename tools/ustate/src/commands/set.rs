//! `ustate set`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use univrs_state::key::validate_key;
use univrs_state::log::ChangeKind;
use univrs_state::{Batch, StateError, StateStore};

use super::get::by;
use crate::context::{Context, may_write};
use crate::escape::{escape_field, escape_key};
use crate::input::{read_value, wait_for_value};
use crate::json::Object;
use crate::origin::Origin;
use crate::output::Format;
use crate::stop::{Done, Exit, Failure, fail};
use crate::time::{ago, rfc3339};
use crate::twin::{says, twin};

const EXAMPLES: &str = "\
Examples:
  ustate set /nodes/n1 '{\"ready\":true}' --type json -m 'first boot'
  ustate set /locks/deploy \"$USER\" --if-absent
  ustate set /config/app - < app.toml";

/// Set a key to a value.
///
/// Exit code 1 says that a condition did not hold; nothing is recorded then. Fields of -o tsv:
/// seq, key, version.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Set {
    /// The key.
    key: String,
    /// The value; - reads it from standard input. What stands right behind the key is the value, also if it
    /// begins with '-', unless it is exactly an option.
    #[arg(conflicts_with = "file")]
    value: Option<OsString>,
    /// Take the value from a file, to the byte.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What the value must be; it is stored as it is. By default text on the command line, else
    /// bytes.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
    /// Only if the key has this version; 0 means absent.
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    /// Only if the key does not exist.
    #[arg(long, conflicts_with = "if_version")]
    if_absent: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

/// An error that does not quote what stands in the place of the key: it may be a value that was put there.
fn check_key(key: &str) -> Done {
    let Err(error) = validate_key(key) else { return Ok(()) };
    let StateError::InvalidKey(why) = &error else { return Err(error.into()) };
    let rule = why.rsplit_once("\": ").map_or(why.as_str(), |(_, rule)| rule);
    let failure = Failure { code: error.code(), ..Failure::usage(format!("invalid key: {rule}")) };
    fail(failure.fact("the key comes first, then the value"))
}

/// What a value must be.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// UTF-8.
    Text,
    /// A JSON document.
    Json,
    /// Anything.
    Bytes,
}

impl Set {
    /// Takes the value, for which something else stood on the command line that was parsed.
    pub(crate) fn take_value(&mut self, value: OsString) {
        self.value = Some(value);
    }

    pub(crate) async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        context.refuse(Format::Raw, "set")?;
        check_key(&self.key)?;
        let value = self.value().await?;
        let expected = if self.if_absent { Some(0) } else { self.if_version };
        let mut batch = Batch::new().meta(self.origin.meta()).set(&self.key, value);
        if let Some(version) = expected {
            batch = batch.expect(&self.key, version);
        }
        if self.dry_run {
            return self.rehearse(context, batch, expected).await;
        }
        let store = context.open_to_write(&self.origin.meta()).await?;
        let receipt = match store.commit(batch).await {
            Ok(receipt) => receipt,
            Err(StateError::Rejected(_)) => {
                return fail(self.conflict(context, &store, expected.unwrap_or(0)).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let version = receipt.versions.last().copied().unwrap_or(0);
        if version == 1
            && let Some(twin) = twin(&self.key, async |scan| store.scan(scan).await).await?
        {
            context.note(&says(&self.key, &twin));
        }
        context.close(&store).await;
        match context.format {
            Format::Human if context.quiet => Ok(()),
            Format::Human => context.out.line(&format!(
                "{} set {}  version {version}",
                receipt.last,
                escape_key(&self.key)
            )),
            Format::Tsv => context.out.fields([
                &receipt.last.to_string(),
                &escape_field(&self.key),
                &version.to_string(),
            ]),
            _ => {
                let object = Object::of_type("receipt")
                    .number("seq", receipt.last.as_u64())
                    .text("at", &rfc3339(receipt.at))
                    .text("key", &self.key)
                    .number("version", version)
                    .text("head", &receipt.head.to_string());
                context.out.line(&object.finish())
            }
        }
    }

    async fn value(&self) -> Done<Vec<u8>> {
        let (bytes, implied) = match (&self.value, &self.file) {
            (Some(value), _) if value == "-" => (wait_for_value().await?, Kind::Bytes),
            (Some(value), _) => (value.as_encoded_bytes().to_owned(), Kind::Text),
            (None, Some(file)) => (read_value(file)?, Kind::Bytes),
            (None, None) => {
                let failure = Failure::usage("no value was given");
                return fail(failure.fact("give it as an argument, as - for standard input, or with --file"));
            }
        };
        match self.kind.unwrap_or(implied) {
            Kind::Text if std::str::from_utf8(&bytes).is_err() => {
                let failure = Failure::usage("the value is no text: it is not UTF-8");
                fail(failure.fact("--type bytes stores any bytes"))
            }
            Kind::Json => match serde_json::from_slice::<&serde_json::value::RawValue>(&bytes) {
                Ok(_) => Ok(bytes),
                Err(error) => {
                    // The library's words, which do not quote the value.
                    let error = StateError::from(error);
                    let why = error.to_string().replace("serialization error: ", "the value is ");
                    fail(Failure::new(Exit::Usage, error.code(), why))
                }
            },
            Kind::Text | Kind::Bytes => Ok(bytes),
        }
    }

    /// What would come of it, by the state as it is now.
    async fn rehearse(&self, context: &mut Context, batch: Batch, expected: Option<u64>) -> Done {
        let store = context.open_to_rehearse(&self.origin.meta()).await?;
        let version = match store.local().rehearse(batch).await {
            Ok(versions) => versions.last().copied().unwrap_or(0),
            Err(StateError::Rejected(_)) => {
                return fail(self.conflict(context, &*store, expected.unwrap_or(0)).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let found = store.version(&self.key).await?;
        let key = escape_key(&self.key);
        match context.format {
            Format::Human if found == 0 => {
                context.out.line(&format!("would create {key}  version {version}"))
            }
            Format::Human => context.out.line(&format!("would update {key}  version {version}")),
            Format::Tsv => context.out.fields(["", &escape_field(&self.key), &version.to_string()]),
            _ => {
                let object = Object::of_type("receipt").text("key", &self.key).number("version", version);
                context.out.line(&object.flag("dry_run", true).finish())
            }
        }
    }

    /// Why the condition does not hold: what became of the key.
    async fn conflict(&self, context: &Context, store: &dyn StateStore, expected: u64) -> Done<Failure> {
        let key = &self.key;
        let history = store.history(key, None, 1).await?;
        let Some(last) = history.first() else {
            let what = format!("{key} does not exist, and never had version {expected}");
            return Ok(Failure::new(Exit::No, "version_conflict", what));
        };
        let when = format!("(seq {}){} {}", last.seq, by(last.meta.as_deref()), ago(last.at));
        let (code, what) = match (expected, last.version) {
            (0, _) => ("already_exists", format!("{key} exists already")),
            (expected, found) if expected > found => {
                ("version_conflict", format!("{key} has not reached version {expected}"))
            }
            (expected, _) => ("version_conflict", format!("{key} has changed since version {expected}")),
        };
        let fact = if last.kind == ChangeKind::Deleted {
            format!("it was deleted as version {} {when}", last.version)
        } else {
            format!("it is now version {} {when}", last.version)
        };
        let failure = Failure::new(Exit::No, code, what).fact(fact);
        Ok(failure.hint(context.hint(&format!("show {}", last.seq))))
    }
}
