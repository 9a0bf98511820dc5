//! Patterns: which keys a watch delivers.

use std::fmt;
use std::str::FromStr;

use crate::error::{Result, StateError};
use crate::key::{RESERVED_PREFIX, invalid, names_reserved, validate_path};

/// A pattern of keys, as a watch or an export takes it. It is parsed with `"…".parse()`, which returns
/// [`StateError::InvalidKey`] if it breaks the rules. It has at most
/// [`MAX_KEY_LENGTH`](crate::MAX_KEY_LENGTH) bytes.
///
/// | pattern | matches |
/// |---|---|
/// | `/nodes/n1` | this key |
/// | `/nodes/*`, `/nodes/n*` | every key that starts with `/nodes/` or `/nodes/n`, at any depth |
/// | `/nodes/*/status` | keys with any one segment in the place of `*` |
/// | `/**/status` | keys with any number of segments, also none, in the place of `**` |
///
/// A `*` at the end matches the rest of the key. Elsewhere `*` and `**` must be whole segments. A pattern
/// with wildcards matches no reserved key (below `/.univrs/`), unless it begins with that prefix.
///
/// ```
/// use univrs_state::pattern::Pattern;
/// let pattern: Pattern = "/nodes/*/status".parse()?;
/// assert!(pattern.matches("/nodes/n1/status"));
/// assert!(!pattern.matches("/nodes/n1/disks/status"));
/// # Ok::<(), univrs_state::StateError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Exact,
    Prefix(String),
    Glob(Vec<Segment>),
}

/// A segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    One,
    Many,
    /// The last segment of a pattern that ends with `*`: matches a segment with this prefix and all segments
    /// behind it.
    Rest(String),
}

impl Pattern {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key that a pattern without wildcards matches; `None` for a pattern with wildcards.
    pub(crate) fn key(&self) -> Option<&str> {
        (self.shape == Shape::Exact).then_some(self.text.as_str())
    }

    /// The segments of a pattern with wildcards; `None` for a pattern without wildcards.
    pub(crate) fn segments(&self) -> Option<Vec<Segment>> {
        match &self.shape {
            Shape::Exact => None,
            Shape::Prefix(prefix) => {
                let mut segments: Vec<_> =
                    prefix.split('/').skip(1).map(|part| Segment::Literal(part.to_owned())).collect();
                if let Some(Segment::Literal(last)) = segments.pop() {
                    segments.push(Segment::Rest(last));
                }
                Some(segments)
            }
            Shape::Glob(segments) => Some(segments.clone()),
        }
    }

    /// The longest prefix that every matching key has.
    pub(crate) fn prefix(&self) -> &str {
        match &self.shape {
            Shape::Exact => &self.text,
            Shape::Prefix(prefix) => prefix,
            Shape::Glob(_) => {
                let wild = self.text.find('*').unwrap_or(self.text.len());
                let prefix = self.text.get(..wild).unwrap_or_default();
                // `/a/**` also matches `/a`.
                if self.text.ends_with("/**") { prefix.trim_end_matches('/') } else { prefix }
            }
        }
    }

    /// Whether the pattern matches the key.
    pub fn matches(&self, key: &str) -> bool {
        match &self.shape {
            Shape::Exact => self.text == key,
            Shape::Prefix(prefix) => key.starts_with(prefix.as_str()) && self.reaches(key),
            Shape::Glob(segments) => {
                let key_segments: Vec<&str> = key.split('/').skip(1).collect();
                glob(segments, &key_segments) && self.reaches(key)
            }
        }
    }

    fn reaches(&self, key: &str) -> bool {
        names_reserved(&self.text) || !key.starts_with(RESERVED_PREFIX)
    }
}

/// Whether the segments match. After a mismatch behind a `**`, the last `**` takes one segment more.
fn glob(pattern: &[Segment], key: &[&str]) -> bool {
    let (mut p, mut k) = (0, 0);
    let mut many: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(p), key.get(k)) {
            (None, None) => return true,
            (Some(Segment::Many), _) => {
                many = Some((p, k));
                p += 1;
                continue;
            }
            (Some(Segment::Rest(start)), Some(segment)) if segment.starts_with(start.as_str()) => {
                return true;
            }
            (Some(Segment::Literal(literal)), Some(segment)) => literal == segment,
            (Some(Segment::One), Some(_)) => true,
            _ => false,
        };
        if step {
            p += 1;
            k += 1;
        } else if let Some((at, taken)) = many
            && taken < key.len()
        {
            many = Some((at, taken + 1));
            p = at + 1;
            k = taken + 1;
        } else {
            return false;
        }
    }
}

impl FromStr for Pattern {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self> {
        validate_path(text)?;
        let Some(first) = text.find('*') else {
            return Ok(Self { text: text.to_owned(), shape: Shape::Exact });
        };
        if first == text.len() - 1 {
            let prefix = text.trim_end_matches('*').to_owned();
            return Ok(Self { text: text.to_owned(), shape: Shape::Prefix(prefix) });
        }
        let parts: Vec<&str> = text.split('/').skip(1).collect();
        let last = parts.len() - 1;
        let mut segments = Vec::with_capacity(parts.len());
        for (i, part) in parts.into_iter().enumerate() {
            segments.push(match part {
                "**" => Segment::Many,
                "*" if i < last => Segment::One,
                part => match part.split_once('*') {
                    None => Segment::Literal(part.to_owned()),
                    Some((start, "")) if i == last => Segment::Rest(start.to_owned()),
                    Some(_) => {
                        let why = "'*' must be a whole segment or the last character, '**' a whole segment";
                        return Err(invalid(text, why));
                    }
                },
            });
        }
        Ok(Self { text: text.to_owned(), shape: Shape::Glob(segments) })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, key: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(key)
    }

    #[test]
    fn a_star_at_the_end_is_the_rest_of_the_key() {
        for key in ["/workloads/a", "/workloads/a/b/c"] {
            assert!(matches("/workloads/*", key), "{key}");
            assert!(matches("/*", key) && matches("/**", key), "{key}");
            assert!(matches("/work*", key), "{key}");
        }
        assert!(!matches("/workloads/*", "/workloads"));
        assert!(matches("/workloads*", "/workloads"));
        assert!(matches("/a/*/c*", "/a/b/cde/f") && !matches("/a/*/c*", "/a/b/d"));
        assert!(matches("/a/*/*", "/a/b/c/d") && !matches("/a/*/*", "/a/b"));
    }

    #[test]
    fn globs_go_by_segment() {
        assert!(matches("/nodes/*/status", "/nodes/n1/status"));
        assert!(!matches("/nodes/*/status", "/nodes/n1/x/status"));
        assert!(matches("/**/status", "/status") && matches("/**/status", "/a/b/status"));
        assert!(!matches("/**/status", "/a/status/b"));
        assert!(matches("/a/**/b/**/c", "/a/x/b/b/y/c"));
        assert!(matches("/a/**", "/a") && matches("/a/**", "/a/b/c") && !matches("/a/**", "/ab"));
        assert!(matches("/**/b/*/d", "/b/b/x/d"));
        assert!(!matches("/exact", "/exact/more") && matches("/exact", "/exact"));
    }

    #[test]
    fn wildcards_pass_over_reserved_keys_unless_they_name_them() {
        assert!(
            !matches("/*", "/.univrs/c") && !matches("/**", "/.univrs/c") && !matches("/**/c", "/.univrs/c")
        );
        assert!(matches("/.univrs/*", "/.univrs/c") && matches("/.univrs/c", "/.univrs/c"));
    }

    #[test]
    fn a_bad_pattern_is_an_error_at_once() {
        for bad in
            ["", "*", "a*", "/a**b", "/a*b/c", "/a/***", "/a//*", "/*/", "/a\n*", "/x*y", "/a*/b", "/a**"]
        {
            assert!(matches!(bad.parse::<Pattern>(), Err(StateError::InvalidKey(_))), "{bad:?}");
        }
        assert!(format!("/{}*", "k".repeat(1024)).parse::<Pattern>().is_err());
    }

    #[test]
    fn a_pattern_of_many_stars_does_not_explode() {
        let pattern = format!("{}/z", "/**/a".repeat(100));
        let key = "/a".repeat(500);
        assert!(!matches(&pattern, &key));
    }
}
