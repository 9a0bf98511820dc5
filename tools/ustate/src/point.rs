//! Places in the log, as people write them.

use std::str::FromStr;

use univrs_state::Seq;

/// `4711`, `head` or `head~10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Seq(Seq),
    /// So many changes before the end of the log.
    Head(u64),
}

impl Point {
    pub(crate) fn resolve(self, head: Seq) -> Seq {
        match self {
            Self::Seq(seq) => seq,
            Self::Head(back) => Seq::new(head.as_u64().saturating_sub(back)),
        }
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no place in the log; use a number, head, or head~10");
        match text.strip_prefix("head") {
            Some("") => Ok(Self::Head(0)),
            Some(back) => {
                let back = back.strip_prefix('~').ok_or_else(wrong)?;
                back.parse::<Seq>().map(|back| Self::Head(back.as_u64())).map_err(|_| wrong())
            }
            None => text.parse().map(Self::Seq).map_err(|_| wrong()),
        }
    }
}

/// `A..B`: the changes after A, up to B. Either may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) after: Point,
    pub(crate) to: Point,
}

impl Range {
    /// The whole log.
    pub(crate) const ALL: Self = Self { after: Point::Seq(Seq::ZERO), to: Point::Head(0) };
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (after, to) = text.split_once("..").ok_or_else(|| {
            format!("{text:?} is neither a pattern, which starts with '/', nor a range like 40..50")
        })?;
        let point = |text: &str, open| if text.is_empty() { Ok(open) } else { text.parse() };
        Ok(Self { after: point(after, Self::ALL.after)?, to: point(to, Self::ALL.to)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_and_ranges_parse() {
        let head = Seq::new(40);
        let resolve = |text: &str| text.parse::<Point>().map(|point| point.resolve(head).as_u64());
        assert_eq!(resolve("12"), Ok(12));
        assert_eq!(resolve("head"), Ok(40));
        assert_eq!(resolve("head~3"), Ok(37));
        assert_eq!(resolve("head~99"), Ok(0));
        for bad in ["", "x", "-1", "head~", "head3", "head~-1", "1..2", "HEAD"] {
            assert!(bad.parse::<Point>().is_err(), "{bad}");
        }
        let range = |text: &str| text.parse::<Range>();
        assert_eq!(range(".."), Ok(Range::ALL));
        assert_eq!(range("3..head~1"), Ok(Range { after: Point::Seq(Seq::new(3)), to: Point::Head(1) }));
        for bad in ["3", "3...5", "a..b"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
