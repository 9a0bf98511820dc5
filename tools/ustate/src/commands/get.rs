//! `ustate get`

use clap::Args;
use univrs_state::Entry;
use univrs_state::log::{ChangeKind, Timestamp};

use crate::as_of::{AsOf, State};
use crate::context::{Context, quoted_text};
use crate::escape::{escape, escape_field, escape_key};
use crate::json::Object;
use crate::output::{DIM, Format};
use crate::stop::{Done, Exit, Failure, fail};
use crate::time::{ago, rfc3339};
use crate::twin::{says, twin};
use crate::value::{Encoded, size, whole};

const EXAMPLES: &str = "\
Examples:
  ustate get /nodes/n1 --meta
  ustate get /config/app -o raw > app.toml";

/// Print the value of a key.
///
/// Exit code 1 says that the key does not exist. Fields of -o tsv: key, version, seq, updated,
/// encoding, value.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Get {
    /// The key.
    key: String,
    /// Its version, times and place in the log as well.
    #[arg(long)]
    meta: bool,
    #[command(flatten)]
    as_of: AsOf,
}

impl Get {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        let state = self.as_of.open(context).await?;
        let Some(entry) = state.get(&self.key).await? else {
            return fail(absent(context, &state, &self.key).await?);
        };
        match context.format {
            Format::Human => self.human(context, &state, &entry).await,
            Format::Raw => context.out.bytes(&entry.value),
            Format::Tsv => tsv(context, &entry),
            Format::Json | Format::Ndjson => {
                let mut object = entry_object(&entry);
                if self.meta
                    && let Some(change) = state.newest(&self.key).await?
                {
                    object = object.meta(change.meta.as_deref());
                }
                context.out.line(&object.finish())
            }
        }
    }

    async fn human(&self, context: &mut Context, state: &State, entry: &Entry) -> Done {
        if self.meta {
            let at = |time| context.times.exact(Timestamp::from(time));
            let mut facts = vec![
                ("key", escape_key(&entry.key).into_owned()),
                ("version", entry.version.to_string()),
                ("seq", entry.seq.to_string()),
                ("created", at(entry.created_at)),
                ("updated", at(entry.updated_at)),
            ];
            facts.extend(entry.until.map(|until| ("until", context.times.until(until))));
            facts.push(("size", size(entry.value.len() as u64)));
            let last = state.newest(&self.key).await?;
            if let Some(meta) = last.as_ref().and_then(|change| change.meta.as_deref()) {
                let said =
                    [("actor", &meta.actor), ("reason", &meta.reason), ("correlation", &meta.correlation)];
                facts.extend(
                    said.into_iter()
                        .filter_map(|(name, text)| Some((name, escape(text.as_ref()?).into_owned()))),
                );
            }
            for (name, fact) in facts {
                let name = context.out.paint(DIM, &format!("{name:<11}"));
                context.out.line(&format!("{name} {fact}"))?;
            }
            context.out.line("")?;
        }
        let (text, note) = whole(&entry.value);
        context.out.bytes(text.as_bytes())?;
        if !text.ends_with('\n') {
            context.out.bytes(b"\n")?;
        }
        context.out.flush()?;
        if let Some(note) = note {
            context.note(note);
        }
        Ok(())
    }
}

/// An entry as JSON, not yet finished.
pub(crate) fn entry_object(entry: &Entry) -> Object {
    Object::of_type("entry")
        .text("key", &entry.key)
        .number("version", entry.version)
        .number("seq", entry.seq.as_u64())
        .text("created_at", &rfc3339(entry.created_at.into()))
        .text("updated_at", &rfc3339(entry.updated_at.into()))
        .until(entry.until)
        .value(&entry.value)
}

/// An entry as fields between tabs.
pub(crate) fn tsv(context: &mut Context, entry: &Entry) -> Done {
    let value = Encoded::of(&entry.value);
    context.out.fields([
        &escape_field(&entry.key),
        &entry.version.to_string(),
        &entry.seq.to_string(),
        &rfc3339(entry.updated_at.into()),
        value.name(),
        &value.field(),
    ])
}

/// The answer that a key does not exist, and what became of it.
pub(crate) async fn absent(context: &Context, state: &State, key: &str) -> Done<Failure> {
    let what = match state.at() {
        Some(at) => format!("{key} did not exist at {at}"),
        None => format!("{key} does not exist"),
    };
    let failure = Failure::new(Exit::No, "key_not_found", what);
    let failure = match twin(key, async |scan| state.scan(scan).await).await? {
        Some(twin) => failure.fact(says(key, &twin)),
        None => failure,
    };
    Ok(match state.newest(key).await? {
        Some(last) if last.kind == ChangeKind::Deleted => failure
            .fact(format!("it was deleted at {}{} {}", last.seq, by(last.meta.as_deref()), ago(last.at)))
            .hint(context.hint(&format!("history {}", quoted_text(key)))),
        _ => failure,
    })
}

/// `, by alice@ops`
pub(crate) fn by(meta: Option<&univrs_state::Meta>) -> String {
    meta.and_then(|meta| meta.actor.as_deref()).map_or_else(String::new, |actor| format!(", by {actor}"))
}
