//! Points in the history, as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use univrs_state::history::Past;
use univrs_state::{Seq, StateError};

use crate::context::Context;
use crate::moment::Moment;
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, Stop, fail};
use crate::time::rfc3339;

/// Changes that are read at a time.
const PAGE: usize = 1_000;
/// The most places of an ambiguous hash that are named.
const NAMED: usize = 5;
/// The code of an error.
const BEFORE_FIRST: &str = "before_first";
/// Digits of a hash.
const DIGITS: usize = 64;

/// A point, as it was written and as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    text: String,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// `4711`
    Seq(Seq),
    /// `head`, or `head~10`: so many changes before the end of the log.
    Head(u64),
    /// `2026-09-01T12:05:02Z`, `2026-09-01`, `2h-ago`
    Time(Moment),
    /// `mark:NAME`
    Mark(String),
    /// `hash:9f2c`: what the hash of one change begins with.
    Hash(String),
}

impl Point {
    /// The place in the log, for what begins or ends there: one before the first change is that of
    /// the start, and one beyond the end stays.
    pub(crate) async fn place(&self, context: &Context, source: &Source, head: Seq) -> Done<Seq> {
        match &self.form {
            Form::Seq(seq) => Ok(*seq),
            Form::Head(back) => Ok(Seq::new(head.as_u64().saturating_sub(*back)).max(source.floor())),
            Form::Time(moment) => match self.past_at(context, source, moment).await {
                Ok(past) => Ok(past.seq()),
                Err(StateError::InvalidArgument(_)) => {
                    context.note(&format!("{self} is before the first change"));
                    Ok(source.floor())
                }
                Err(error) => Err(error.into()),
            },
            Form::Mark(name) => fail(unknown_mark(name)),
            Form::Hash(digits) => find_hash(context, source, digits, head).await,
        }
    }

    /// The state of the store there, which is the end of a commit.
    pub(crate) async fn past(&self, context: &Context, source: &Source) -> Done<Past> {
        let head = source.head().await?.seq;
        let seq = match &self.form {
            Form::Time(moment) => match self.past_at(context, source, moment).await {
                Err(StateError::InvalidArgument(_)) => return fail(self.too_early(context)),
                past => return Ok(past?),
            },
            Form::Head(back) if *back > head.as_u64() => return fail(self.too_early(context)),
            _ => self.place(context, source, head).await?,
        };
        if seq > head {
            let failure = Failure::new(
                Exit::HistoryGone,
                "beyond_head",
                format!("{self} lies beyond the end of the log"),
            );
            return fail(failure.fact(format!("the log ends at {head}")).hint(context.hint("log -n 10")));
        }
        let past = source.at(seq.into()).await?;
        if past.seq() < seq {
            let commits = source.changes(past.seq(), 1).await?;
            let last = commits.first().map_or(seq, |commit| commit.last);
            let first = past.seq().next();
            if !matches!(self.form, Form::Head(_)) {
                return fail(self.inside(context, first, last));
            }
            context.note(&format!("{self} is within the commit {first} to {last}; taken as {}", past.seq()));
        }
        Ok(past)
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

    fn too_early(&self, context: &Context) -> Failure {
        Failure::new(Exit::HistoryGone, BEFORE_FIRST, format!("{self} is before the first change"))
            .fact("the point 0 stands for the empty store before it")
            .hint(context.hint("log --reverse -n 1"))
    }

    fn inside(&self, context: &Context, first: Seq, last: Seq) -> Failure {
        Failure::new(Exit::Usage, "inside_commit", format!("{self} is inside a commit, where no state was"))
            .fact(format!("the commit goes from {first} to {last}; before it is {}", first.previous()))
            .hint(context.hint(&format!("show {last}")))
    }
}

fn unknown_mark(name: &str) -> Failure {
    Failure::new(Exit::HistoryGone, "unknown_mark", format!("there is no mark {name:?}"))
        .fact("use a number, head~10, a time, or hash:PREFIX")
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

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "this is no point in the history; use a number, head, head~10, a time like \
             2026-09-01T12:05:02Z, 2026-09-01 or 2h-ago, mark:NAME, or hash:PREFIX"
                .to_owned()
        };
        let form = if let Some(back) = text.strip_prefix("head") {
            let back = if back.is_empty() { Some("0") } else { back.strip_prefix('~') };
            back.and_then(|back| back.parse::<Seq>().ok()).map(|back| Form::Head(back.as_u64()))
        } else if let Some(name) = text.strip_prefix("mark:") {
            (!name.is_empty() && !name.contains("..")).then(|| Form::Mark(name.to_owned()))
        } else if let Some(digits) = text.strip_prefix("hash:") {
            let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let fits = hex && (1..=DIGITS).contains(&digits.len());
            fits.then(|| Form::Hash(digits.to_ascii_lowercase()))
        } else if let Ok(seq) = text.parse() {
            Some(Form::Seq(seq))
        } else {
            Moment::parse(text).map(Form::Time)
        };
        form.map(|form| Self { text: text.to_owned(), form }).ok_or_else(wrong)
    }
}

/// `A..B`: the changes after A, up to B. Either may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Range {
    /// None for the start of the log.
    pub(crate) after: Option<Point>,
    /// None for its end.
    pub(crate) to: Option<Point>,
}

impl Range {
    /// Where it begins, and where it ends: not beyond the head.
    pub(crate) async fn places(&self, context: &Context, source: &Source) -> Done<(Seq, Seq)> {
        let head = source.head().await?.seq;
        let after = match &self.after {
            Some(point) => point.place(context, source, head).await?,
            None => source.floor(),
        };
        let to = match &self.to {
            Some(point) => point.place(context, source, head).await?,
            None => head,
        };
        if to > head {
            context.note(&format!("the log ends at {head}"));
        }
        Ok((after, to.min(head)))
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (after, to) = text.split_once("..").ok_or_else(|| {
            "this is neither a pattern, which starts with '/', nor a range like 40..50".to_owned()
        })?;
        let point = |text: &str| if text.is_empty() { Ok(None) } else { text.parse().map(Some) };
        Ok(Self { after: point(after)?, to: point(to)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_what_they_look_like() {
        let form = |text: &str| text.parse::<Point>().map(|point| point.form).unwrap();
        assert_eq!(form("12"), Form::Seq(Seq::new(12)));
        assert_eq!(form("head"), Form::Head(0));
        assert_eq!(form("head~3"), Form::Head(3));
        assert_eq!(form("mark:before the move"), Form::Mark("before the move".into()));
        assert_eq!(form("hash:9F2c"), Form::Hash("9f2c".into()));
        assert!(matches!(form("2026-09-01"), Form::Time(_)));
        let long = format!("hash:{}", "a".repeat(65));
        for bad in
            ["", "x", "-1", "head~", "head3", "head~-1", "1..2", "HEAD", "mark:", "hash:", "hash:xy", &long]
        {
            assert!(bad.parse::<Point>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_are_two_points_either_of_which_may_be_left_out() {
        let range = |text: &str| text.parse::<Range>();
        let point = |text: &str| Some(text.parse().unwrap());
        assert_eq!(range(".."), Ok(Range::default()));
        assert_eq!(range("3..head~1"), Ok(Range { after: point("3"), to: point("head~1") }));
        assert_eq!(range("2h-ago.."), Ok(Range { after: point("2h-ago"), to: None }));
        for bad in ["3", "3...5", "a..b"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
