//! `ustate stats`

use std::collections::HashMap;
use std::ops::ControlFlow;

use clap::Args;
use univrs_state::log::{Change, Commit, Timestamp};
use univrs_state::stats::Warning;
use univrs_state::{Head, LocalStore, Scan, Seq, StateStore};

use crate::as_of::{AsOf, State};
use crate::context::Context;
use crate::escape::{escape, escape_field};
use crate::json::{Object, quote};
use crate::output::{DIM, Format};
use crate::source::Source;
use crate::stop::Done;
use crate::time::{Times, rfc3339};
use crate::value::{count, counted, size};
use crate::width::{self, left, right};

/// The widest column of names.
const WIDEST: usize = 48;

const EXAMPLES: &str = "\
Examples:
  ustate stats
  ustate stats --by prefix --at head
  ustate stats --by actor --json";

/// Count what is in the store and in its log.
///
/// Reads the whole log. Notes say what an operator should see to: a newest commit that is ahead of the clock,
/// and who keeps a large write-ahead log from being moved; with --json they are in the field warnings. With --by: the
/// changes of each prefix, which is the first segment of keys, of each actor, or of each hour. Fields of -o tsv: name,
/// number; with --by the name, changes, commits, bytes that were written, the time of the last change; by prefix also
/// keys and the bytes of their values.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Stats {
    /// Count apart.
    #[arg(long, value_name = "WHAT")]
    by: Option<By>,
    #[command(flatten)]
    as_of: AsOf,
}

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// The first segment of keys.
    Prefix,
    /// Who wrote.
    Actor,
    /// The hour, in the zone that times are shown in.
    Hour,
}

/// What there is of something.
#[derive(Debug, Default, Clone)]
struct Sum {
    /// Keys that exist, and the bytes of their values.
    keys: u64,
    size: u64,
    changes: u64,
    commits: u64,
    /// Bytes of all values in the log.
    written: u64,
    /// The first change and the last one.
    times: Option<(Timestamp, Timestamp)>,
    /// The last commit that was counted.
    commit: Seq,
}

impl Sum {
    fn add(&mut self, change: &Change) {
        self.changes += 1;
        self.written += change.value.as_ref().map_or(0, |value| value.len() as u64);
        self.times = Some((self.times.map_or(change.at, |(first, _)| first), change.at));
        if self.commit != change.commit_seq {
            self.commit = change.commit_seq;
            self.commits += 1;
        }
    }

    fn add_key(&mut self, size: u64) {
        self.keys += 1;
        self.size += size;
    }
}

/// Sums by name, in the order in which the names came.
#[derive(Default)]
struct Sums {
    places: HashMap<Option<String>, usize>,
    sums: Vec<(Option<String>, Sum)>,
}

impl Sums {
    fn of(&mut self, name: Option<String>) -> Option<&mut Sum> {
        let next = self.sums.len();
        let place = *self.places.entry(name).or_insert_with_key(|name| {
            self.sums.push((name.clone(), Sum::default()));
            next
        });
        self.sums.get_mut(place).map(|(_, sum)| sum)
    }
}

impl Stats {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "stats")?;
        let (state, head) = self.as_of.open(context).await?.fixed().await?;
        let Some(by) = self.by else {
            let warnings = match &state.source {
                Source::Live(store, _) => store.stats().await?.warnings,
                Source::Export(_) => Vec::new(),
            };
            if !matches!(context.format, Format::Json | Format::Ndjson) {
                context.warn(&warnings);
            }
            return whole(context, &state, head, &warnings).await;
        };
        let mut sums = Sums::default();
        let times = context.times.clone();
        each(&state.source, head.seq, |change| {
            if let Some(sum) = sums.of(by.name(change, &times)) {
                sum.add(change);
            }
        })
        .await?;
        if by == By::Prefix {
            each_key(&state, |key, bytes| {
                if let Some(sum) = sums.of(Some(prefix(key))) {
                    sum.add_key(bytes);
                }
            })
            .await?;
        }
        let mut sums = sums.sums;
        match by {
            By::Prefix => sums.sort_by(|(one, _), (other, _)| one.cmp(other)),
            By::Actor => {
                sums.sort_by(|(one, a), (other, b)| b.changes.cmp(&a.changes).then_with(|| one.cmp(other)));
            }
            By::Hour => {}
        }
        by.print(context, &sums)
    }
}

/// `/nodes` of `/nodes/n1`.
fn prefix(key: &str) -> String {
    let first = key.split('/').nth(1).unwrap_or_default();
    format!("/{first}")
}

impl By {
    fn name(self, change: &Change, times: &Times) -> Option<String> {
        match self {
            Self::Prefix => Some(prefix(&change.key)),
            Self::Actor => change.meta.as_deref().and_then(|meta| meta.actor.clone()),
            Self::Hour => Some(times.hour(change.at)),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Actor => "actor",
            Self::Hour => "hour",
        }
    }

    fn print(self, context: &mut Context, sums: &[(Option<String>, Sum)]) -> Done {
        match context.format {
            Format::Human => self.table(context, sums),
            Format::Tsv => sums.iter().try_for_each(|(name, sum)| {
                let name = escape_field(name.as_deref().unwrap_or_default()).into_owned();
                let last = sum.times.map(|(_, last)| rfc3339(last)).unwrap_or_default();
                let (changes, commits) = (sum.changes.to_string(), sum.commits.to_string());
                let written = sum.written.to_string();
                if self == Self::Prefix {
                    let (keys, size) = (sum.keys.to_string(), sum.size.to_string());
                    context.out.fields([&name, &changes, &commits, &written, &last, &keys, &size])
                } else {
                    context.out.fields([&name, &changes, &commits, &written, &last])
                }
            }),
            _ => sums.iter().try_for_each(|(name, sum)| {
                let object = Object::of_type("stats").maybe(self.text(), name.as_deref());
                let object = sum.object(object);
                let object = if self == Self::Prefix {
                    object.number("keys", sum.keys).number("bytes", sum.size)
                } else {
                    object
                };
                context.out.line(&object.finish())
            }),
        }
    }

    fn table(self, context: &mut Context, sums: &[(Option<String>, Sum)]) -> Done {
        let mut rows =
            vec![[self.text(), "changes", "commits", "written", "keys", "size"].map(str::to_owned)];
        for (name, sum) in sums {
            let name = name.as_deref().map_or("(none)".into(), escape);
            rows.push([
                name.into_owned(),
                count(sum.changes),
                count(sum.commits),
                size(sum.written),
                count(sum.keys),
                size(sum.size),
            ]);
        }
        let columns = if self == Self::Prefix { 6 } else { 4 };
        let width = |i: usize| {
            let widths = rows.iter().filter_map(|row| row.get(i)).map(|text| width::width(text));
            widths.max().unwrap_or(0).min(WIDEST)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (i, row) in rows.iter().enumerate() {
            let mut line = String::new();
            for (i, (text, width)) in row.iter().zip(&widths).enumerate() {
                let cell = if i == 0 { left(text, *width) } else { format!("  {}", right(text, *width)) };
                line.push_str(&cell);
            }
            let line = if i == 0 { context.out.paint(DIM, &line) } else { line };
            context.out.line(&line)?;
        }
        Ok(())
    }
}

impl Sum {
    /// What the log has.
    fn object(&self, object: Object) -> Object {
        let object = object
            .number("changes", self.changes)
            .number("commits", self.commits)
            .number("bytes_written", self.written);
        match self.times {
            Some((first, last)) => object.text("first_at", &rfc3339(first)).text("last_at", &rfc3339(last)),
            None => object,
        }
    }
}

/// Visits the changes up to a place, page by page.
async fn each(source: &Source, to: Seq, mut visit: impl FnMut(&Change) + Send) -> Done {
    let store: &dyn StateStore = &**source;
    let visit = |commit: Commit| {
        commit.changes.iter().for_each(&mut visit);
        Ok(ControlFlow::Continue(()))
    };
    StateStore::replay(&store, source.floor().into(), to.into(), visit).await?;
    Ok(())
}

/// Visits the keys that exist, with the bytes of their values, page by page.
async fn each_key(state: &State, mut visit: impl FnMut(&str, u64)) -> Done {
    let mut next = Some(Scan::prefix(""));
    while let Some(scan) = next {
        let page = state.scan(scan).await?;
        page.entries.iter().for_each(|entry| visit(&entry.key, entry.value.len() as u64));
        page.erased.iter().for_each(|key| visit(key, 0));
        next = page.next;
    }
    Ok(())
}

/// The sums of everything.
async fn whole(context: &mut Context, state: &State, head: Head, warnings: &[Warning]) -> Done {
    let mut sum = Sum::default();
    each(&state.source, head.seq, |change| sum.add(change)).await?;
    each_key(state, |_, bytes| sum.add_key(bytes)).await?;
    let deleted = state.list_deleted("").await?.len() as u64;
    match context.format {
        Format::Human => {
            let exact = |at| context.times.exact(at);
            let mut facts = vec![
                ("store", state.source.store_id().to_string()),
                ("head", head.to_string()),
                ("changes", format!("{} in {}", count(sum.changes), counted(sum.commits, "commit"))),
                ("written", size(sum.written)),
                ("keys", format!("{} and {} deleted", count(sum.keys), count(deleted))),
                ("size", size(sum.size)),
            ];
            if let Some((first, last)) = sum.times {
                facts.extend([("first", exact(first)), ("last", exact(last))]);
            }
            for (name, fact) in facts {
                let name = context.out.paint(DIM, &format!("{name:<11}"));
                context.out.line(&format!("{name} {fact}"))?;
            }
            Ok(())
        }
        Format::Tsv => {
            let numbers = [
                ("changes", sum.changes),
                ("commits", sum.commits),
                ("bytes_written", sum.written),
                ("keys", sum.keys),
                ("deleted", deleted),
                ("bytes", sum.size),
            ];
            numbers.into_iter().try_for_each(|(name, number)| context.out.fields([name, &number.to_string()]))
        }
        _ => {
            let object = Object::of_type("stats")
                .text("store", &state.source.store_id().to_string())
                .text("head", &head.to_string());
            let object = sum.object(object);
            let object = object.number("keys", sum.keys).number("deleted", deleted).number("bytes", sum.size);
            let object = if warnings.is_empty() {
                object
            } else {
                object.list("warnings", warnings.iter().map(|warning| quote(warning.as_ref())))
            };
            context.out.line(&object.finish())
        }
    }
}
