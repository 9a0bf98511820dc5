//! `ustate replay`

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use univrs_state::history::Past;
use univrs_state::log::{Commit, Timestamp};
use univrs_state::{Head, LocalStore, Seq, StateError, StateStore};

use super::import::{Input, Made, import};
use super::run::{Occasion, Program, said};
use crate::compare::{Comparison, compare};
use crate::context::{Context, may_write, quoted};
use crate::escape::{escape, escape_field};
use crate::json::{self, Object};
use crate::output::Format;
use crate::pipe::Pipe;
use crate::point::Range;
use crate::progress::{Progress, Unit};
use crate::signals::Signals;
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, Stop, fail};
use crate::time::rfc3339;
use crate::value::counted;

/// Changes that are read at a time.
const PAGE: usize = 1_000;

const EXAMPLES: &str = "\
Examples:
  ustate replay --into replayed.db --check
  ustate replay head~10.. -o ndjson
  ustate replay 0.. -- sh -c 'cat >> commits.ndjson'";

/// Replay the log: into a new store, or commit by commit for a command.
///
/// With --into every change is checked and folded anew, and the new store has the same positions
/// and hashes; --check compares it, key by key, with the source. A killed process may leave files whose
/// names begin with NEW.PID-N.partial; delete them. A command reads each commit as JSON on standard
/// input, and in the environment (USTATE_SEQ, USTATE_FIRST, USTATE_AT,
/// USTATE_BY, USTATE_REASON, USTATE_CORRELATION); the first failure ends the replay. Without
/// either, -o ndjson prints the commits. Fields of -o tsv with --into: path, head, changes.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Replay {
    /// After A, up to B: whole commits, each point as in 'ustate --help'.
    #[arg(value_name = "A..B")]
    range: Option<Range>,
    /// Where a new store goes; nothing may be there yet.
    #[arg(long, value_name = "NEW", conflicts_with = "command")]
    into: Option<PathBuf>,
    /// Compare the new store with the source.
    #[arg(long, requires = "into", conflicts_with = "command")]
    check: bool,
    /// As fast as it was recorded (1x), faster (10x), or without waiting.
    #[arg(long, value_name = "SPEED", default_value = "max", value_parser = parse_speed, conflicts_with = "into")]
    speed: Speed,
    /// Run this for each commit.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How much faster than it was recorded; none for as fast as it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Speed(Option<f64>);

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed(None));
    }
    let factor = text.strip_suffix('x').and_then(|factor| factor.parse::<f64>().ok());
    let factor = factor.filter(|factor| factor.is_finite() && *factor > 0.0);
    factor.map(|factor| Speed(Some(factor))).ok_or_else(|| "a speed is 1x, 10x, 0.5x or max".into())
}

impl Speed {
    /// How long after its beginning a replay of a log that began at `first` is at another time.
    fn due(self, first: Timestamp, at: Timestamp) -> Duration {
        let Some(factor) = self.0 else { return Duration::ZERO };
        let micros = u64::try_from(at.as_micros().saturating_sub(first.as_micros())).unwrap_or(0);
        let due = Duration::from_micros(micros).as_secs_f64() / factor;
        Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX)
    }
}

impl Replay {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "replay")?;
        match &self.into {
            Some(into) => self.rebuild(context, into).await,
            None => self.commits(context).await,
        }
    }

    async fn places(&self, context: &Context, source: &Source) -> Done<(Seq, Seq)> {
        self.range.clone().unwrap_or_default().places(context, source).await
    }

    async fn rebuild(&self, context: &mut Context, into: &Path) -> Done {
        may_write()?;
        let begun = Instant::now();
        let source = context.open().await?;
        let (after, to) = self.places(context, &source).await?;
        if after > source.floor() || (source.is_export() && after > Seq::ZERO) {
            let what = format!("a new store needs the log from its first change, not from {after}");
            let failure = Failure::usage(what);
            return fail(if source.is_export() && source.floor() > Seq::ZERO {
                failure.fact("this export does not have it")
            } else {
                failure.hint(context.hint(&format!("replay ..{to} --into {}", quoted(into))))
            });
        }
        let past = source.at(to.into()).await?;
        let made = again(context, &source, past.seq(), into).await?;
        let took = begun.elapsed();
        let equal = if self.check { Some(checked(context, &past, made.head, into).await?) } else { None };
        report(context, into, &made, took, equal.as_ref())
    }

    /// Each commit for a command, or as a line of JSON.
    async fn commits(&self, context: &mut Context) -> Done {
        let program = Program::of(&self.command, context.db()?);
        if program.is_none() && !context.format.is_json() {
            let failure = Failure::usage("it was not said where to replay to");
            return fail(
                failure
                    .fact("give --into NEW for a store, -- COMMAND for each commit, or -o ndjson to see them")
                    .hint(context.hint("replay -o ndjson")),
            );
        }
        let mut signals = Signals::new()?;
        let source = context.open().await?;
        let (mut after, to) = self.places(context, &source).await?;
        let progress = if program.is_some() {
            Progress::of(context, "replaying", Unit::Changes)
        } else {
            Progress::none()
        };
        let (start, total) = (after, to.as_u64().saturating_sub(after.as_u64()));
        let mut beat = Pace::new(self.speed);
        while after < to {
            let page = source.changes(after, PAGE).await?;
            if page.is_empty() {
                break;
            }
            for commit in page {
                if commit.last > to {
                    return Ok(());
                }
                tokio::select! {
                    waited = beat.wait(commit.at, &mut signals) => waited?,
                    // The output of a command is its own.
                    () = context.out.closed(), if program.is_none() => return Err(Stop::ClosedPipe),
                }
                after = commit.last;
                self.deliver(context, program.as_ref(), &commit, &mut signals).await?;
                progress.at(after.as_u64() - start.as_u64(), total);
            }
        }
        Ok(())
    }

    async fn deliver(
        &self,
        context: &mut Context,
        program: Option<&Program>,
        commit: &Commit,
        signals: &mut Signals,
    ) -> Done {
        let Some(program) = program else {
            context.out.line(&object(commit))?;
            return if self.speed.0.is_some() { context.out.flush() } else { Ok(()) };
        };
        match program.run(occasion(commit), signals).await? {
            Some(number) => Err(Stop::Signal(number)),
            None => Ok(()),
        }
    }
}

/// Waits, so that commits come as far apart as they were recorded.
struct Pace {
    speed: Speed,
    /// When the first one came, and its own time.
    begun: Option<(Instant, Timestamp)>,
}

impl Pace {
    fn new(speed: Speed) -> Self {
        Self { speed, begun: None }
    }

    async fn wait(&mut self, at: Timestamp, signals: &mut Signals) -> Done {
        let (begun, first) = *self.begun.get_or_insert_with(|| (Instant::now(), at));
        let left = self.speed.due(first, at).saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(left) => Ok(()),
            number = signals.next() => Err(Stop::Signal(number)),
        }
    }
}

/// Builds a store of the log up to a position: exports on one side, and imports on the other.
async fn again(context: &Context, source: &Source, to: Seq, into: &Path) -> Done<Made> {
    let (read, write) = std::io::pipe().map_err(|error| Failure::io("cannot make a pipe", &error))?;
    let (write, closed) = Pipe::new(write);
    let progress = Progress::of(context, "replaying", Unit::Changes);
    let export =
        univrs_state::archive::Export::new().to(to).progress(move |at| progress.at(at.done, at.total));
    let input = Input::new(read, 0, Progress::none(), Arc::default());
    let store = source.local();
    let (exported, imported) = tokio::join!(
        (&store).export(export, write),
        import(context, input, into, |error: &StateError| Failure::of(error)),
    );
    match exported {
        // Where one side fails, the other one only misses it.
        Err(error) if !closed.get() => Err(error.into()),
        _ => imported,
    }
}

/// Compares the new store with the state that it was made of.
async fn checked(context: &Context, source: &Past, head: Head, into: &Path) -> Done<Comparison> {
    let store = context.options(into).read_only(true).open(into).await?;
    let copy = store.at(head.into()).await?;
    let comparison = compare(source, &copy).await?;
    store.close().await?;
    match &comparison.differs {
        None => Ok(comparison),
        Some(what) => {
            let failure =
                Failure::new(Exit::Integrity, "differs", format!("{} differs: {what}", into.display()));
            fail(failure.hint(format!("ustate verify --db {}", quoted(into))))
        }
    }
}

fn report(
    context: &mut Context,
    into: &Path,
    made: &Made,
    took: Duration,
    equal: Option<&Comparison>,
) -> Done {
    let Made { head, changes } = *made;
    let path = into.display().to_string();
    match context.format {
        Format::Human if context.quiet => Ok(()),
        Format::Human => {
            let (changes, seq) = (counted(changes, "change"), head.seq);
            let hash = head.hash.to_string();
            let short = hash.get(..4).unwrap_or_default();
            let what = match equal {
                Some(equal) => {
                    let keys = counted(equal.keys, "key");
                    format!("state at {seq} equals the source: {keys}, head {seq}:{short}…")
                }
                None => format!("{} is at {seq}:{short}…", escape(&path)),
            };
            context.out.line(&format!("replayed {changes} in {:.1} s; {what}", took.as_secs_f64()))
        }
        Format::Tsv => context.out.fields([&escape_field(&path), &head.to_string(), &changes.to_string()]),
        _ => {
            let object = Object::of_type("replayed").text("path", &path).number("changes", changes);
            let object = object.text("head", &head.to_string()).flag("checked", equal.is_some());
            let object = match equal {
                Some(equal) => object.number("keys", equal.keys),
                None => object,
            };
            context.out.line(&object.finish())
        }
    }
}

/// A commit as JSON.
fn object(commit: &Commit) -> String {
    Object::of_type("commit")
        .number("first", commit.first.as_u64())
        .number("last", commit.last.as_u64())
        .text("at", &rfc3339(commit.at))
        .meta(commit.meta.as_deref())
        .list("changes", commit.changes.iter().map(json::change))
        .finish()
}

fn occasion(commit: &Commit) -> Occasion {
    let (first, last, before) = (commit.first, commit.last, commit.first.previous());
    let mut environment = vec![
        ("USTATE_SEQ", last.to_string()),
        ("USTATE_FIRST", first.to_string()),
        ("USTATE_AT", rfc3339(commit.at)),
    ];
    environment.extend(said(commit.meta.as_deref()));
    Occasion {
        at: if first == last { format!("{last}") } else { format!("the commit {first} to {last}") },
        environment,
        input: object(commit),
        resumes: format!("{before}.. begins with it again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_says_when_a_commit_is_due() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let due = |speed| parse_speed(speed).map(|speed| speed.due(at(100), at(110)));
        assert_eq!(due("1x"), Ok(Duration::from_secs(10)));
        assert_eq!(due("10x"), Ok(Duration::from_secs(1)));
        assert_eq!(due("0.5x"), Ok(Duration::from_secs(20)));
        assert_eq!(due("max"), Ok(Duration::ZERO));
        assert_eq!(parse_speed("1x").unwrap().due(at(110), at(100)), Duration::ZERO);
        for bad in ["", "x", "0x", "-1x", "10", "infx", "NaNx", "fast"] {
            assert!(parse_speed(bad).is_err(), "{bad}");
        }
    }
}
