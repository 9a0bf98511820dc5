//! `ustate import`

use std::fs::File;
use std::io::{self, Read, Stdin};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use univrs_state::{Head, LocalStore, Options, StateError, StateStore};

use crate::context::{Context, may_write, quoted};
use crate::escape::{escape, escape_field};
use crate::input::{PULSE, is_ready};
use crate::json::Object;
use crate::output::Format;
use crate::progress::{Progress, Unit};
use crate::signals::Signals;
use crate::sqlite_file::Header;
use crate::stop::{Done, Exit, Failure, Stop, fail};
use crate::value::counted;

const EXAMPLES: &str = "\
Examples:
  ustate export -O whole.log && ustate import whole.log --into copy.db
  ustate export | ustate import - --into piped.db";

/// Make a new store of an export.
///
/// The new store has the same id, changes, times and hashes. It appears when the last hash has been
/// checked; otherwise nothing is left behind. A killed process may leave files whose names begin with
/// NEW.PID-N.partial; delete them. Fields of -o tsv: path, head.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Import {
    /// The export; - reads it from standard input.
    file: PathBuf,
    /// Where the store goes; nothing may be there yet.
    #[arg(long, value_name = "NEW")]
    into: PathBuf,
}

impl Import {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        may_write()?;
        context.refuse(Format::Raw, "import")?;
        let progress = Progress::of(context, "importing", Unit::Bytes);
        let made = import(context, self.open(progress)?, &self.into, |error| self.refused(error)).await?;
        report(context, &self.into, &made)
    }

    fn open(&self, progress: Progress) -> Done<Input> {
        let cancelled = Arc::new(AtomicBool::new(false));
        if self.file == Path::new("-") {
            return Ok(Input::new(Waiting(io::stdin(), Arc::clone(&cancelled)), 0, progress, cancelled));
        }
        let opened = File::open(&self.file).and_then(|file| Ok((file.metadata()?, file)));
        let named = format!("cannot read {}", self.file.display());
        let (metadata, file) = opened.map_err(|error| Failure::io(&named, &error))?;
        if metadata.is_dir() {
            return fail(Failure::io(&named, &io::ErrorKind::IsADirectory.into()));
        }
        Ok(Input::new(file, metadata.len(), progress, cancelled))
    }

    /// What is wrong with the export.
    fn refused(&self, error: &StateError) -> Failure {
        let name = if self.file == Path::new("-") {
            "standard input".into()
        } else {
            self.file.display().to_string()
        };
        let (exit, code, why) = match error {
            StateError::InvalidArgument(why) => (Exit::NoStore, "cannot_open", why),
            StateError::Corrupted(why) => (Exit::Integrity, error.code(), why),
            StateError::Erased(why) => (Exit::HistoryGone, error.code(), why),
            StateError::UpgradeNeeded(what) => {
                return Failure::of(&StateError::UpgradeNeeded(format!("{name}: {what}")));
            }
            error => return Failure::of(error),
        };
        let failure = Failure::new(exit, code, format!("{name}: {why}"));
        match exit {
            // Another version wrote it, which no other export mends.
            Exit::NoStore if why.contains("but this version") => failure,
            Exit::NoStore => failure
                .fact("a log can be imported as 'ustate export' writes it, without --text")
                .hint(match Header::read(&self.file) {
                    Ok(Some(_)) => format!("ustate export --db {} -O state.log", quoted(&self.file)),
                    _ => "ustate export -O state.log".to_owned(),
                }),
            Exit::Integrity => failure
                .fact("nothing was made of it; see whether another copy is whole")
                .hint(format!("ustate import COPY --into {}", quoted(&self.into))),
            _ => failure.hint(format!("ustate list --db {}", quoted(&self.file))),
        }
    }
}

/// A store that was made of an export.
pub(super) struct Made {
    pub(super) head: Head,
    /// How many changes its log has behind where it begins.
    pub(super) changes: u64,
}

/// Builds a store of an export; returns where its log ends. A signal ends it, and leaves nothing.
pub(super) async fn import(
    context: &Context,
    input: Input,
    into: &Path,
    refused: impl Fn(&StateError) -> Failure,
) -> Done<Made> {
    if into.symlink_metadata().is_ok() {
        let what = format!("{} exists, and is not written over", into.display());
        let failure = Failure::new(Exit::No, "already_exists", what);
        return fail(failure.fact("--into names a file that is not there yet"));
    }
    let mut signals = Signals::new()?;
    let cancelled = input.cancelled.clone();
    let mut import = std::pin::pin!(Options::new().busy_timeout(context.busy_timeout).import(input, into));
    let imported = tokio::select! {
        imported = &mut import => imported,
        number = signals.next() => {
            cancelled.store(true, Ordering::Relaxed);
            // What it had written goes before this ends, unless whoever writes the pipe says nothing.
            tokio::select! { _ = import => {} () = insisted(&mut signals) => {} }
            return Err(Stop::Signal(number));
        }
    };
    let store = imported.map_err(|error| match &error {
        // It is the new file that is meant.
        StateError::CannotOpen { .. } => Failure { exit: Exit::Io, ..Failure::of(&error) },
        error => refused(error),
    })?;
    let (head, floor) = (store.head().await?, store.floor().await?);
    context.close(&store).await;
    Ok(Made { head, changes: head.seq.as_u64() - floor.seq.as_u64() })
}

/// Waits for a signal that is another one: a group of processes is told twice at once.
async fn insisted(signals: &mut Signals) {
    let begun = Instant::now();
    loop {
        signals.next().await;
        if begun.elapsed() > Duration::from_secs(1) {
            return;
        }
    }
}

fn report(context: &mut Context, into: &Path, made: &Made) -> Done {
    let Made { head, changes } = made;
    let path = into.display().to_string();
    match context.format {
        Format::Human if context.quiet => Ok(()),
        Format::Human => {
            let changes = counted(*changes, "change");
            context.out.line(&format!("imported {changes} into {}", escape(&path)))?;
            context.out.line(&format!("head {head}"))
        }
        Format::Tsv => context.out.fields([&escape_field(&path), &head.to_string()]),
        _ => {
            let object = Object::of_type("imported").text("path", &path);
            let object = object.number("changes", *changes);
            context.out.line(&object.text("head", &head.to_string()).finish())
        }
    }
}

/// An export as it is read: counted, and given up when that is asked for.
pub(super) struct Input {
    read: Box<dyn Read + Send>,
    done: u64,
    total: u64,
    progress: Progress,
    cancelled: Arc<AtomicBool>,
}

impl Input {
    pub(super) fn new(
        read: impl Read + Send + 'static,
        total: u64,
        progress: Progress,
        cancelled: Arc<AtomicBool>,
    ) -> Self {
        Self { read: Box::new(read), done: 0, total, progress, cancelled }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(given_up());
        }
        let read = self.read.read(buffer)?;
        self.done += read as u64;
        self.progress.at(self.done, self.total);
        Ok(read)
    }
}

/// Standard input, whose reader does not wait longer for it than it is wanted.
struct Waiting(Stdin, Arc<AtomicBool>);

impl Read for Waiting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stdin = self.0.lock();
        while !is_ready(&stdin, PULSE) {
            if self.1.load(Ordering::Relaxed) {
                return Err(given_up());
            }
        }
        stdin.read(buffer)
    }
}

fn given_up() -> io::Error {
    io::Error::other("a signal came")
}
