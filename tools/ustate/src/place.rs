//! Where in the log a point is.

use std::fmt;
use std::time::SystemTime;

use univrs_state::history::Past;
use univrs_state::{Seq, StateError};

use crate::context::Context;
use crate::moment::Moment;
use crate::point::{DIGITS, Form, Point, Range};
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, Stop, fail};
use crate::time::rfc3339;

/// Changes that are read at a time.
const PAGE: usize = 1_000;
/// The most places of an ambiguous hash that are named.
const NAMED: usize = 5;
/// The code of an error.
const BEFORE_FIRST: &str = "before_first";

impl Point {
    /// The position of a change, for commands whose subject is a change or its commit. A number and a hash name any
    /// change, inside a commit, too; all else names the last change of a commit. A point before the first change is
    /// the start of the log, and one beyond the end stays.
    pub(crate) async fn change(&self, context: &Context, source: &Source, head: Seq) -> Done<Seq> {
        match &self.form {
            Form::Seq(seq) => Ok(*seq),
            Form::Head(back) => {
                let start = self.commits_back(context, source, head, *back).await?;
                Ok(start.unwrap_or(source.floor()))
            }
            Form::Time(moment) => match self.past_at(context, source, moment).await {
                Ok(past) => Ok(past.seq()),
                Err(StateError::InvalidArgument(_) | StateError::Compacted { .. }) => {
                    context.note(&self.too_early(context, source.floor()).what);
                    Ok(source.floor())
                }
                Err(error) => Err(error.into()),
            },
            Form::Mark(name) => find_mark(context, source, name).await,
            Form::Hash(digits) => find_hash(context, source, digits, head).await,
        }
    }

    /// The end of a commit, where a range begins or ends. A point before the first change is the start of the log, and
    /// one beyond the end stays.
    async fn end(&self, context: &Context, source: &Source, head: Seq) -> Done<Seq> {
        let seq = self.change(context, source, head).await?;
        if seq <= head {
            self.state(context, source, seq).await?;
        }
        Ok(seq)
    }

    /// The state of the store there, which is the end of a commit.
    pub(crate) async fn past(&self, context: &Context, source: &Source) -> Done<Past> {
        let head = source.head().await?.seq;
        let seq = match &self.form {
            Form::Time(moment) => match self.past_at(context, source, moment).await {
                Err(StateError::InvalidArgument(_) | StateError::Compacted { .. }) => {
                    return fail(self.too_early(context, source.floor()));
                }
                past => return Ok(past?),
            },
            Form::Head(back) => match self.commits_back(context, source, head, *back).await? {
                Some(seq) => seq,
                None => return fail(self.too_early(context, source.floor())),
            },
            _ => self.change(context, source, head).await?,
        };
        if seq > head {
            return fail(beyond_head(context, self, head));
        }
        self.state(context, source, seq).await
    }

    /// The state at the point where a range begins. Before the first change it is the empty store.
    pub(crate) async fn start(&self, context: &Context, source: &Source) -> Done<Past> {
        match self.past(context, source).await {
            Err(Stop::Failed(failure)) if failure.code == BEFORE_FIRST => {
                context.note(&failure.what);
                Ok(source.at(source.floor().into()).await?)
            }
            past => past,
        }
    }

    /// The state at a position; refused inside a commit.
    async fn state(&self, context: &Context, source: &Source, seq: Seq) -> Done<Past> {
        match source.at(seq.into()).await {
            Err(StateError::InsideCommit { before, last, .. }) => {
                let what = format!("{self} is inside a commit, where no state was");
                let fact = format!(
                    "the commit goes from {} to {last}; before it is the state at {before}, after it the one at {last}",
                    before.next()
                );
                let failure = Failure::new(Exit::Usage, "inside_commit", what).fact(fact);
                fail(failure.hint(context.hint(&format!("show {seq}"))))
            }
            past => Ok(past?),
        }
    }

    /// Where the last so many commits begin: the end of the commit before them. None if there are fewer.
    async fn commits_back(
        &self,
        context: &Context,
        source: &Source,
        head: Seq,
        mut commits: u64,
    ) -> Done<Option<Seq>> {
        let mut end = head;
        while commits > 0 {
            if end <= source.floor() {
                return Ok(None);
            }
            // Each commit has a change at least, so these positions have no commit too many.
            let start = end.as_u64().saturating_sub(commits.min(PAGE as u64));
            let start = Seq::new(start).max(source.floor());
            let mut page = Vec::new();
            let mut after = start;
            while after < end {
                let limit = usize::try_from(end.as_u64() - after.as_u64()).unwrap_or(PAGE);
                let read = source.changes(after, limit).await?;
                let Some(last) = read.last() else { break };
                after = last.last;
                page.extend(read.iter().map(|commit| (commit.first, commit.last)));
            }
            page.retain(|(first, _)| *first <= end);
            for (first, last) in page.into_iter().rev() {
                if commits == 0 {
                    break;
                }
                if last != end {
                    return fail(self.withheld(context));
                }
                (end, commits) = (first.previous(), commits - 1);
            }
            if end > start {
                return fail(self.withheld(context));
            }
        }
        if source.withheld() > 0 && end < head && end > source.floor() {
            let before = source.changes(end.previous(), 1).await?;
            if before.first().is_none_or(|commit| commit.last != end) {
                return fail(self.withheld(context));
            }
        }
        Ok(Some(end))
    }

    async fn past_at(
        &self,
        context: &Context,
        source: &Source,
        moment: &Moment,
    ) -> univrs_state::Result<Past> {
        let past = source.at(moment.at(&context.times.zone).into()).await?;
        let recorded = past.at().map(|at| format!(", recorded at {}", rfc3339(at))).unwrap_or_default();
        context.note(&format!("{self} is {}{recorded}", past.seq()));
        let head = source.head().await?.seq;
        let newest = if past.seq() < head { source.at(head.into()).await?.at() } else { None };
        if let Some(newest) = newest.filter(|newest| *newest > SystemTime::now().into()) {
            let newest = rfc3339(newest);
            context.note(&format!(
                "the newest commit, {head}, has the time {newest}, which is ahead of the clock; 'head' names its state"
            ));
        }
        Ok(past)
    }

    fn too_early(&self, context: &Context, floor: Seq) -> Failure {
        let (what, fact) = if floor == Seq::ZERO {
            (format!("{self} is before the first change"), "the point 0 stands for the empty store before it")
        } else {
            (format!("{self} is before {floor}, where the log begins"), "what came before is gone")
        };
        Failure::new(Exit::HistoryGone, BEFORE_FIRST, what)
            .fact(fact)
            .hint(context.hint("log --reverse -n 1"))
    }

    fn withheld(&self, context: &Context) -> Failure {
        let what = format!(
            "{self} cannot be told: changes are withheld from this export, and where commits end with them"
        );
        let failure = Failure::new(Exit::HistoryGone, "erased", what);
        failure.fact("use a number or hash:PREFIX").hint(context.hint("log -n 10"))
    }
}

/// The log does not reach that far.
pub(crate) fn beyond_head(context: &Context, point: impl fmt::Display, head: Seq) -> Failure {
    let what = format!("{point} lies beyond the end of the log");
    let failure = Failure::new(Exit::HistoryGone, "beyond_head", what);
    failure.fact(format!("the log ends at {head}")).hint(context.hint("log -n 10"))
}

/// There is no such mark.
pub(crate) fn unknown_mark(context: &Context, name: &str, exit: Exit) -> Failure {
    Failure::new(exit, "unknown_mark", format!("there is no mark {name}")).hint(context.hint("mark list"))
}

/// The end of the log at a mark, as the store has it.
async fn find_mark(context: &Context, source: &Source, name: &str) -> Done<Seq> {
    let Some(mark) = source.marked(name).await? else {
        return fail(unknown_mark(context, name, Exit::HistoryGone));
    };
    match source.at((&mark).into()).await {
        Err(StateError::CursorDiverged(why)) => {
            let what = format!("this log does not have the point of the mark {name}");
            fail(Failure::new(Exit::HistoryGone, "cursor_diverged", what).fact(why))
        }
        past => Ok(past?.seq()),
    }
}

/// The one change whose hash begins with these digits. Reads the log page by page.
async fn find_hash(context: &Context, source: &Source, digits: &str, head: Seq) -> Done<Seq> {
    let (mut found, mut more, mut after) = (Vec::new(), 0_u64, source.floor());
    while after < head {
        let page = source.changes(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.last;
        let changes = page.iter().flat_map(|commit| &commit.changes);
        for change in changes.filter(|change| change.hash.to_string().starts_with(digits)) {
            if found.len() < NAMED {
                found.push(change.seq);
            } else {
                more += 1;
            }
        }
        if digits.len() == DIGITS && !found.is_empty() {
            break;
        }
    }
    match found.as_slice() {
        [seq] => Ok(*seq),
        [] => {
            let what = format!("no change has a hash that begins with {digits}");
            let failure = Failure::new(Exit::HistoryGone, "unknown_hash", what);
            fail(failure.fact(format!("the log ends at {head}")).hint(context.hint("log --json")))
        }
        [first, ..] => {
            let seqs: Vec<String> = found.iter().map(Seq::to_string).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let what = format!("the hashes of several changes begin with {digits}");
            fail(
                Failure::new(Exit::Usage, "ambiguous_hash", what)
                    .fact(format!("they are {}{more}; give more digits", seqs.join(", ")))
                    .hint(context.hint(&format!("show {first}"))),
            )
        }
    }
}

impl Range {
    /// Where it begins, and where it ends: not beyond the head.
    pub(crate) async fn places(&self, context: &Context, source: &Source) -> Done<(Seq, Seq)> {
        let head = source.head().await?.seq;
        let after = match &self.after {
            Some(point) => point.end(context, source, head).await?,
            None => source.floor(),
        };
        let to = match &self.to {
            Some(point) => point.end(context, source, head).await?,
            None => head,
        };
        if self.after.is_some() && self.to.is_some() && after > to {
            let what = format!("the range begins at {after} and ends before that, at {to}");
            return fail(Failure::usage(what).fact("exchange the two points"));
        }
        if to > head {
            context.note(&format!("the log ends at {head}"));
        }
        Ok((after, to.min(head)))
    }
}
