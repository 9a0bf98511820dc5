//! The command that a watch runs for each change, a replay for each commit, and a bisection for its
//! answer.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use univrs_state::{Meta, Seq, WatchEvent};

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

    /// Runs it; returns the number of a signal that came meanwhile.
    pub(crate) async fn run(&self, occasion: Occasion, signals: &mut Signals) -> Done<Option<u8>> {
        let Occasion { at, environment, input, resumes } = occasion;
        let (status, signal) = self
            .status(environment, input, Stdio::inherit(), signals)
            .await
            .map_err(|stop| stop.with(&resumes))?;
        if !status.success() {
            if let Some(number) = signal.or(late(signals).await) {
                return Err(Stop::Signal(number));
            }
            let what = format!("{} failed ({status}) at {at}", self.shown());
            return Err(Failure::new(Exit::No, "command_failed", what).fact(resumes).into());
        }
        Ok(signal)
    }

    /// Runs it for its answer, which is its exit code; what it prints goes to `stdout`.
    pub(crate) async fn ask(
        &self,
        seq: Seq,
        state: String,
        stdout: Stdio,
        signals: &mut Signals,
    ) -> Done<ExitStatus> {
        let environment = vec![("USTATE_SEQ", seq.to_string())];
        let (status, signal) = self.status(environment, state, stdout, signals).await?;
        let signal = match status.code() {
            None if signal.is_none() => late(signals).await,
            _ => signal,
        };
        signal.map_or(Ok(status), |number| Err(Stop::Signal(number)))
    }

    fn shown(&self) -> Cow<'_, str> {
        self.name.to_string_lossy()
    }

    /// How it ended, and the number of a signal that came meanwhile.
    async fn status(
        &self,
        environment: Vec<(&'static str, String)>,
        input: String,
        stdout: Stdio,
        signals: &mut Signals,
    ) -> Done<(ExitStatus, Option<u8>)> {
        let shown = self.shown();
        let mut command = Command::new(&self.name);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(stdout).kill_on_drop(true);
        command.env("USTATE_DB", &self.db).envs(environment);
        let child = command.spawn().map_err(|error| Failure::io(&format!("cannot run {shown}"), &error))?;
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
        Ok((status, signal))
    }
}

/// What was pressed on a terminal reaches the command as well, and first at times.
async fn late(signals: &mut Signals) -> Option<u8> {
    tokio::time::timeout(LATE, signals.next()).await.ok()
}

/// What a command is run for.
pub(crate) struct Occasion {
    /// In words, for when it fails: `4711 updated /nodes/n1`.
    pub(crate) at: String,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// What it gets on standard input.
    pub(crate) input: String,
    /// Where it goes on when it failed.
    pub(crate) resumes: String,
}

impl Occasion {
    /// An event of a watch; `file` keeps its place.
    pub(crate) fn of_event(event: &WatchEvent, input: String, file: Option<&Path>) -> Self {
        let mut environment = vec![
            ("USTATE_SEQ", event.seq.to_string()),
            ("USTATE_COMMIT_SEQ", event.commit_seq.to_string()),
            ("USTATE_KIND", event.event_type.to_string()),
            ("USTATE_KEY", event.key.clone()),
            ("USTATE_VERSION", event.version.to_string()),
            ("USTATE_AT", rfc3339(event.at)),
        ];
        environment.extend(said(event.meta.as_deref()));
        let resumes = match file {
            Some(file) => {
                format!("{} stands before that commit: a restart begins with it again", file.display())
            }
            None => format!("no place was kept; --after {} begins with it again", event.seq.previous()),
        };
        let at = format!("{} {} {}", event.seq, event.event_type, event.key);
        Self { at, environment, input, resumes }
    }
}

/// Who wrote it and why; not as USTATE_ACTOR, which says who the command itself is.
pub(crate) fn said(meta: Option<&Meta>) -> impl Iterator<Item = (&'static str, String)> {
    let said = [
        ("USTATE_BY", meta.and_then(|meta| meta.actor.as_ref())),
        ("USTATE_REASON", meta.and_then(|meta| meta.reason.as_ref())),
        ("USTATE_CORRELATION", meta.and_then(|meta| meta.correlation.as_ref())),
    ];
    // The environment cannot hold a NUL; the JSON on standard input has it.
    said.map(|(name, text)| (name, text.map(|text| text.replace('\0', "")).unwrap_or_default())).into_iter()
}

/// Gives the event, as JSON, to the command, which need not read it, and waits for its end.
async fn feed(mut child: Child, input: String) -> io::Result<ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        drop(stdin.write_all((input + "\n").as_bytes()).await);
    }
    child.wait().await
}
