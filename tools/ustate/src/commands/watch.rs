//! `ustate watch`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use univrs_state::key::RESERVED_PREFIX;
use univrs_state::pattern::Pattern;
use univrs_state::{Cursor, Head, Seq, StateError};

use super::run::Program;
use crate::context::Context;
use crate::cursor_file::CursorFile;
use crate::following::{Following, lost};
use crate::output::Format;
use crate::place::beyond_head;
use crate::point::Point;
use crate::rows::Columns;
use crate::selection::parse_pattern;
use crate::signals::Signals;
use crate::source::Source;
use crate::stop::{Done, Failure, fail};

const EXAMPLES: &str = "\
Examples:
  ustate watch '/nodes/**' --cursor-file agent.cursor
  ustate watch --after 0 --json
  ustate watch '/config/*' -- ./reload";

/// Follow changes as they happen; none is missed.
///
/// With --cursor-file a watch resumes where it stopped, whatever stopped it. The file is written after the
/// lines, every 200 ms at most and at the end, so what a crash repeats is what came last, and it skips
/// nothing. Its first line is the cursor; it also names the patterns, and one watch at a time may use it. A
/// JSON event carries the cursor that resumes after it. With -- COMMAND, the
/// command runs once for each change, which it gets as JSON on standard input and in the environment
/// (USTATE_SEQ, USTATE_KIND, USTATE_KEY, USTATE_VERSION, USTATE_COMMIT_SEQ, USTATE_AT, USTATE_BY,
/// USTATE_REASON, USTATE_CORRELATION); the file is written after its exit, and if it fails, the watch ends,
/// and resumes there. SIGTERM, SIGINT and SIGHUP are passed to it and all that it started, and waited for.
/// Fields of -o tsv: seq, time, kind, key, encoding, value, actor, reason.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Watch {
    /// Which keys: exact, PREFIX*, or globs like /nodes/*/status.
    #[arg(value_name = "PATTERN", default_value = "/*")]
    patterns: Vec<String>,
    /// Start after this place in the log: a point ('ustate --help'), or a cursor. A place inside a commit is
    /// no error here: the whole commit is shown, again if need be.
    #[arg(long, value_name = "CURSOR", value_parser = parse_place)]
    after: Option<Place>,
    /// Keep the place here and resume from it; made when missing.
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// End after so many changes; with a cursor file, after the commit of the last one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Say when everything has been shown that was recorded before the start.
    #[arg(long)]
    caught_up: bool,
    /// Run this for each change.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Clone)]
enum Place {
    Point(Point),
    Cursor(Cursor),
}

fn parse_place(text: &str) -> Result<Place, String> {
    match text.parse() {
        Err(_) if text.contains(':') => {
            let plain = |error: StateError| error.to_string().replace("invalid argument: ", "");
            text.parse().map(Place::Cursor).map_err(plain)
        }
        point => point.map(Place::Point),
    }
}

impl Watch {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "watch")?;
        let (pattern, filter) = self.pattern()?;
        let mut signals = Signals::new()?;
        let source = context.open().await?;
        // Before the cursor file is read and a place is looked for, which a part of a log may not have.
        if (source.floor() > Seq::ZERO || source.withheld() > 0)
            && let Err(error) = source.watch(&pattern)
        {
            return fail(Failure::of(&error).hint(context.hint("log --reverse")));
        }
        let open = |path| CursorFile::open(path, &self.patterns);
        let mut file = self.cursor_file.as_deref().map(open).transpose()?;
        let head = source.head().await?;
        let after = self.start(context, &source, file.as_ref(), head).await?;
        let stream = source.watch_after(&pattern, after).map_err(|error| lost(&error, file.as_ref()))?;
        if let Some(file) = &mut file
            && file.saved().is_none()
        {
            file.hold(after)?;
        }
        let mut following = Following {
            columns: Columns::new(head.seq.as_u64(), context.verbose),
            program: Program::of(&self.command, context.db()?),
            says_so: self.caught_up,
            ends: source.is_export(),
            awaited: (self.caught_up || source.is_export()).then_some(head.seq),
            left: self.count,
            stream,
            filter,
            file,
        };
        following.follow(context, &mut signals).await
    }

    /// The pattern of the stream, and those that an event must match one of.
    fn pattern(&self) -> Done<(String, Vec<Pattern>)> {
        let patterns: Vec<Pattern> =
            self.patterns.iter().map(|pattern| parse_pattern(pattern)).collect::<Done<_>>()?;
        if let [pattern] = patterns.as_slice() {
            return Ok((pattern.to_string(), Vec::new()));
        }
        let reserved = RESERVED_PREFIX.trim_end_matches('/');
        let names_reserved = |pattern: &Pattern| pattern.as_str().starts_with(reserved);
        let pattern = if patterns.iter().all(names_reserved) {
            format!("{reserved}*")
        } else if patterns.iter().any(names_reserved) {
            let failure =
                Failure::usage(format!("patterns below {RESERVED_PREFIX} cannot stand beside others"));
            return fail(failure.fact("watch them with a command of their own"));
        } else {
            "/*".to_owned()
        };
        Ok((pattern, patterns))
    }

    /// Where to start: the cursor file goes before --after; without both, from now on.
    async fn start(
        &self,
        context: &Context,
        source: &Source,
        file: Option<&CursorFile>,
        head: Head,
    ) -> Done<Cursor> {
        if let Some((file, saved)) = file.and_then(|file| Some((file, file.saved()?))) {
            if self.after.is_some() {
                context.note(&format!(
                    "resuming after {} from {}; --after counts only without it",
                    saved.seq(),
                    file.path().display()
                ));
            }
            return Ok(saved);
        }
        let seq = match &self.after {
            Some(Place::Cursor(cursor)) => return Ok(*cursor),
            Some(Place::Point(point)) => point.change(context, source, head.seq).await?,
            None => head.seq,
        };
        if seq > head.seq {
            return fail(beyond_head(context, seq, head.seq));
        }
        checked(context, source, head, seq).await
    }
}

/// The place after a change, with the hash there, so that resuming notices another log.
async fn checked(context: &Context, source: &Source, head: Head, seq: Seq) -> Done<Cursor> {
    let mut seq = seq;
    let at = loop {
        if seq == head.seq {
            break head;
        }
        if seq == source.floor() {
            break source.local().floor().await?;
        }
        let commit = source.changes(seq.previous(), 1).await?.into_iter().next();
        match commit.as_ref().and_then(|commit| commit.changes.last().map(|last| (commit.first, last))) {
            Some((_, last)) if last.seq == seq => break last.head(),
            // Within a commit: the place before it.
            Some((first, last)) if first <= seq => {
                context.note(&format!(
                    "{seq} is inside the commit {first} to {}, which is shown whole",
                    last.seq
                ));
                seq = first.previous();
            }
            _ => return Ok(seq.into()),
        }
    };
    Ok(format!("{}:{at}", source.store_id()).parse()?)
}
