//! `ustate doctor`

use std::path::Path;

use clap::Args;
use univrs_state::stats::About;
use univrs_state::{LocalStore, Meta, Seq, SqliteStore, StateError, StateStore};

use super::accept_clock::accept_clock;
use crate::context::{Context, loss_in, may_write, quoted};
use crate::escape::{escape, escape_field};
use crate::health::{Check, show};
use crate::json::Object;
use crate::mounts::{file_system, is_shared};
use crate::origin::Origin;
use crate::output::Format;
use crate::retention::retention;
use crate::rows::origin;
use crate::source::is_export;
use crate::sqlite_file::{Header, beside, oldest_reader};
use crate::stop::{Done, Exit, Failure, Stop, fail};
use crate::value::{counted, size};

/// The cap of a write-ahead log: one that is larger has not been started over for long.
const LARGE_LOG: u64 = 256 << 20;
/// A reader that is further behind keeps much from being moved.
const FAR_BEHIND: u64 = 64 << 20;

/// Where accepted losses are recorded.
const ACCEPTED_LOSS: &str = "/.univrs/accepted-loss";

const EXAMPLES: &str = "\
Examples:
  ustate doctor
  ustate doctor --json
  ustate doctor --accept-loss --dry-run
  ustate doctor --accept-clock -m 'the clock of n7 was in 2099'";

/// Look at the files of a store, and where they are.
///
/// Exit code 1 means that something needs attention. Of a store that cannot be read, the files are looked at, and the
/// exit code is that of the error. The command opens the store to write, but records nothing, except what --accept-loss
/// and --accept-clock accept, with who accepted it and why. With USTATE_READONLY it does not open it to write.
/// What is in the log is checked by 'ustate verify'.
/// Fields of -o tsv: ok or warning, check, what; in a line before these, of a clock that was accepted: seq, its time,
/// the time of the newest commit before, actor, reason.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Doctor {
    /// Record that the clock is right, if the newest commit is ahead of it; later commits have its times again.
    #[arg(long)]
    accept_clock: bool,
    /// Say what --accept-loss or --accept-clock would accept, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    origin: Origin,
}

impl Doctor {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "doctor")?;
        let path = context.db()?.to_owned();
        if is_export(&path)? {
            let what = format!("{} is an export, whose bytes prove themselves", path.display());
            return fail(Failure::usage(what).hint(context.hint("verify")));
        }
        if self.dry_run {
            return self.rehearse(context, &path).await;
        }
        // Files first: see `sqlite_file`.
        let mut checks = files(&path);
        let header = Header::read(&path).ok().flatten();
        checks.extend(header.as_ref().map(|header| journal(&path, header)));
        checks.push(readers(&path, header.as_ref()));
        if context.accept_loss {
            may_write()?;
            let store = context.open_to_accept(&self.origin.meta()).await?;
            context.close(&store).await;
        }
        if self.accept_clock {
            accept_clock(context, &self.origin.meta(), false).await?;
        }
        match opened(context, &path, header.as_ref()).await {
            Ok(more) => checks.extend(more),
            // The files have been looked at, and may tell why.
            Err(Stop::Failed(failure)) if header.is_some() => {
                checks.push(Check::warning("store", "it cannot be read", "the error says why"));
                show(context, &checks)?;
                return Err(Stop::Failed(failure));
            }
            Err(stop) => return Err(stop),
        }
        checks.push(writes(context, &path).await);
        report(context, &checks)
    }
}

impl Doctor {
    /// Says what would be accepted, by whom and why.
    async fn rehearse(&self, context: &mut Context, path: &Path) -> Done {
        if !context.accept_loss && !self.accept_clock {
            let what = "without --accept-loss or --accept-clock nothing is recorded, so there is nothing to rehearse";
            return fail(Failure::usage(what).hint(context.hint("doctor")));
        }
        may_write()?;
        let meta = self.origin.meta();
        // A rehearsal opens the store to read, which accepts no loss.
        let is_lost = std::mem::take(&mut context.accept_loss) && rehearse_loss(context, path, &meta).await?;
        match self.accept_clock {
            true if is_lost => {
                context.note("whether the clock is to be accepted can be told when the loss was accepted");
                Ok(())
            }
            true => accept_clock(context, &meta, true).await,
            false => Ok(()),
        }
    }
}

/// Says which loss would be accepted, by whom and why; returns whether there is one.
async fn rehearse_loss(context: &mut Context, path: &Path, meta: &Meta) -> Done<bool> {
    let lost = match context.options(path).read_only(true).open(path).await {
        Ok(store) => {
            store.close().await?;
            None
        }
        Err(error) => match loss_in(&error) {
            Some(lost) => Some(lost.to_owned()),
            None => return fail(Context::explain(path, &error)),
        },
    };
    match (context.format, &lost) {
        (Format::Human, Some(lost)) => {
            let by = origin(Some(meta)).replace("  ", " ");
            context.out.line(&format!("would accept the loss{by}: {}", escape(lost)))
        }
        (Format::Human, None) => {
            context.note("nothing was lost, so nothing would be recorded");
            Ok(())
        }
        (Format::Tsv, lost) => lost.iter().try_for_each(|lost| {
            let said = [&meta.actor, &meta.reason];
            let [actor, reason] = said.map(|said| escape_field(said.as_deref().unwrap_or_default()));
            context.out.fields([&*escape_field(lost), &*actor, &*reason])
        }),
        (_, lost) => {
            let object = Object::of_type("loss").flag("accepted", false).flag("dry_run", true);
            context.out.line(&object.maybe("lost", lost.as_deref()).meta(Some(meta)).finish())
        }
    }?;
    Ok(lost.is_some())
}

/// The file itself, and the file system.
fn files(path: &Path) -> Vec<Check> {
    let Ok(metadata) = path.metadata() else { return Vec::new() };
    let mut checks = vec![Check::ok("file", size(metadata.len()))];
    checks.push(permissions(path, &metadata));
    checks.push(match file_system(path) {
        Some(kind) if is_shared(&kind) => Check::warning(
            "file system",
            kind,
            "the write-ahead log needs memory that all who open the file share; move it to a local disk",
        ),
        Some(kind) => Check::ok("file system", kind),
        None => Check::ok("file system", "not known here"),
    });
    checks
}

/// Who else may use the file.
#[cfg(unix)]
fn permissions(path: &Path, metadata: &std::fs::Metadata) -> Check {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    let what = format!("mode {mode:o}");
    if mode | 0o700 == 0o700 {
        return Check::ok("permissions", what);
    }
    let advice = format!("others may read or write all that is in it: chmod 600 {}", quoted(path));
    Check::warning("permissions", what, advice)
}

#[cfg(not(unix))]
fn permissions(_: &Path, _: &std::fs::Metadata) -> Check {
    Check::ok("permissions", "not known here")
}

fn journal(path: &Path, header: &Header) -> Check {
    if !header.write_ahead {
        return Check::warning(
            "journal",
            "no write-ahead log",
            "another program changed the mode; the next write sets it back",
        );
    }
    let bytes = beside(path, "-wal").metadata().map_or(0, |metadata| metadata.len());
    let what = format!("write-ahead log, {}", size(bytes));
    if bytes > LARGE_LOG {
        let advice = "a reader keeps an older state for long, or nothing moves the log into the database";
        return Check::warning("journal", what, advice);
    }
    Check::ok("journal", what)
}

fn readers(path: &Path, header: Option<&Header>) -> Check {
    match oldest_reader(path) {
        Ok(Some(reader)) if reader.behind > 0 => {
            let bytes = reader.behind * header.map_or(0, |header| header.page_bytes);
            let what = format!(
                "process {}{} reads a state that is {} behind ({})",
                reader.process,
                reader.program().map(|name| format!(" ({name})")).unwrap_or_default(),
                counted(reader.behind, "page"),
                size(bytes)
            );
            if bytes > FAR_BEHIND {
                let advice = "it keeps the write-ahead log from being started over";
                return Check::warning("readers", what, advice);
            }
            Check::ok("readers", what)
        }
        Ok(_) => Check::ok("readers", "none of an older state"),
        Err(_) => Check::ok("readers", "not known here"),
    }
}

/// What is to be said of a store that is open, and of how it opened.
async fn opened(context: &Context, path: &Path, header: Option<&Header>) -> Done<Vec<Check>> {
    let store = context.options(path).read_only(true).open(path).await;
    let store = store.map_err(|error| Context::explain(path, &error))?;
    let mut checks = inside(&store, header).await?;
    checks.extend(loss(&store).await?);
    checks.extend(retention(context, &store).await?);
    checks.push(clock(&store).await?);
    store.close().await?;
    checks.extend(opening(path, &store));
    Ok(checks)
}

/// What an open store says.
async fn inside(store: &SqliteStore, header: Option<&Header>) -> Done<Vec<Check>> {
    let mut checks = Vec::new();
    if let Some(header) = header {
        checks.push(Check::ok("schema", format!("format {}", header.user_version)));
        let last = header.written_by.as_ref().map(|last| format!("; last written by {last}"));
        let version = SqliteStore::sqlite_version();
        checks.push(Check::ok("SQLite", format!("{version}{}", last.unwrap_or_default())));
    }
    let (floor, head) = (LocalStore::floor(store).await?.seq, store.head().await?.seq);
    let begins = if floor > Seq::ZERO { format!("begins after {floor}, ") } else { String::new() };
    checks.push(Check::ok("log", format!("{begins}ends at {head}")));
    if store.is_immutable() {
        checks.push(Check::warning(
            "reads",
            "as a file that nobody changes",
            "reads and watches end when its owner writes to it",
        ));
    }
    Ok(checks)
}

/// The last loss that was accepted.
async fn loss(store: &SqliteStore) -> Done<Option<Check>> {
    let accepted = store.history(ACCEPTED_LOSS, None, 1).await?;
    Ok(accepted.first().map(|change| {
        let by = origin(change.meta.as_deref()).replace("  ", " ");
        Check::ok("loss", format!("the last one was accepted at {}{by}", change.seq))
    }))
}

/// What the opening warns of.
fn opening(path: &Path, store: &SqliteStore) -> Vec<Check> {
    let about =
        |asked| store.warnings().iter().filter(move |warning| warning.about == asked).map(AsRef::as_ref);
    let (of_head_file, files): (Vec<&str>, Vec<&str>) =
        about(About::Files).partition(|line| line.contains("-head "));
    let mut checks = vec![head_file(path, of_head_file.first().copied())];
    checks.extend(files.into_iter().map(|what| Check::warning("opening", what, "each command notes it")));
    let advice = "each command notes it; drop what nobody needs";
    checks.extend(about(About::Others).map(|what| Check::warning("others", what, advice)));
    checks
}

/// Whether the newest commit is ahead of the clock.
async fn clock(store: &SqliteStore) -> Done<Check> {
    let warnings = store.stats().await?.warnings;
    Ok(match warnings.iter().find(|warning| warning.about == About::Clock) {
        Some(warning) => {
            let advice = "if the clock is right now, --accept-clock lets times go on from it";
            Check::warning("clock", warning.as_ref(), advice)
        }
        None => Check::ok("clock", "not behind the newest commit"),
    })
}

fn head_file(path: &Path, warning: Option<&str>) -> Check {
    let head_file = beside(path, "-head");
    if let Some(warning) = warning {
        return Check::warning("head file", warning, "without it a lost end of the log cannot be told");
    }
    if head_file.is_file() {
        return Check::ok("head file", "agrees with the log");
    }
    let what = format!("{} is missing", head_file.display());
    Check::warning(
        "head file",
        what,
        "without it a lost end of the log cannot be told; the next write makes it",
    )
}

/// Whether it could be written to.
async fn writes(context: &Context, path: &Path) -> Check {
    if may_write().is_err() {
        return Check::ok("writes", "not tried, as USTATE_READONLY is set");
    }
    let opened = context.options(path).create(false).open(path).await;
    let closed = match opened {
        Ok(store) => store.close().await,
        Err(error) => Err(error),
    };
    match closed {
        Ok(()) => Check::ok("writes", "it can be opened to write"),
        Err(error @ StateError::Busy(_)) => Check::warning(
            "writes",
            error.to_string(),
            "another process keeps it; see which, and for how long",
        ),
        Err(error) => Check::warning("writes", error.to_string(), "this user cannot write it as it is"),
    }
}

/// Shows the checks; anything to see to is exit 1.
fn report(context: &mut Context, checks: &[Check]) -> Done {
    show(context, checks)?;
    let warnings = checks.iter().filter(|check| check.warning.is_some()).count() as u64;
    if warnings == 0 {
        return Ok(());
    }
    fail(Failure::new(Exit::No, "warnings", format!("{} to see to", counted(warnings, "thing"))))
}
