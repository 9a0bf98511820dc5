//! `ustate list`

use clap::Args;
use univrs_state::pattern::Pattern;
use univrs_state::{Entry, Page, Scan};

use super::get::{entry_object, tsv};
use crate::as_of::{AsOf, State};
use crate::context::{Context, quoted_text};
use crate::escape::{escape_field, escape_key};
use crate::json::Object;
use crate::output::Format;
use crate::rows::VALUE_ROOM;
use crate::selection::{parse_pattern, prefix};
use crate::stop::{Done, Failure, fail};
use crate::value::{brief, counted};
use crate::width::{left, width as cells};

/// The widest column of keys.
const WIDEST: usize = 48;

const EXAMPLES: &str = "\
Examples:
  ustate list '/nodes/*'
  ustate list '/config/**' --values --json";

/// List keys, in the order of their bytes.
///
/// A pattern is a key, PREFIX*, or a glob by segment: * is one segment, ** any number, and a * at
/// the end stands for all that follows. Quote it, so that the shell leaves it alone. Fields of
/// -o tsv with --values: key, version, seq, updated, encoding, value.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct List {
    /// Which keys.
    #[arg(default_value = "/*")]
    pattern: String,
    /// Their values as well.
    #[arg(long)]
    values: bool,
    #[command(flatten)]
    as_of: AsOf,
}

impl List {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        let pattern = parse_pattern(&self.pattern).map_err(|stop| {
            let below = format!("{}/*", self.pattern.trim_end_matches('/'));
            stop.or_hint(|| context.hint(&format!("list {}", quoted_text(&below))))
        })?;
        if self.values && context.format == Format::Raw {
            return fail(
                Failure::usage("list --values has no raw output").fact("use -o tsv, or get KEY -o raw"),
            );
        }
        let state = self.as_of.open(context).await?;
        let found = if self.values {
            list_entries(context, &state, &pattern).await?
        } else {
            list_keys(context, &state, &pattern).await?
        };
        if !found {
            context.out.flush()?;
            let at = state.at().map(|at| format!(" at {at}")).unwrap_or_default();
            context.note(&format!("no key matches {pattern}{at}"));
            if let Some(below) = below(&state, &pattern).await? {
                context.note(&below);
            }
        }
        Ok(())
    }
}

/// That there are keys below one that is named as if it were a folder.
async fn below(state: &State, pattern: &Pattern) -> Done<Option<String>> {
    let folder = pattern.as_str();
    if folder.contains('*') {
        return Ok(None);
    }
    let keys = state.list(&format!("{folder}/")).await?.len() as u64;
    let (are, them) = if keys == 1 { ("is", "it") } else { ("are", "them") };
    let all = quoted_text(&format!("{folder}/*"));
    Ok((keys > 0).then(|| format!("{} {are} below it; {all} matches {them}", counted(keys, "key"))))
}

async fn list_keys(context: &mut Context, state: &State, pattern: &Pattern) -> Done<bool> {
    let mut found = false;
    for key in state.list(prefix(pattern)).await?.iter().filter(|key| pattern.matches(key)) {
        found = true;
        match context.format {
            Format::Human => context.out.line(&escape_key(key))?,
            Format::Tsv => context.out.line(&escape_field(key))?,
            Format::Raw => context.out.line(key)?,
            _ => context.out.line(&Object::of_type("key").text("key", key).finish())?,
        }
    }
    Ok(found)
}

async fn list_entries(context: &mut Context, state: &State, pattern: &Pattern) -> Done<bool> {
    let mut found = false;
    let mut width = 0;
    let mut next = Some(Scan::prefix(prefix(pattern)));
    while let Some(scan) = next {
        let page = state.scan(scan).await?;
        let rows = rows(&page, pattern);
        let widths = rows.iter().map(|(key, _)| cells(&escape_key(key)));
        width = widths.filter(|width| *width <= WIDEST).fold(width, usize::max);
        for (key, entry) in rows {
            found = true;
            match (context.format, entry) {
                (Format::Human, entry) => {
                    let room = if context.verbose { usize::MAX } else { VALUE_ROOM };
                    let value = entry.map_or("(erased)".into(), |entry| brief(&entry.value, room));
                    context.out.line(&format!("{}  {value}", left(&escape_key(key), width)))?;
                }
                (Format::Tsv, Some(entry)) => tsv(context, entry)?,
                (Format::Tsv, None) => context.out.fields([&escape_field(key), "", "", "", "erased", ""])?,
                (_, Some(entry)) => context.out.line(&entry_object(entry).finish())?,
                (_, None) => {
                    let object = Object::of_type("entry").text("key", key).flag("erased", true);
                    context.out.line(&object.finish())?;
                }
            }
        }
        next = page.next;
    }
    Ok(found)
}

/// The keys of a page that match, in order; without an entry where the value is gone.
fn rows<'a>(page: &'a Page, pattern: &Pattern) -> Vec<(&'a str, Option<&'a Entry>)> {
    let entries = page.entries.iter().map(|entry| (entry.key.as_str(), Some(entry)));
    let erased = page.erased.iter().map(|key| (key.as_str(), None));
    let mut rows: Vec<_> = entries.chain(erased).filter(|(key, _)| pattern.matches(key)).collect();
    rows.sort_unstable_by_key(|(key, _)| *key);
    rows
}
