//! Which part of a log is meant: keys by patterns, and a range of points.

use univrs_state::pattern::Pattern;

use crate::context::quoted_text;
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

/// A pattern of keys; where one is written like a folder, the error names the pattern that was meant.
pub(crate) fn parse_pattern(text: &str) -> Done<Pattern> {
    let Some(above) = text.strip_suffix('/').filter(|_| text.starts_with('/')) else {
        return Ok(text.parse()?);
    };
    let below = format!("{}/*", above.trim_end_matches('/'));
    text.parse().map_err(|error| {
        let failure = Failure::of(&error);
        match below.parse::<Pattern>() {
            Ok(_) => failure.fact(format!("all keys below it are {}", quoted_text(&below))).into(),
            Err(_) => failure.into(),
        }
    })
}

/// The patterns, and the range if there is one.
pub(crate) fn sort_out(words: &[Selection]) -> Done<(Vec<Pattern>, Option<Range>)> {
    let (mut patterns, mut range) = (Vec::new(), None);
    for word in words {
        match word {
            Selection::Keys(pattern) => patterns.push(parse_pattern(pattern)?),
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
