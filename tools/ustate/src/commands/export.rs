//! `ustate export`

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;
use univrs_state::LocalStore;
use univrs_state::StateError;
use univrs_state::archive::{Exported, Form};

use crate::context::Context;
use crate::escape::{escape, escape_field};
use crate::json::Object;
use crate::output::Format;
use crate::pipe::Pipe;
use crate::progress::{Progress, Unit};
use crate::selection::{Selection, parse_selection, sort_out};
use crate::signals::Signals;
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, Stop, fail};
use crate::value::{count, counted};

const EXAMPLES: &str = "\
Examples:
  ustate export -O state.log
  ustate export '/nodes/**' --redact '/nodes/*/secret' -O nodes.log
  ustate export --text | head -n 3";

/// Write the log to a file that proves itself.
///
/// The file has all changes, or those of the keys that a pattern selects, without the values of the keys
/// that --redact names. Whatever is left out, the hashes lead to the same head. Every command that reads takes such a
/// file as --db; 'ustate import' makes a store of a whole one. A file appears when it is complete. A killed process may
/// leave FILE.PID-N.partial; delete it. Fields of -o tsv: path, head, changes, withheld, redacted.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Export {
    /// Which keys; of other changes only a hash is written. And a range A..B: after A, up to B.
    #[arg(value_name = "PATTERN|A..B", value_parser = parse_selection)]
    select: Vec<Selection>,
    /// The file; nothing may be there yet. Without it, or as -, standard output.
    #[arg(short = 'O', long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Without the values of these keys.
    #[arg(long, value_name = "PATTERN")]
    redact: Vec<String>,
    /// Lines of JSON, for people and pipes. They cannot be imported.
    #[arg(long)]
    text: bool,
}

impl Export {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "export")?;
        let out = self.out.as_deref().filter(|out| *out != Path::new("-"));
        if out.is_none() && !self.text && io::stdout().is_terminal() {
            let failure = Failure::usage("an export is not for the eyes: its form is binary");
            return fail(
                failure.fact("name a file, or use --text").hint(context.hint("export -O state.log")),
            );
        }
        out.map(refuse_existing).transpose()?;
        let redact = self.redact.iter().map(|text| text.parse()).collect::<univrs_state::Result<Vec<_>>>()?;
        let (only, range) = sort_out(&self.select)?;
        let source = context.open().await?;
        let (after, to) = range.unwrap_or_default().places(context, &source).await?;
        let mut export = redact
            .into_iter()
            .fold(univrs_state::archive::Export::new(), univrs_state::archive::Export::redact);
        export = only.into_iter().fold(export, univrs_state::archive::Export::only).to(to);
        if after > source.floor() {
            export = export.after(after);
        }
        let progress = Progress::of(context, "exporting", Unit::Changes);
        export = export.progress(move |at| progress.at(at.done, at.total));
        export = export.form(if self.text { Form::Ndjson } else { Form::Cbor });
        let exported = match out {
            Some(out) => to_file(&source, export, out).await?,
            None => to_stdout(&source, export).await?,
        };
        report(context, out, &exported)
    }
}

/// An error if something is at the path of a file that is to be written.
pub(super) fn refuse_existing(out: &Path) -> Done {
    if out.symlink_metadata().is_err() {
        return Ok(());
    }
    let what = format!("{} exists, and is not written over", out.display());
    fail(Failure::new(Exit::No, "already_exists", what))
}

pub(super) async fn to_file(
    source: &Source,
    export: univrs_state::archive::Export,
    out: &Path,
) -> Done<Exported> {
    let mut signals = Signals::new()?;
    let store = source.local();
    let mut export = std::pin::pin!((&store).export_to(export, out));
    let exported = tokio::select! {
        exported = &mut export => exported,
        number = signals.next() => {
            // What was written goes before this ends.
            drop(source.close().await);
            drop(export.await);
            return Err(Stop::Signal(number));
        }
    };
    exported.map_err(|error| match &error {
        // The store is open: it is the file that is meant.
        StateError::CannotOpen { .. } => Failure { exit: Exit::Io, ..Failure::of(&error) }.into(),
        error => Failure::of(error).into(),
    })
}

async fn to_stdout(source: &Source, export: univrs_state::archive::Export) -> Done<Exported> {
    let (stdout, closed) = Pipe::new(io::stdout());
    let exported = (&source.local()).export(export, stdout).await;
    exported.map_err(|error| if closed.get() { Stop::ClosedPipe } else { error.into() })
}

fn report(context: &mut Context, out: Option<&Path>, exported: &Exported) -> Done {
    let Exported { store, floor, head, changes, withheld, redacted, .. } = exported;
    let mut much = counted(*changes, "change");
    for (number, what) in [(*withheld, "withheld"), (*redacted, "redacted")] {
        if number > 0 {
            much = format!("{much}, {} {what}", count(number));
        }
    }
    let Some(out) = out.map(|out| out.display().to_string()) else {
        context.note(&format!("exported {much}; head {head}"));
        return Ok(());
    };
    match context.format {
        Format::Human if context.quiet => Ok(()),
        Format::Human => {
            context.out.line(&format!("exported {much} to {}", escape(&out)))?;
            context.out.line(&format!("head {head}"))
        }
        Format::Tsv => {
            let [changes, withheld, redacted] = [changes, withheld, redacted].map(u64::to_string);
            context.out.fields([&escape_field(&out), &head.to_string(), &changes, &withheld, &redacted])
        }
        _ => {
            let object = Object::of_type("exported").text("path", &out).text("store", &store.to_string());
            let object = object.text("floor", &floor.to_string()).text("head", &head.to_string());
            let object = object.number("changes", *changes).number("withheld", *withheld);
            context.out.line(&object.number("redacted", *redacted).finish())
        }
    }
}
