//! Keys, prefixes and ranges of keys.

use crate::error::{Result, StateError};
use crate::limits::MAX_KEY_LENGTH;

/// The prefix of the keys that belong to the store itself. Programs can read them but not write them. A
/// pattern with wildcards or a prefix leaves them out, unless it begins with this prefix itself.
pub const RESERVED_PREFIX: &str = "/.univrs/";

/// The prefix of the keys of marks.
pub(crate) const MARKS_PREFIX: &str = "/.univrs/marks/";

/// The prefix of the keys of consumers.
pub(crate) const CONSUMERS_PREFIX: &str = "/.univrs/consumers/";

/// The key whose commits accept the clock: from each on, commit times begin again at its time.
pub(crate) const CLOCK_KEY: &str = "/.univrs/clock";

/// The key whose value says to which floor the log was compacted, and what was forgotten.
pub(crate) const COMPACTION_KEY: &str = "/.univrs/compaction";

/// The key of the policy that says what leaves the log.
pub(crate) const RETENTION_KEY: &str = "/.univrs/retention";

/// The prefix of the keys that say which values were thinned.
pub(crate) const THINNED_PREFIX: &str = "/.univrs/thinned/";

/// The prefix of the keys that say which values were erased.
pub(crate) const ERASURES_PREFIX: &str = "/.univrs/erasures/";

/// Checks a key. A key starts with `/`, has 2 to [`MAX_KEY_LENGTH`] bytes of UTF-8, no empty segment (so
/// no `//`, and no `/` at the end), no control character and no `*`.
///
/// # Errors
/// [`StateError::InvalidKey`] says which rule the key breaks, and at which byte.
///
/// ```
/// use univrs_state::key::validate_key;
/// assert!(validate_key("/nodes/n1/status").is_ok());
/// assert!(validate_key("/nodes//status").is_err());
/// ```
pub fn validate_key(key: &str) -> Result<()> {
    validate_path(key)?;
    if let Some(at) = key.find('*') {
        return Err(invalid(key, &format!("'*' at byte {at} is reserved for patterns")));
    }
    Ok(())
}

/// Checks the rules that keys and patterns share: all of [`validate_key`] but the one about `*`.
pub(crate) fn validate_path(path: &str) -> Result<()> {
    if path.is_empty() {
        return Err(StateError::InvalidKey("it is empty; a key looks like /nodes/n1".into()));
    }
    if !path.starts_with('/') {
        return Err(invalid(path, "it must start with '/'"));
    }
    if path.len() > MAX_KEY_LENGTH {
        return Err(invalid(
            path,
            &format!("it has {} bytes, at most {MAX_KEY_LENGTH} are allowed", path.len()),
        ));
    }
    if let Some((at, c)) = path.char_indices().find(|(_, c)| c.is_control()) {
        return Err(invalid(path, &format!("control character U+{:04X} at byte {at}", u32::from(c))));
    }
    if let Some(at) = path.find("//") {
        return Err(invalid(path, &format!("empty segment at byte {at}")));
    }
    if path.ends_with('/') {
        return Err(invalid(path, "it must not end with '/'"));
    }
    Ok(())
}

/// Checks a prefix. Only its length is checked: a prefix that no key can have matches no key.
pub(crate) fn validate_prefix(prefix: &str) -> Result<()> {
    if prefix.len() > MAX_KEY_LENGTH {
        let why = format!("a prefix has at most {MAX_KEY_LENGTH} bytes, this one has {}", prefix.len());
        return Err(invalid(prefix, &why));
    }
    Ok(())
}

/// The most bytes of a name of something that belongs to the store.
const MAX_NAME: usize = 128;

/// Checks a name that the store makes a key of, such as that of a mark: 1 to 128 bytes; ASCII letters, digits, `-`, `_`
/// and `.`; the first is a letter or a digit.
pub(crate) fn validate_name(name: &str, of: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > MAX_NAME {
        format!("it has {} bytes, at most {MAX_NAME} are allowed", name.len())
    } else if let Some((at, c)) = name.char_indices().find(|(_, c)| !allowed(*c)) {
        format!("{c:?} at byte {at} is not allowed; use ASCII letters, digits, '-', '_' and '.'")
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "it must start with a letter or a digit".to_owned()
    } else {
        return Ok(());
    };
    Err(invalid_name(name, of, &why))
}

/// An error that quotes a name, shortened and escaped.
pub(crate) fn invalid_name(name: &str, of: &str, why: &str) -> StateError {
    let shown: String = name.chars().take(MAX_NAME).collect();
    StateError::InvalidArgument(format!("the name {shown:?} of {of}: {why}"))
}

/// An error that quotes the key, shortened and escaped.
pub(crate) fn invalid(key: &str, why: &str) -> StateError {
    let mut shown: String = key.chars().take(64).collect();
    if shown.len() < key.len() {
        shown.push('…');
    }
    StateError::InvalidKey(format!("{shown:?}: {why}"))
}

/// The range of the keys with a prefix: from `start`, up to and without `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    prefix: String,
    end: Option<String>,
    /// Whether the range includes reserved keys.
    reserved: bool,
}

impl KeyRange {
    /// All keys that start with these bytes.
    pub(crate) fn prefix(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), end: successor(prefix), reserved: names_reserved(prefix) }
    }

    /// The smallest string of the range.
    pub(crate) fn start(&self) -> &str {
        &self.prefix
    }

    /// The smallest string behind the range; `None` if nothing is behind it.
    pub(crate) fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// Whether a key between start and end belongs to the result: a reserved key does only if the prefix names
    /// the reserved keys.
    pub(crate) fn shows(&self, key: &str) -> bool {
        self.reserved || !key.starts_with(RESERVED_PREFIX)
    }
}

/// Whether a prefix or pattern names the reserved keys.
pub(crate) fn names_reserved(prefix: &str) -> bool {
    prefix.starts_with(RESERVED_PREFIX.trim_end_matches('/'))
}

/// The smallest string that is greater than all strings with this prefix. The byte order of UTF-8 is the
/// order of code points, so the last character is replaced by the next one.
fn successor(prefix: &str) -> Option<String> {
    let mut rest = prefix.to_owned();
    while let Some(last) = rest.pop() {
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            rest.push(next);
            return Some(rest);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_path_of_non_empty_segments() {
        for good in ["/a", "/a/b", "/ä/ø", "/a b", "/.hidden", "/a%41", "/\u{10FFFF}"] {
            assert_eq!(validate_key(good), Ok(()), "{good:?}");
        }
        assert_eq!(validate_key(&format!("/{}", "k".repeat(1023))), Ok(()));
        for (bad, why) in [
            ("", "empty"),
            ("a", "start with"),
            ("/", "end with"),
            ("/a/", "end with"),
            ("/a//b", "empty segment at byte 2"),
            ("/a\0", "U+0000"),
            ("/a\nb", "U+000A"),
            ("/a\u{85}", "U+0085"),
            ("/a*", "reserved for patterns"),
        ] {
            let error = validate_key(bad).unwrap_err();
            assert!(error.to_string().contains(why), "{bad:?}: {error}");
        }
        let long = format!("/{}", "k".repeat(1024));
        let error = validate_key(&long).unwrap_err().to_string();
        assert!(error.contains("1025 bytes") && error.len() < 200, "{error}");
    }

    #[test]
    fn a_prefix_is_a_range_of_bytes() {
        let range = KeyRange::prefix("/a_b/");
        assert_eq!((range.start(), range.end()), ("/a_b/", Some("/a_b0")));
        assert_eq!(KeyRange::prefix("").end(), None);
        assert_eq!(KeyRange::prefix("/\u{10FFFF}").end(), Some("0"));
        assert_eq!(KeyRange::prefix("/\u{D7FF}").end(), Some("/\u{E000}"));
        assert_eq!(KeyRange::prefix("\u{10FFFF}").end(), None);
    }

    #[test]
    fn reserved_keys_show_only_where_they_are_named() {
        assert!(!KeyRange::prefix("/").shows("/.univrs/x"));
        assert!(!KeyRange::prefix("").shows("/.univrs/x"));
        assert!(KeyRange::prefix("/.univrs").shows("/.univrs/x"));
        assert!(KeyRange::prefix("/").shows("/.univrsal"));
    }
}
