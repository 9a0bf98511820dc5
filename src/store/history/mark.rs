//! Marks: points that have a name.

use serde_json::{Map, Value};

use super::point::Point;
use crate::error::{Result, StateError};
use crate::key::{MARKS_PREFIX, invalid_name, validate_name};
use crate::log::Head;

/// The format of a mark's value.
const FORMAT: u64 = 1;

/// A name for a point of the history: a position and the hash there. Made by
/// [`LocalStore::mark`](crate::LocalStore::mark).
///
/// A mark is a [`Point`], so everything that takes one takes a mark. It is refused with
/// [`StateError::CursorDiverged`] by a log that does not have this hash at this position, such as that of another file
/// or of an older copy.
///
/// The value under [`key`](Self::key) is JSON. Fields that this version does not know are kept when a mark is moved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mark {
    /// The name.
    pub name: String,
    /// The position and the hash there.
    pub head: Head,
    /// What else the value says.
    more: Map<String, Value>,
}

impl Mark {
    /// Checks a name: 1 to 128 bytes; ASCII letters, digits, `-`, `_` and `.`; the first is a letter or a digit, the
    /// last is no dot, and no two dots stand together, because `A..B` is a range.
    ///
    /// # Errors
    /// [`StateError::InvalidArgument`] says which rule the name breaks.
    ///
    /// ```
    /// use univrs_state::history::Mark;
    /// assert!(Mark::validate_name("release-1.2").is_ok());
    /// assert!(Mark::validate_name("before the move").is_err());
    /// ```
    pub fn validate_name(name: &str) -> Result<()> {
        validate_name(name, "a mark")?;
        let why = if name.ends_with('.') {
            "it must not end with '.'".to_owned()
        } else if let Some(at) = name.find("..") {
            format!("'..' at byte {at} stands for a range")
        } else {
            return Ok(());
        };
        Err(invalid_name(name, "a mark", &why))
    }

    /// The key that the mark is recorded under, `/.univrs/marks/NAME`: its history is that of the mark.
    pub fn key(&self) -> String {
        format!("{MARKS_PREFIX}{}", self.name)
    }

    pub(crate) fn new(name: &str, head: Head) -> Self {
        Self { name: name.to_owned(), head, more: Map::new() }
    }

    pub(crate) fn key_of(name: &str) -> Result<String> {
        Self::validate_name(name)?;
        Ok(format!("{MARKS_PREFIX}{name}"))
    }

    /// This mark at another point.
    pub(crate) fn moved_to(self, head: Head) -> Self {
        Self { head, ..self }
    }

    /// Reads what is recorded under a key.
    pub(crate) fn decode(key: &str, value: &[u8]) -> Result<Self> {
        let corrupt = || StateError::Corrupted(format!("the value of {key} is no mark"));
        let mut more: Map<String, Value> = serde_json::from_slice(value).map_err(|_| corrupt())?;
        match more.remove("v").map(|v| v.as_u64()) {
            None | Some(Some(FORMAT)) => {}
            Some(Some(format)) if format > FORMAT => {
                return Err(StateError::Unsupported(format!(
                    "{key} is a mark of the format {format}, but this version reads the format {FORMAT}: use a newer one"
                )));
            }
            _ => return Err(corrupt()),
        }
        let mut field = |name| more.remove(name).ok_or_else(corrupt);
        let (seq, hash) = (field("seq")?, field("hash")?);
        let seq = serde_json::from_value(seq).map_err(|_| corrupt())?;
        let hash = serde_json::from_value(hash).map_err(|_| corrupt())?;
        let name = key.strip_prefix(MARKS_PREFIX).ok_or_else(corrupt)?.to_owned();
        Ok(Self { name, head: Head { seq, hash }, more })
    }

    /// What is recorded under the key.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = self.more.clone();
        value.insert("v".into(), FORMAT.into());
        value.insert("seq".into(), self.head.seq.as_u64().into());
        value.insert("hash".into(), self.head.hash.to_string().into());
        Value::Object(value).to_string().into_bytes()
    }
}

impl From<&Mark> for Point {
    fn from(mark: &Mark) -> Self {
        Self::Anchor(mark.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::StoreId;

    const KEY: &str = "/.univrs/marks/m";

    fn head() -> Head {
        Head::genesis(StoreId::from_bytes([7; 16]))
    }

    #[test]
    fn a_mark_reads_as_it_was_written_and_keeps_what_it_does_not_know() {
        let mark = Mark::new("m", head());
        assert_eq!(Mark::decode(KEY, &mark.encode()), Ok(mark.clone()));
        let hash = head().hash;
        let text = format!(r#"{{"hash":"{hash}","seq":0,"v":1}}"#);
        assert_eq!(String::from_utf8(mark.encode()).unwrap(), text);

        let more = format!(r#"{{"hash":"{hash}","hold":{{"days":[1,"x"]}},"seq":9}}"#);
        let found = Mark::decode(KEY, more.as_bytes()).unwrap();
        assert_eq!(found.head.seq.as_u64(), 9, "without a format it is the first one");
        let moved = String::from_utf8(found.moved_to(head()).encode()).unwrap();
        assert_eq!(moved, format!(r#"{{"hash":"{hash}","hold":{{"days":[1,"x"]}},"seq":0,"v":1}}"#));
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number_and_what_is_no_mark_by_its_key() {
        let hash = head().hash;
        let newer = Mark::decode(KEY, br#"{"v":2,"place":"elsewhere"}"#).unwrap_err();
        assert!(
            matches!(&newer, StateError::Unsupported(why) if why.contains("format 2") && why.contains(KEY))
        );
        for bad in [
            String::new(),
            "7".into(),
            "{}".into(),
            r#"{"v":1,"seq":1}"#.into(),
            format!(r#"{{"v":0,"seq":1,"hash":"{hash}"}}"#),
            format!(r#"{{"v":"1","seq":1,"hash":"{hash}"}}"#),
            format!(r#"{{"v":1,"seq":-1,"hash":"{hash}"}}"#),
            format!(r#"{{"v":1,"seq":1,"hash":"{hash}0"}}"#),
        ] {
            let error = Mark::decode(KEY, bad.as_bytes()).unwrap_err();
            assert!(matches!(&error, StateError::Corrupted(why) if why.contains(KEY)), "{bad}: {error}");
        }
    }

    #[test]
    fn a_name_that_breaks_a_rule_is_refused_by_that_rule() {
        for good in ["a", "7", "release-1.2", "v1.0.0_rc", &"x".repeat(128)] {
            assert_eq!(Mark::validate_name(good), Ok(()), "{good}");
        }
        for (bad, rule) in [
            ("", "empty"),
            (&*"x".repeat(129), "129 bytes"),
            ("a b", "' ' at byte 1"),
            ("a/b", "'/' at byte 1"),
            ("é", "'é' at byte 0"),
            ("a\u{1b}", "at byte 1"),
            ("-a", "must start with"),
            (".a", "must start with"),
            ("a.", "must not end"),
            ("a..b", "'..' at byte 1"),
        ] {
            let error = Mark::validate_name(bad).unwrap_err().to_string();
            assert!(error.contains(rule), "{bad:?}: {error}");
        }
    }
}
