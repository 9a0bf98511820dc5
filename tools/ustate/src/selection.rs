//! Which part of a log is meant: keys by patterns, and a range of points.

use univrs_state::pattern::Pattern;

use crate::point::{Point, Range};
use crate::stop::{Done, Failure, fail};

/// A word of a command line that narrows what is shown.
#[derive(Debug, Clone)]
pub(crate) enum Selection {
    Keys(String),
    Places(Range),
}

/// For `clap`.
pub(crate) fn parse_selection(text: &str) -> Result<Selection, String> {
    if text.starts_with('/') {
        return Ok(Selection::Keys(text.to_owned()));
    }
    if text.parse::<Point>().is_ok() {
        return Err("this is one place; 'ustate show PLACE' shows it, PLACE.. what follows".into());
    }
    text.parse().map(Selection::Places)
}

/// The patterns, and the range if there is one.
pub(crate) fn sort_out(words: &[Selection]) -> Done<(Vec<Pattern>, Option<Range>)> {
    let (mut patterns, mut range) = (Vec::new(), None);
    for word in words {
        match word {
            Selection::Keys(pattern) => patterns.push(pattern.parse()?),
            Selection::Places(_) if range.is_some() => {
                return fail(Failure::usage("more than one range was given"));
            }
            Selection::Places(places) => range = Some(places.clone()),
        }
    }
    Ok((patterns, range))
}

/// Whether one of the patterns matches; where there are none, all keys do.
pub(crate) fn matches(patterns: &[Pattern], key: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(key))
}

/// What all keys that match start with: `/a/**` matches `/a` as well, which does not start with `/a/`.
pub(crate) fn prefix(pattern: &Pattern) -> &str {
    let prefix = pattern.as_str().split('*').next().unwrap_or_default();
    prefix
        .strip_suffix('/')
        .filter(|shorter| !shorter.is_empty() && pattern.matches(shorter))
        .unwrap_or(prefix)
}
