//! The command that a watch runs for each change, a replay for each commit, and a bisection for its
//! answer.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use univrs_state::{Meta, Seq, WatchEvent};

use crate::signals::Signals;
use crate::stop::{Done, Exit, Failure, Stop};
use crate::time::rfc3339;

/// How long after the end of a command a signal may still have been meant for both.
const LATE: Duration = Duration::from_millis(20);
/// How long after the first signal another one ends the command at once.
const INSISTS: Duration = Duration::from_secs(1);

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
        // Wherever the command goes, it finds the same store.
        let db = std::path::absolute(db).unwrap_or_else(|_| db.to_owned());
        Some(Self { name: name.clone(), arguments: arguments.to_vec(), db })
    }

    /// Runs it; returns the number of a signal that came meanwhile.
    pub(crate) async fn run(&self, occasion: Occasion, signals: &mut Signals) -> Done<Option<u8>> {
        let Occasion { at, environment, input, resumes } = occasion;
        let (status, signal) = self
            .status(environment, input, Stdio::inherit(), true, signals)
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
        // It may ask a person: only the group of this process may read from the terminal.
        let (status, signal) = self.status(environment, state, stdout, false, signals).await?;
        let signal = match status.code() {
            None if signal.is_none() => late(signals).await,
            _ => signal,
        };
        signal.map_or(Ok(status), |number| Err(Stop::Signal(number)))
    }

    fn shown(&self) -> Cow<'_, str> {
        self.name.to_string_lossy()
    }

    /// How it ended, and the number of a signal that came meanwhile. Signals are passed on to all that it started.
    async fn status(
        &self,
        environment: Vec<(&'static str, String)>,
        input: String,
        stdout: Stdio,
        has_group: bool,
        signals: &mut Signals,
    ) -> Done<(ExitStatus, Option<u8>)> {
        let shown = self.shown();
        let mut command = Command::new(&self.name);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(stdout).kill_on_drop(true);
        command.env("USTATE_DB", &self.db).envs(environment);
        #[cfg(unix)]
        if has_group {
            command.process_group(0);
        }
        let child = command.spawn().map_err(|error| Failure::io(&format!("cannot run {shown}"), &error))?;
        let group = Group::of(&child, has_group);
        let mut ended = pin!(feed(child, input));
        let mut first: Option<(u8, Instant)> = None;
        let status = loop {
            tokio::select! {
                status = &mut ended => break status,
                number = signals.next() => match first {
                    // A group of processes is told twice at once; who insists later does not want to wait.
                    Some((_, at)) if at.elapsed() > INSISTS => {
                        group.signal(9);
                        return Err(Stop::Signal(number));
                    }
                    _ => {
                        first.get_or_insert((number, Instant::now()));
                        group.signal(number);
                    }
                },
            }
        };
        let status = status.map_err(|error| Failure::io(&format!("cannot wait for {shown}"), &error))?;
        Ok((status, first.map(|(number, _)| number)))
    }
}

/// The processes of a command.
struct Group {
    #[cfg(unix)]
    id: Option<rustix::process::Pid>,
    /// Whether it is a group of its own; else only the command itself is told.
    #[cfg(unix)]
    is_own: bool,
}

impl Group {
    #[cfg(unix)]
    fn of(child: &Child, is_own: bool) -> Self {
        let id = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        Self { id, is_own }
    }

    #[cfg(not(unix))]
    fn of(_: &Child, _: bool) -> Self {
        Self {}
    }

    /// Sends them a signal. Called only before the command was waited for, so that the group is still its own.
    #[cfg(unix)]
    fn signal(&self, number: u8) {
        use rustix::process::{Signal, kill_process, kill_process_group};
        let signal = match number {
            1 => Signal::HUP,
            // The terminal tells the whole group of this process.
            2 if !self.is_own => return,
            2 => Signal::INT,
            9 => Signal::KILL,
            _ => Signal::TERM,
        };
        if let Some(id) = self.id {
            // One that has just ended needs no signal.
            let _ = if self.is_own { kill_process_group(id, signal) } else { kill_process(id, signal) };
        }
    }

    #[cfg(not(unix))]
    #[allow(clippy::unused_self)]
    fn signal(&self, _: u8) {}
}

/// Who ends a whole service tells the command as well, and first at times.
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
