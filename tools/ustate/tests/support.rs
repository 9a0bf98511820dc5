//! A folder of its own for each test, and transcripts of what is run in it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use regex::Regex;
use snapbox::{Assert, Data};
use tempfile::TempDir;
use univrs_state::archive::Export;
use univrs_state::log::Change;
use univrs_state::{LocalStore, MemoryStore, Options, Seq, SqliteStore, StateStore};

use crate::forged::chain;

/// A folder with a store in it, named by `USTATE_DB`.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    /// With an empty store.
    pub(crate) fn new() -> Self {
        let place = Self::without_store();
        assert_eq!(place.code("init state.db"), 0);
        place
    }

    pub(crate) fn without_store() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `ustate` with these arguments, in an environment that says nothing else.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.as_environment_of(env!("CARGO_BIN_EXE_ustate"));
        command.args(arguments);
        command
    }

    /// A program in the same folder and environment.
    pub(crate) fn as_environment_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("USTATE_") || name == "NO_COLOR" || name == "CLICOLOR_FORCE"
            {
                command.env_remove(name);
            }
        }
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("USTATE_DB", "state.db").env("USTATE_ACTOR", "alice@ops").env("COLUMNS", "100");
        command
    }

    /// Runs a line, split as a shell would.
    pub(crate) fn output(&self, line: &str) -> Output {
        self.command(&words(line)).output().unwrap()
    }

    pub(crate) fn code(&self, line: &str) -> i32 {
        self.output(line).status.code().unwrap()
    }

    /// Standard output of a line that succeeds.
    pub(crate) fn stdout(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a line with something on standard input.
    pub(crate) fn fed(&self, line: &str, input: &[u8]) -> Output {
        let mut command = self.command(&words(line));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs lines one after the other; what they print, standard error behind `!`.
    pub(crate) fn transcript(&self, lines: &[&str]) -> String {
        let mut transcript = String::new();
        for line in lines {
            transcript.extend(["$ ustate ", line, "\n", &self.shown(&self.output(line))]);
        }
        transcript
    }

    /// What a run printed, with what differs from run to run left out.
    pub(crate) fn shown(&self, output: &Output) -> String {
        let mut shown = String::from_utf8(output.stdout.clone()).unwrap();
        for line in String::from_utf8(output.stderr.clone()).unwrap().lines() {
            shown.extend(["! ", line, "\n"]);
        }
        match output.status.code() {
            Some(0) => {}
            code => shown.extend(["[exit ", &code.unwrap().to_string(), "]\n"]),
        }
        self.scrubbed(&shown)
    }

    pub(crate) fn scrubbed(&self, text: &str) -> String {
        let folder = self.folder.path().canonicalize().unwrap();
        let mut text = text.replace(&*folder.to_string_lossy(), "[FOLDER]");
        for (pattern, name) in [
            (r"\b[0-9a-f]{64}\b", "[HASH]"),
            (r"\b[0-9a-f]{32}\b", "[STORE]"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "[EXACT]"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[TIME]"),
            (r"\d\d:\d\d:\d\d\.\d{3}", "[CLOCK]"),
            (r" {2,}(just now|\d+ (s|d) ago)", "  [AGO]"),
            (r"just now|\d+ (s|d) ago", "[AGO]"),
        ] {
            text = Regex::new(pattern).unwrap().replace_all(&text, name).into_owned();
        }
        text
    }

    /// Runs a line as a user who may read what is in the folder, but not write there.
    pub(crate) fn as_nobody(&self, line: &str) -> Output {
        let set_mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        // The folders of the build may be closed to others; a copy is not.
        let copy = self.path("ustate");
        // By another process: a file that this one writes cannot be run while what other tests start has it.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_ustate")).arg(&copy).status().unwrap();
        assert!(copied.success());
        for file in std::fs::read_dir(self.folder.path()).unwrap() {
            set_mode(&file.unwrap().path(), 0o755);
        }
        let is_root = std::os::unix::fs::MetadataExt::uid(&copy.metadata().unwrap()) == 0;
        set_mode(self.folder.path(), if is_root { 0o755 } else { 0o555 });
        // Root may write everywhere; anybody else only loses the folder.
        let mut command = self.as_environment_of(if is_root { "setpriv" } else { "./ustate" });
        if is_root {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "./ustate"]);
        }
        let output = command.args(words(line)).output().unwrap();
        set_mode(self.folder.path(), 0o755);
        std::fs::remove_file(copy).unwrap();
        output
    }

    /// Starts a line and leaves it running.
    pub(crate) fn start(&self, line: &str) -> Running {
        Running::of(self.command(&words(line)))
    }

    /// Alters the log as no program can, with hashes that are right again.
    pub(crate) async fn forge(&self, alter: impl FnOnce(&mut [Change])) {
        let store = self.open().await;
        let commits = store.changes(Seq::ZERO, 10_000).await.unwrap();
        let mut log: Vec<Change> = commits.into_iter().flat_map(|commit| commit.changes).collect();
        alter(&mut log);
        chain(store.store_id(), &mut log);
        let forged = MemoryStore::replay(store.store_id(), log).unwrap();
        store.close().await.unwrap();
        forged.export_to(Export::new(), self.path("forged.log")).await.unwrap();
        for suffix in ["", "-wal", "-shm", "-head"] {
            let _ = std::fs::remove_file(self.path(&format!("state.db{suffix}")));
        }
        self.stdout("import forged.log --into state.db");
    }

    /// The store, opened by the test itself.
    pub(crate) async fn open(&self) -> SqliteStore {
        Options::new().open(self.path("state.db")).await.unwrap()
    }
}

/// A command that runs.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line that it prints; waits for it.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Sends a signal until it has ended, as an impatient person does.
    pub(crate) fn insist(&mut self, name: &str) {
        while self.child.try_wait().unwrap().is_none() {
            self.signal(name);
        }
    }

    /// Kills it as with `kill -9`; what it had printed and nobody had read.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.lines().map(Result::unwrap).collect()
    }

    /// Nobody reads what it prints any longer.
    pub(crate) fn hang_up(self) -> Output {
        drop(self.lines);
        self.child.wait_with_output().unwrap()
    }

    pub(crate) fn code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

/// Compares exactly; `SNAPSHOTS=overwrite` writes what is there into the test.
pub(crate) fn check(actual: &str, expected: impl Into<Data>) {
    Assert::new().normalize_paths(false).action_env("SNAPSHOTS").eq(actual, expected.into().raw());
}

/// Splits a line at spaces, but not within single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    if line.is_empty() {
        words.clear();
    }
    words
}
