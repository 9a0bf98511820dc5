//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use jiff::tz::TimeZone;

use crate::commands::{
    anchor, bisect, blame, compact, completions, consumers, delete, diff, doctor, erase, export, get,
    history, import, init, list, load, log, mark, replay, restore, retain, set, show, stats, thin, tree,
    verify, watch,
};
use crate::output::Format;
use crate::time::{parse_duration, parse_zone};

/// Look into, watch and verify a univrs-state store.
///
/// A store is one file: a log of every change, chained by hashes, and the entries it adds up to.
/// Reading never changes the file and works while other programs write to it.
#[derive(Debug, Parser)]
#[command(name = "ustate", version, arg_required_else_help = true, after_long_help = EXIT_CODES)]
#[command(max_term_width = 100, subcommand_required = true, infer_long_args = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done                        5  integrity: stored bytes are wrong
  1  the answer is no            6  history not available
  2  usage                       7  input or output failed
  3  no usable store             70 a bug
  4  busy                        129, 130, 143 ended by a signal

Points in the history, for --at and ranges A..B (after A, up to B):
  4711             a place in the log; 0 is before the first change
  head, head~10    the end of the log, and before its last 10 commits
  2026-09-01T12:05:02Z, 2026-09-01, 2h-ago, @1788264302000000
                   the last commit at or before that time; behind @ are
                   microseconds since 1970
  mark:NAME        the point that 'ustate mark' gave this name
  hash:9f2c        the change whose hash begins so
A point is the end of a commit. One inside a commit is refused, and the error
names its two neighbours. Where a change is meant, as with show and restore
--undo, a number or a hash names any change.

Examples:
  ustate init state.db && export USTATE_DB=state.db
  ustate set /nodes/n1 '{\"ready\":true}' --type json -m 'first boot'
  ustate watch '/nodes/**' --cursor-file agent.cursor
  ustate verify";

/// Options of all commands.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // switches of a command line
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The store's file, or for reading that of an export.
    #[arg(long, global = true, env = "USTATE_DB", value_name = "PATH", hide_env_values = true, value_parser = any_path())]
    pub(crate) db: Option<PathBuf>,
    /// The form of the output.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value = "human")]
    pub(crate) output: Format,
    /// Short for --output json.
    #[arg(long, global = true, conflicts_with = "output")]
    pub(crate) json: bool,
    /// When to use colour; NO_COLOR is respected.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: clap::ColorChoice,
    /// Show times in UTC, as is the default.
    #[arg(long, global = true, conflicts_with_all = ["tz", "relative"])]
    pub(crate) utc: bool,
    /// Show times in this zone: Europe/Berlin, +02:00, local.
    #[arg(long, global = true, value_name = "ZONE", value_parser = parse_zone)]
    pub(crate) tz: Option<TimeZone>,
    /// Show times as a distance from now.
    #[arg(long, global = true)]
    pub(crate) relative: bool,
    /// Print only data, errors, and which keys were deleted.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; show values whole.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// How long to wait for other processes that write.
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub(crate) busy_timeout: Duration,
    /// Go on where recorded changes are missing, and record that: with set, doctor and init.
    #[arg(long, global = true)]
    pub(crate) accept_loss: bool,
}

/// Also an empty one, as a variable may be: it names nothing.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(get::Get),
    List(list::List),
    Tree(tree::Tree),
    Set(set::Set),
    Delete(delete::Delete),
    Watch(watch::Watch),
    Log(log::Log),
    Show(show::Show),
    History(history::History),
    Diff(diff::Diff),
    Blame(blame::Blame),
    Bisect(bisect::Bisect),
    Stats(stats::Stats),
    Verify(verify::Verify),
    Anchor(anchor::Anchor),
    Mark(mark::Marks),
    Export(export::Export),
    Import(import::Import),
    Replay(replay::Replay),
    Restore(restore::Restore),
    Load(load::Load),
    Compact(compact::Compact),
    Thin(thin::Thin),
    Erase(erase::Erase),
    Retain(retain::Retain),
    Consumers(consumers::Consumers),
    Doctor(doctor::Doctor),
    Init(init::Init),
    Completions(completions::Completions),
}
