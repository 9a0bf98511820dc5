//! Child processes: the test binary runs itself as an interpreter of a few commands, which
//! answers over its pipes. For what needs another process, another user, or a death.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use univrs_state::archive::Export;
use univrs_state::options::Durability;
use univrs_state::{LocalStore, Options, Seq, SqliteStore, StateStore};

const MARK: &str = "UNIVRS_STATE_TEST_CHILD";

/// A running child; killed when it is dropped.
pub(crate) struct Child {
    process: Running,
    input: ChildStdin,
    output: Output,
}

struct Running(Process);

struct Output(BufReader<ChildStdout>);

/// A running child whose answers are heard as they come, so that it never waits for its parent.
pub(crate) struct Heard {
    process: Running,
    _input: ChildStdin,
    pub(crate) answers: mpsc::Receiver<Result<String, String>>,
}

impl Child {
    pub(crate) fn start() -> Self {
        Self::start_by(&[], &std::env::current_exe().unwrap())
    }

    /// Starts a copy of the test binary through other commands, such as `setpriv`.
    pub(crate) fn start_by(through: &[&str], binary: &Path) -> Self {
        let mut words: Vec<OsString> = through.iter().map(OsString::from).collect();
        words.push(binary.into());
        let mut process = Command::new(&words[0])
            .args(&words[1..])
            .args(["--exact", "support::child::interpreter", "--nocapture", "--test-threads=1"])
            .env(MARK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = Output(BufReader::new(process.stdout.take().unwrap()));
        Self { process: Running(process), input, output }
    }

    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// The next answer; none once the child is gone.
    pub(crate) fn answer(&mut self) -> Option<Result<String, String>> {
        self.output.answer()
    }

    /// Tells a command and waits for its answer.
    pub(crate) fn ask(&mut self, command: &str) -> Result<String, String> {
        self.tell(command);
        self.answer().unwrap_or_else(|| panic!("the child died of {command:?}"))
    }

    /// Ends it in an orderly way, and waits for that.
    pub(crate) fn end(self) {
        let Self { mut process, input, output } = self;
        drop(input);
        assert!(process.0.wait().unwrap().success());
        drop(output);
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(self) {
        self.kill_and_hear();
    }

    /// The same; what it answered before, and nobody has heard yet.
    pub(crate) fn kill_and_hear(mut self) -> Vec<Result<String, String>> {
        self.process.kill();
        std::iter::from_fn(|| self.answer()).collect()
    }

    /// Hears all that it says from now on.
    pub(crate) fn heard(self) -> Heard {
        let Self { process, input, mut output } = self;
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            while let Some(answer) = output.answer() {
                let _ = sender.send(answer);
            }
        });
        Heard { process, _input: input, answers }
    }
}

impl Heard {
    /// SIGKILL; what it answered before, and nobody has heard yet.
    pub(crate) fn kill_and_hear(mut self) -> Vec<Result<String, String>> {
        self.process.kill();
        self.answers.iter().collect()
    }
}

impl Output {
    /// The next answer; none once the child is gone.
    fn answer(&mut self) -> Option<Result<String, String>> {
        let mut line = String::new();
        // The test harness writes lines of its own.
        while self.0.read_line(&mut line).unwrap_or(0) > 0 {
            if line.ends_with('\n') {
                if let Some((_, ok)) = line.trim_end_matches('\n').split_once("@ok ") {
                    return Some(Ok(ok.to_owned()));
                }
                if let Some((_, error)) = line.trim_end_matches('\n').split_once("@err ") {
                    return Some(Err(error.to_owned()));
                }
            }
            line.clear();
        }
        None
    }
}

impl Running {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Not a test of its own: does what a parent asks over the pipe.
#[test]
fn interpreter() {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    end_with_the_parent();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut store = None;
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split('\t').collect();
        match runtime.block_on(obey(&mut store, &words)) {
            Ok(answer) => say(&format!("@ok {answer}")),
            Err(error) => say(&format!("@err {error}")),
        }
    }
}

/// Ends this process soon after its parent, whatever it does then.
fn end_with_the_parent() {
    let parent = std::os::unix::process::parent_id();
    std::thread::spawn(move || {
        while std::os::unix::process::parent_id() == parent {
            std::thread::sleep(Duration::from_secs(1));
        }
        std::process::exit(1);
    });
}

pub(crate) fn say(answer: &str) {
    let mut out = std::io::stdout().lock();
    // Where nobody listens any more, nothing is left to do.
    if writeln!(out, "\n{answer}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

fn told(error: &univrs_state::StateError) -> String {
    format!("{}: {error}", error.code())
}

async fn obey(store: &mut Option<SqliteStore>, words: &[&str]) -> Result<String, String> {
    let options = || Options::new().busy_timeout(Duration::from_secs(60));
    let open = || store.clone().expect("a store is open");
    match *words {
        ["open", path] => *store = Some(options().open(path).await.map_err(|error| told(&error))?),
        ["open buffered", path] => {
            *store = Some(
                options().durability(Durability::Buffered).open(path).await.map_err(|error| told(&error))?,
            );
        }
        ["open read-only", path] => {
            *store = Some(options().read_only(true).open(path).await.map_err(|error| told(&error))?);
        }
        ["open buffered capped", path] => {
            let options = options().durability(Durability::Buffered).wal_cap(2 << 20);
            *store = Some(options.open(path).await.map_err(|error| told(&error))?);
        }
        ["warnings"] => return Ok(open().warnings().iter().map(ToString::to_string).collect()),
        // Reads one state of a file with plain SQLite from now on.
        ["hold", path] => {
            let conn = rusqlite::Connection::open(path).map_err(|error| error.to_string())?;
            let held = conn.execute_batch("BEGIN; SELECT count(*) FROM kv_store");
            held.map_err(|error| error.to_string())?;
            std::mem::forget(conn);
            return Ok(std::process::id().to_string());
        }
        ["close"] => store.take().expect("a store is open").close().await.map_err(|error| told(&error))?,
        ["drop"] => drop(store.take()),
        ["set", key, value] => {
            return Ok(open().set(key, value.into()).await.map_err(|error| told(&error))?.to_string());
        }
        ["fill", key, bytes] => {
            let value = vec![7; bytes.parse().unwrap()];
            return Ok(open().set(key, value).await.map_err(|error| told(&error))?.to_string());
        }
        ["export", path] => {
            open().export_to(Export::new(), path).await.map_err(|error| told(&error))?;
        }
        ["import", export, into] => {
            let export = std::fs::File::open(export).unwrap();
            *store = Some(options().import(export, into).await.map_err(|error| told(&error))?);
        }
        ["warning"] => return Ok(open().warning().unwrap_or_default().to_owned()),
        // Which changes of a key have a value, and whether it can be read as of a position.
        ["values", key, at] => {
            let history = open().history(key, None, 1_000).await.map_err(|error| told(&error))?;
            let valued = history.iter().filter(|change| change.value.is_some()).count();
            let past = open().at(Seq::new(at.parse().unwrap()).into()).await.map_err(|error| told(&error))?;
            let read = past.get(key).await.map(|entry| entry.is_some()).map_err(|error| error.code());
            return Ok(format!("{valued} {read:?}"));
        }
        // Says when it has shown one event, and when it knows of the change at a position, how many of the others before
        // that one have a value.
        ["watch the values before", seq] => {
            let (mut watch, end) =
                (open().watch_after("/*", Seq::ZERO.into()).unwrap(), seq.parse().unwrap());
            watch.try_next().await.map_err(|error| told(&error))?;
            say("@ok it watches");
            while open().stats().await.map_err(|error| told(&error))?.head.seq < Seq::new(end) {
                tokio::task::yield_now().await;
            }
            let (mut events, mut valued) = (0, 0);
            while let Some(event) = watch.try_next().await.map_err(|error| told(&error))?
                && event.seq < Seq::new(end)
            {
                events += 1;
                valued += u32::from(event.new_value.is_some() || event.old_value.is_some());
            }
            return Ok(format!("{valued} of {events}"));
        }
        ["erase", pattern] => {
            let erase = univrs_state::retain::Erase::of(pattern.parse().unwrap());
            let erased = univrs_state::retain::Retention::erase(&open(), erase).await;
            return erased.map(|done| done.values.to_string()).map_err(|error| told(&error));
        }
        ["resume erasure"] => {
            let resumed = univrs_state::retain::Retention::resume_erasure(&open()).await;
            return resumed.map(|done| format!("{:?}", done.map(|done| done.values))).map_err(|e| told(&e));
        }
        ["get", key] => drop(open().get(key).await.map_err(|error| told(&error))?),
        // Says that it watches, and then what ended the watch.
        ["watch to the end"] => {
            let mut watch = open().watch("/*").map_err(|error| told(&error))?;
            say("@ok it watches");
            while watch.try_next().await.map_err(|error| told(&error))?.is_some() {}
        }
        ["is immutable"] => return Ok(open().is_immutable().to_string()),
        ["peak"] => return Ok(peak_kib().to_string()),
        ["head"] => return Ok(open().head().await.map_err(|error| told(&error))?.to_string()),
        ["verify"] => {
            let report = open().verify().await.map_err(|error| told(&error))?;
            return if report.is_intact() { Ok(String::new()) } else { Err(format!("{report:?}")) };
        }
        // Several tasks write keys of their own, in order, and tell each one that is acknowledged.
        ["write", name, tasks, count] => {
            let count: u64 = count.parse().unwrap();
            let tasks = (0..tasks.parse::<u64>().unwrap()).map(|task| {
                let (store, name) = (open(), format!("/{name}/{task}"));
                tokio::spawn(async move {
                    for n in 1..=count {
                        let version =
                            store.set(&name, n.to_string().into()).await.map_err(|error| told(&error))?;
                        say(&format!("@ok {name} {n} {version}"));
                    }
                    Ok::<(), String>(())
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap()?;
            }
            return Ok("written".into());
        }
        ["churn", path, buffered, name, seed] => {
            let churned = crate::kill::churn(path, buffered == "true", name, seed.parse().unwrap()).await;
            churned.map_err(|error| told(&error))?;
        }
        ["consume", path, way, seed] => {
            let consumed = crate::consumer_kill::consume(path, way, seed.parse().unwrap()).await;
            consumed.map_err(|error| told(&error))?;
        }
        ["serve", spec] => crate::histories::process::serve(spec).await?,
        ["perform", operation] => return Ok(crate::histories::process::serve_one(open(), operation).await),
        ["without threads"] => return Ok(crate::foreign::without_threads(&open()).await),
        ["fork", path] => return Ok(crate::fork::fork(Path::new(path)).await),
        ["fork in memory"] => return Ok(crate::fork::fork_in_memory().await),
        ["costs", path, openings] => {
            return Ok(crate::openings::costs(Path::new(path), openings.parse().unwrap()).await);
        }
        ["draw and fork"] => return Ok(crate::fork::draw_and_fork().to_string()),
        ["close and fork", path] => return Ok(crate::fork::close_and_fork(Path::new(path)).await),
        ["read file", path] => drop(std::fs::read(path).map_err(|error| error.to_string())?),
        ["cpu while watching", millis] => {
            let mut watch = open().watch("/*").unwrap();
            let before = cpu_ticks();
            let time = Duration::from_millis(millis.parse().unwrap());
            assert!(tokio::time::timeout(time, watch.next()).await.is_err(), "the watch must be idle");
            return Ok((cpu_ticks() - before).to_string());
        }
        ["memory of a watch"] => {
            let mut watch = open().watch_after("/*", Seq::ZERO.into()).unwrap();
            let end = open().head().await.map_err(|error| told(&error))?.seq;
            while watch.cursor().seq() < end {
                watch.try_next().await.map_err(|error| told(&error))?;
            }
            return Ok(peak_kib().to_string());
        }
        ["cost of watches", path, bytes, way, watches] => {
            let (bytes, watches) = (bytes.parse().unwrap(), watches.parse().unwrap());
            return Ok(crate::watch_budget::cost(Path::new(path), bytes, way, watches).await);
        }
        // Each shows one event, and is then left alone.
        ["memory of lagging watches", count] => {
            let before = peak_kib();
            let mut watches = Vec::new();
            for _ in 0..count.parse::<u32>().unwrap() {
                let mut watch = open().watch_after("/*", Seq::ZERO.into()).unwrap();
                watch.try_next().await.map_err(|error| told(&error))?;
                watches.push(watch);
            }
            for watch in &mut watches {
                watch.try_next().await.map_err(|error| told(&error))?;
            }
            return Ok((peak_kib() - before).to_string());
        }
        _ => return Err(format!("no such command: {words:?}")),
    }
    Ok(String::new())
}

/// What this process has used of a CPU, in hundredths of a second.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The most memory that this process had, in KiB.
pub(crate) fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
