//! Points in the history, as people write them.

use std::fmt;
use std::str::FromStr;

use univrs_state::history::Mark;
use univrs_state::{Seq, StateError};

use crate::moment::Moment;

/// Digits of a hash.
pub(crate) const DIGITS: usize = 64;

/// A point, as it was written and as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    text: String,
    pub(crate) form: Form,
}

/// The ways to write a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// `4711`
    Seq(Seq),
    /// `head`, or `head~10`: the state before the last so many commits.
    Head(u64),
    /// `2026-09-01T12:05:02Z`, `2026-09-01`, `2h-ago`
    Time(Moment),
    /// `mark:NAME`
    Mark(String),
    /// `hash:9f2c`: what the hash of one change begins with.
    Hash(String),
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
            Some(Form::Mark(parse_name(name)?))
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

/// A name, by the rules of marks.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let plain = |error: StateError| error.to_string().replace("invalid argument: ", "");
    Mark::validate_name(text).map(|()| text.to_owned()).map_err(plain)
}

/// `A..B`: the changes after A, up to B. Either may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Range {
    /// None for the start of the log.
    pub(crate) after: Option<Point>,
    /// None for its end.
    pub(crate) to: Option<Point>,
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
        assert_eq!(form("mark:before-the_move.2"), Form::Mark("before-the_move.2".into()));
        assert_eq!(form("hash:9F2c"), Form::Hash("9f2c".into()));
        assert!(matches!(form("2026-09-01"), Form::Time(_)));
        let long = format!("hash:{}", "a".repeat(65));
        for bad in [
            "", "x", "-1", "head~", "head3", "head~-1", "1..2", "HEAD", "mark:", "mark:a b", "mark:a.",
            "hash:", "hash:xy", &long,
        ] {
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
