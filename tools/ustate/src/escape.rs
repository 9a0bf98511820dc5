//! What comes out of a store is not trusted: it may try to move the cursor, to colour, or to
//! turn the direction of text.

use std::borrow::Cow;

/// Whether a terminal would do something else with the character than show it.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}'   // marks of direction, zero width
            | '\u{2028}'..='\u{202e}'                           // separators, bidi overrides
            | '\u{2060}'..='\u{2069}' | '\u{feff}'              // invisible operators, bidi isolates
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}') // annotations, tags
}

/// The text for people: unsafe characters become `\n`, `\t`, `\r` or `\u{1b}`.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    replace(text, is_unsafe)
}

/// Whether a character is not seen, or changes how its neighbours look: two keys that differ in it would look the same.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{200c}' | '\u{200d}'                // soft hyphen, joiners
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' // fillers, an empty pattern of dots
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'            // vowels that are not shown, Mongolian marks
        | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}'          // variation marks
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0080}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}')
}

/// A key for people: also characters that are not seen are escaped.
pub(crate) fn escape_key(key: &str) -> Cow<'_, str> {
    replace(key, |c| is_unsafe(c) || is_hidden(c))
}

/// The text of a value that stands alone: escaped for people, but its lines and tabs stay.
pub(crate) fn escape_lines(text: &str) -> Cow<'_, str> {
    replace(text, |c| is_unsafe(c) && c != '\n' && c != '\t')
}

/// A field between tabs. Backslashes are doubled, so that it can be read back exactly.
pub(crate) fn escape_field(text: &str) -> Cow<'_, str> {
    replace(text, |c| is_unsafe(c) || c == '\\')
}

fn replace(text: &str, needs: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&needs) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            _ if !needs(c) => escaped.push(c),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            '\\' => escaped.push_str("\\\\"),
            _ => escaped.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(escaped)
}

/// JSON text in which unsafe characters, which stand in strings only, are written as `\uXXXX`.
pub(crate) fn escape_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_unsafe) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 8);
    for c in json.chars() {
        if is_unsafe(c) {
            let mut units = [0; 2];
            escaped.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        let hostile = "a\u{1b}[31m\u{9b}\u{202e}\r\n\u{7f}\u{2066}\u{200f}b\u{e0041}";
        let shown = escape(hostile);
        assert!(!shown.chars().any(is_unsafe), "{shown}");
        assert!(shown.starts_with("a\\u{1b}[31m\\u{9b}\\u{202e}\\r\\n"), "{shown}");
        assert_eq!(escape("ünï 🦀 \\ \"x\""), "ünï 🦀 \\ \"x\"");
    }

    #[test]
    fn what_is_not_seen_is_escaped_in_keys_alone() {
        for c in [
            "\u{ad}",
            "\u{200d}",
            "\u{3164}",
            "\u{fe0f}",
            "\u{e0100}",
            "\u{2800}",
            "\u{17b4}",
            "\u{115f}",
            "\u{1b}",
        ] {
            let key = format!("/a{c}b");
            assert_eq!(escape_key(&key), format!("/a{}b", c.escape_unicode()));
        }
        assert_eq!(escape_key("/日本/ünï 🦀 e\u{301}"), "/日本/ünï 🦀 e\u{301}");
        assert_eq!(escape("👩\u{200d}💻"), "👩\u{200d}💻");
    }

    #[test]
    fn json_and_fields_can_be_read_back_exactly() {
        let hostile = "a\\n\u{1b}\u{202e}\u{e0041}\u{7f}\n";
        let json = serde_json::to_string(hostile).unwrap();
        let escaped = escape_json(&json);
        assert!(!escaped.chars().any(is_unsafe), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), hostile);
        assert_eq!(escape_field("a\\n\n\t"), "a\\\\n\\n\\t");
    }
}
