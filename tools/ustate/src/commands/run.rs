//! The command that a watch runs for each change.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use univrs_state::WatchEvent;

use crate::signals::Signals;
use crate::stop::{Done, Exit, Failure, Stop};
use crate::time::rfc3339;

/// How long after the end of a command a signal may still have been meant for both.
const LATE: Duration = Duration::from_millis(20);

/// A command and its arguments.
pub(crate) struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    db: PathBuf,
}

impl Program {
    /// None if there are no words.
    pub(crate) fn of(words: &[OsString], db: &Path) -> Option<Self> {
        let (name, arguments) = words.split_first()?;
        Some(Self { name: name.clone(), arguments: arguments.to_vec(), db: db.to_owned() })
    }

    /// Runs it for an event, which `input` is too; `resume` is the file that says where a restart begins. Returns the
    /// number of a signal that came meanwhile.
    pub(crate) async fn run(
        &self,
        event: &WatchEvent,
        input: String,
        signals: &mut Signals,
        resume: Option<String>,
    ) -> Done<Option<u8>> {
        let shown = self.name.to_string_lossy();
        let child = self.command(event).spawn().map_err(|error| {
            resumes(Failure::io(&format!("cannot run {shown}"), &error), event, resume.as_deref())
        })?;
        let mut ended = pin!(feed(child, input));
        let mut signal = None;
        let status = loop {
            tokio::select! {
                status = &mut ended => break status,
                number = signals.next() => {
                    // The first one waits for the command; the second one ends it.
                    if signal.replace(number).is_some() {
                        return Err(Stop::Signal(number));
                    }
                }
            }
        };
        let status = status.map_err(|error| Failure::io(&format!("cannot wait for {shown}"), &error))?;
        if !status.success() {
            // What was pressed on a terminal reaches the command as well, and first at times.
            let late = async { tokio::time::timeout(LATE, signals.next()).await.ok() };
            if let Some(number) = signal.or(late.await) {
                return Err(Stop::Signal(number));
            }
            let what =
                format!("{shown} failed ({status}) at {} {} {}", event.seq, event.event_type, event.key);
            let failure = Failure::new(Exit::No, "command_failed", what);
            return Err(resumes(failure, event, resume.as_deref()).into());
        }
        Ok(signal)
    }

    fn command(&self, event: &WatchEvent) -> Command {
        let mut command = Command::new(&self.name);
        command.args(&self.arguments).stdin(Stdio::piped()).kill_on_drop(true);
        command
            .env("USTATE_DB", &self.db)
            .env("USTATE_SEQ", event.seq.to_string())
            .env("USTATE_COMMIT_SEQ", event.commit_seq.to_string())
            .env("USTATE_KIND", event.event_type.to_string())
            .env("USTATE_KEY", &event.key)
            .env("USTATE_VERSION", event.version.to_string())
            .env("USTATE_AT", rfc3339(event.at));
        // Not USTATE_ACTOR, which says who the command itself is.
        let meta = event.meta.as_deref();
        let said = [
            ("USTATE_BY", meta.and_then(|meta| meta.actor.as_ref())),
            ("USTATE_REASON", meta.and_then(|meta| meta.reason.as_ref())),
            ("USTATE_CORRELATION", meta.and_then(|meta| meta.correlation.as_ref())),
        ];
        for (name, text) in said {
            // The environment cannot hold a NUL; the JSON on standard input has it.
            command.env(name, text.map(|text| text.replace('\0', "")).unwrap_or_default());
        }
        command
    }
}

/// Gives the event, as JSON, to the command, which need not read it, and waits for its end.
async fn feed(mut child: Child, input: String) -> io::Result<ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        drop(stdin.write_all((input + "\n").as_bytes()).await);
    }
    child.wait().await
}

fn resumes(failure: Failure, event: &WatchEvent, file: Option<&str>) -> Failure {
    if let Some(file) = file {
        return failure.fact(format!("{file} stands before that commit: a restart begins with it again"));
    }
    let before = event.seq.previous();
    failure.fact(format!("no place was kept; --after {before} begins with it again"))
}
