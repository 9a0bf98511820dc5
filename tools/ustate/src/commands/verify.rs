//! `ustate verify`

use std::path::{Path, PathBuf};

use clap::Args;
use univrs_state::log::Anchor;
use univrs_state::verify::VerifyReport;

use crate::context::Context;
use crate::input::{named, read_at_most, wait_for_at_most};
use crate::output::Format;
use crate::progress::{Progress, Unit};
use crate::stop::{Done, Exit, Failure, Stop, fail};
use crate::value::counted;
use crate::verdict;

/// The most bytes of a file of anchors, which is some 400 000.
const MOST_ANCHORS: usize = 64 << 20;

const EXAMPLES: &str = "\
Examples:
  ustate verify
  ustate anchor >> anchors.ndjson && ustate verify --anchor anchors.ndjson
  ustate verify --level quick --json > verified.json";

/// Check every change against its hash and the entries against the log.
///
/// Exit code 5 means that something contradicts something else. A log cannot prove about itself that
/// nothing was cut off its end or rewritten; an anchor that was kept elsewhere can. Fields of -o tsv:
/// proved, contradicted or not_provable; seq; key; what.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Verify {
    /// How much is looked at.
    #[arg(long, value_name = "LEVEL", default_value = "full")]
    level: Level,
    /// Also whether these anchors are in the log: lines of 'ustate anchor', - for standard input.
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Level {
    /// The newest changes and their keys: milliseconds.
    Quick,
    /// The whole chain: every value, every link.
    Chain,
    /// The chain, the entries against it, and the storage around them.
    Full,
}

impl Verify {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "verify")?;
        let mut anchors = Vec::new();
        for file in &self.anchor {
            anchors.extend(read_anchors(file).await?);
        }
        let source = context.open().await.map_err(elsewhere)?;
        let progress = Progress::of(context, "verifying", Unit::Changes);
        let verify = univrs_state::verify::Verify::level(match self.level {
            Level::Quick => univrs_state::verify::Level::Quick,
            Level::Chain => univrs_state::verify::Level::Chain,
            Level::Full => univrs_state::verify::Level::Full,
        });
        let verify = verify.anchors(anchors.clone()).progress(move |at| progress.at(at.done, at.total));
        let report = source.verify_with(verify).await?;
        match context.format {
            Format::Human => verdict::human(context, &report)?,
            Format::Tsv => verdict::tsv(context, &report)?,
            _ => context.out.line(&verdict::object(&report))?,
        }
        context.out.flush()?;
        if !report.is_intact() {
            let can_be_remade =
                matches!(self.level, Level::Full) && !source.is_export() && report.in_log == 0;
            let failure = contradicted(&report);
            return fail(if can_be_remade { remade(context, failure) } else { failure });
        }
        if context.format == Format::Human && report.head.seq.as_u64() > 0 && self.anchor.is_empty() {
            let anchor = context.hint("anchor");
            context
                .note(&format!("an anchor that is kept elsewhere proves more: {anchor} >> anchors.ndjson"));
        }
        Ok(())
    }
}

/// The anchors in a file, a line each.
pub(super) async fn read_anchors(file: &Path) -> Done<Vec<Anchor>> {
    let file = Some(file).filter(|file| *file != Path::new("-"));
    let name = named(file);
    let bytes = match file {
        Some(file) => read_at_most(file, MOST_ANCHORS)?,
        None => wait_for_at_most(MOST_ANCHORS).await?,
    };
    let Some(bytes) = bytes else {
        return fail(Failure::usage(format!("{name} is too large for a list of anchors")));
    };
    // What is no text is no anchor, which is said with its line.
    let text = String::from_utf8_lossy(&bytes);
    let mut anchors = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let anchor = line.parse::<Anchor>().map_err(|error| {
            let failure = Failure::usage(format!("{name}, line {}: this is no anchor", number + 1));
            failure.fact(error.to_string().replace("invalid argument: ", "")).hint("ustate anchor")
        });
        anchors.push(anchor?);
    }
    if anchors.is_empty() {
        return fail(Failure::usage(format!("{name} has no anchor")).hint("ustate anchor"));
    }
    Ok(anchors)
}

/// An export that is damaged is not opened: another copy is to be looked at, not this one again.
fn elsewhere(stop: Stop) -> Stop {
    match stop {
        Stop::Failed(mut failure) if failure.exit == Exit::Integrity => {
            failure.hint.get_or_insert_with(|| "ustate verify --db BACKUP".into());
            Stop::Failed(failure)
        }
        stop => stop,
    }
}

fn contradicted(report: &VerifyReport) -> Failure {
    let first = report.findings.iter().find_map(|finding| finding.seq);
    let place = first.map(|seq| format!(", first at {seq}")).unwrap_or_default();
    let what = format!("{}{place}", counted(report.contradictions, "contradiction"));
    Failure::new(Exit::Integrity, "corrupted", what)
        .fact("keep a copy of the file as it is; see whether a backup is whole")
        .hint("ustate verify --db BACKUP")
}

/// Where the log is whole, the entries are made again of it.
fn remade(context: &Context, failure: Failure) -> Failure {
    let export = context.hint("export -O whole.log");
    failure
        .fact("the log itself is whole, and a new store can be made of it, entries and all")
        .hint(format!("{export} && ustate import whole.log --into NEW.db"))
}
