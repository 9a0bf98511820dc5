//! What all commands share: the store, the form of the output, and notes.

use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use univrs_state::LocalStore;
use univrs_state::archive::Archive;
use univrs_state::stats::{About, Warning};
use univrs_state::{Meta, Options, Seq, SqliteStore, StateError};

use crate::escape::escape;
use crate::opening;
use crate::output::{DIM, Format, Output, paint};
use crate::source::{Source, is_export};
use crate::stop::{Done, Exit, Failure, fail};
use crate::time::Times;
use crate::value::counted;

/// What was asked for besides the command.
#[allow(clippy::struct_excessive_bools)] // switches of a command line
pub(crate) struct Context {
    pub(crate) db: Option<PathBuf>,
    /// Whether the path stands in the environment, where hints find it too.
    pub(crate) db_from_env: bool,
    pub(crate) format: Format,
    pub(crate) out: Output,
    pub(crate) color_notes: bool,
    pub(crate) times: Times,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    pub(crate) busy_timeout: Duration,
    pub(crate) accept_loss: bool,
}

impl Context {
    pub(crate) fn db(&self) -> Done<&Path> {
        let missing = || {
            Failure::usage("no store was named")
                .fact("give --db PATH, or set USTATE_DB")
                .hint("export USTATE_DB=state.db")
        };
        self.db.as_deref().ok_or_else(|| missing().into())
    }

    /// The store or export, for reading: nothing is created and nothing is written.
    pub(crate) async fn open(&self) -> Done<Source> {
        self.open_at(self.db()?).await
    }

    /// That and another one. Both files are looked at before one of them is open: they may be the same,
    /// and looking would drop the locks of what is open.
    pub(crate) async fn open_beside(&self, other: &Path) -> Done<(Source, Source)> {
        let path = self.db()?;
        let (is_one, is_other) = (is_export(path)?, is_export(other)?);
        Ok((self.open_as(path, is_one).await?, self.open_as(other, is_other).await?))
    }

    /// Opens the store or the export at a path.
    async fn open_at(&self, path: &Path) -> Done<Source> {
        self.open_as(path, is_export(path)?).await
    }

    async fn open_as(&self, path: &Path, is_export: bool) -> Done<Source> {
        if !is_export {
            if self.accept_loss {
                let failure =
                    Failure::usage("--accept-loss is recorded in the store, which this command does not do")
                        .fact("set, doctor and init do, unless they rehearse");
                return fail(failure.hint(format!("ustate doctor --accept-loss --db {}", quoted(path))));
            }
            let store = self.open_with(path, self.options(path).read_only(true)).await?;
            // What concerns reads; `stats` and `doctor` tell the rest.
            let of_reads = |warning: &&Warning| matches!(warning.about, About::Files | About::Others);
            self.warn(store.warnings().iter().filter(of_reads));
            return Ok(Source::live(store).await?);
        }
        let source = Source::Export(Archive::open(path).await?);
        if self.verbose {
            self.note(&format!("export of store {} in {}", source.store_id(), path.display()));
        }
        if source.floor() > Seq::ZERO {
            self.note(&format!("this export begins after {}", source.floor()));
        }
        if source.withheld() > 0 {
            let much = counted(source.withheld(), "change");
            let are = if source.withheld() == 1 { "is" } else { "are" };
            self.note(&format!("{much} of other keys {are} withheld from this export"));
        }
        Ok(source)
    }

    /// The store, for writing; it is never created by this. If a loss is accepted, that is recorded with `meta`.
    pub(crate) async fn open_to_write(&self, meta: &Meta) -> Done<SqliteStore> {
        let store = self.open_to_accept(meta).await?;
        self.warn(store.warnings().iter().filter(|warning| warning.about == About::Clock));
        Ok(store)
    }

    /// That, for whoever accepts the clock or examines it afterwards, and need not be told of it.
    pub(crate) async fn open_to_accept(&self, meta: &Meta) -> Done<SqliteStore> {
        let path = self.writable().await?;
        let options = self.options(path).create(false);
        let options =
            if self.accept_loss { options.accept_loss(true).loss_meta(meta.clone()) } else { options };
        let store = self.open_with(path, options).await?;
        self.warn(store.warnings().iter().filter(|warning| warning.about != About::Clock));
        Ok(store)
    }

    /// The store, for reading what a write would do. A file that cannot be written is refused as the write, with this
    /// metadata, would be.
    pub(crate) async fn open_to_rehearse(&self, meta: &Meta) -> Done<Source> {
        let path = self.writable().await?;
        // Before the store is open: closing a file drops the locks of what this process has open.
        let refused = |error: &std::io::Error| {
            matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
        };
        let cannot_write = std::fs::OpenOptions::new().write(true).open(path).as_ref().is_err_and(refused);
        if cannot_write {
            return Ok(Source::live(self.open_to_write(meta).await?).await?);
        }
        self.open_at(path).await
    }

    /// The path, unless it is one that nothing can be written to.
    async fn writable(&self) -> Done<&Path> {
        let path = self.db()?;
        if !is_export(path)? {
            return Ok(path);
        }
        let what = format!("{} is an export, which is only read", path.display());
        let failure = Failure::new(Exit::Usage, "read_only", what);
        fail(match Archive::open(path).await {
            Ok(archive) if archive.floor().seq > Seq::ZERO || archive.withheld() > 0 => {
                failure.fact("it is a part of a log; only of a whole one a store can be made")
            }
            Ok(_) => failure.hint(format!("ustate import {} --into NEW.db", quoted(path))),
            Err(error) => failure.fact(error.to_string()),
        })
    }

    /// The options of every opening of a store at this path.
    pub(crate) fn options(&self, path: &Path) -> Options {
        Options::new().busy_timeout(self.busy_timeout).opening_progress(opening::told(self, path))
    }

    async fn open_with(&self, path: &Path, options: Options) -> Done<SqliteStore> {
        match options.open(path).await {
            Ok(store) => {
                if self.verbose {
                    self.note(&format!("store {} in {}", store.store_id(), path.display()));
                }
                if store.is_immutable() {
                    self.note("read as a file that nobody changes, as it has no write-ahead log, and none is made for a reader");
                }
                Ok(store)
            }
            Err(error) => fail(Self::explain(path, &error)),
        }
    }

    /// Closes a store after what was asked for is recorded in it, which it stays whatever comes of this.
    pub(crate) async fn close(&self, store: &SqliteStore) {
        if let Err(error) = store.close().await {
            self.note(&format!(
                "recorded, but the write-ahead log could not be moved into the database: {error}"
            ));
        }
    }

    pub(crate) fn explain(path: &Path, error: &StateError) -> Failure {
        let failure = Failure::of(error);
        let why = match error {
            StateError::CannotOpen { why, .. } => why.what(),
            _ => "",
        };
        if why == "does not exist" || is_not_found(error) {
            return failure.hint(format!("ustate init {}", quoted(path)));
        }
        if why == "is not a database" && is_text_of_export(path) {
            return failure
                .fact("it is an export as text, which is not read back; export without --text")
                .hint("ustate export -O state.log");
        }
        if loss_in(error).is_some() {
            let is_gone = path.metadata().map_or(true, |file| file.len() == 0);
            let command = if is_gone { "init --accept-loss" } else { "doctor --accept-loss --db" };
            return failure.hint(format!("ustate {command} {}", quoted(path)));
        }
        failure
    }

    /// Says what the operator of a store should see to.
    pub(crate) fn warn<'a>(&self, warnings: impl IntoIterator<Item = &'a Warning>) {
        for warning in warnings {
            let way = self.way_on(warning.as_ref()).map(|way| format!(": {way}"));
            self.note(&format!("{}{}", warning.as_ref(), way.unwrap_or_default()));
        }
    }

    /// The command that does what a text of the library says can be done.
    pub(crate) fn way_on(&self, text: &str) -> Option<String> {
        let ways =
            [("accept the clock", "doctor --accept-clock -m WHY"), ("resume_compaction", "compact --resume")];
        let (_, command) = ways.into_iter().find(|(said, _)| text.contains(said))?;
        Some(self.hint(command))
    }

    /// Says something beside the data.
    pub(crate) fn note(&self, note: &str) {
        if !self.quiet {
            write_note(self.color_notes, note);
        }
    }

    /// A command that works on the same store.
    pub(crate) fn hint(&self, command: &str) -> String {
        match &self.db {
            Some(db) if !self.db_from_env => format!("ustate {command} --db {}", quoted(db)),
            _ => format!("ustate {command}"),
        }
    }

    /// An error where the command has no output of the form that was asked for.
    pub(crate) fn refuse(&self, format: Format, command: &str) -> Done {
        if self.format != format {
            return Ok(());
        }
        let name = if format == Format::Raw { "raw" } else { "tsv" };
        fail(Failure::usage(format!("{command} has no {name} output")).fact("use -o human or -o json"))
    }
}

/// Writes a note beside the data.
pub(crate) fn write_note(color: bool, note: &str) {
    let name = paint(color, DIM, "note:");
    // Nothing is left to be done where standard error is closed.
    drop(writeln!(io::stderr(), "{name} {}", escape(note)));
}

/// What was lost, if that is the error and can be accepted.
pub(crate) fn loss_in(error: &StateError) -> Option<&str> {
    match error {
        StateError::Corrupted(why) if why.contains("option accept_loss") => {
            Some(why.split_once("; ").map_or(why.as_str(), |(lost, _)| lost))
        }
        _ => None,
    }
}

/// Whether the system said that a file or its folder does not exist.
fn is_not_found(error: &StateError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    matches!(error, StateError::CannotOpen { .. })
        && cause.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound)
}

/// Whether a file begins as an export in lines of JSON does.
fn is_text_of_export(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(256).read_to_end(&mut start));
    let text = String::from_utf8_lossy(&start);
    read.is_ok() && text.starts_with('{') && text.contains(r#""type":"log""#)
}

/// Refuses to write where the environment says so.
pub(crate) fn may_write() -> Done {
    let value = std::env::var_os("USTATE_READONLY").unwrap_or_default();
    match value.to_ascii_lowercase().to_str() {
        Some("" | "0" | "false" | "no" | "off") => Ok(()),
        Some("1" | "true" | "yes" | "on") => fail(
            Failure::new(Exit::Usage, "read_only", "USTATE_READONLY is set, so nothing is written")
                .fact("commands that only read work as ever"),
        ),
        // Whoever set it meant something; it is not guessed what.
        _ => fail(
            Failure::usage("USTATE_READONLY is neither yes nor no, so nothing is written")
                .fact("use 1, true, yes or on; or 0, false, no, off, or nothing"),
        ),
    }
}

/// A path as a shell reads it back.
pub(crate) fn quoted(path: &Path) -> String {
    quoted_text(&path.display().to_string())
}

/// A word as a shell reads it back.
pub(crate) fn quoted_text(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
