//! Values: any bytes, shown without losing any silently.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::escape::{escape, escape_field, escape_lines};
use crate::strict::is_strict;
use crate::width::{beginning, width};

/// How the bytes of a value are written down.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Encoded {
    /// JSON that every parser reads, without insignificant white space; numbers and order are as they were.
    Json(String),
    Text(String),
    Base64(String),
}

impl Encoded {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else { return Self::Base64(STANDARD.encode(bytes)) };
        match serde_json::from_str::<&RawValue>(text) {
            Ok(json) if is_strict(json.get()) => Self::Json(compact(json.get())),
            _ => Self::Text(text.to_owned()),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::Text(_) => "text",
            Self::Base64(_) => "base64",
        }
    }

    /// The text as a field between tabs.
    pub(crate) fn field(&self) -> String {
        match self {
            Self::Json(text) | Self::Text(text) | Self::Base64(text) => escape_field(text).into_owned(),
        }
    }
}

/// JSON without the white space between its tokens.
pub(crate) fn compact(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    json.chars()
        .filter(|&c| {
            if quoted {
                quoted = escaped || c != '"';
                escaped = !escaped && c == '\\';
                return true;
            }
            quoted = c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}

/// A value on a line of its own or as part of one, at most `room` characters.
pub(crate) fn brief(bytes: &[u8], room: usize) -> String {
    if bytes.is_empty() {
        return "(empty)".into();
    }
    let text = match std::str::from_utf8(bytes) {
        // Nobody parses it, so any JSON is shown as such.
        Ok(text) => serde_json::from_str::<&RawValue>(text)
            .map_or_else(|_| Cow::Borrowed(text), |json| compact(json.get()).into()),
        Err(_) => format!("base64:{}", STANDARD.encode(bytes)).into(),
    };
    // Escaping makes longer, so what is cut before is cut after as well.
    let start: String = text.chars().take(room.saturating_add(1)).collect();
    let shown = escape(&start);
    if start.len() == text.len() && width(&shown) <= room {
        return shown.into_owned();
    }
    let size = format!("… ({})", size(bytes.len() as u64));
    format!("{}{size}", beginning(&shown, room.saturating_sub(width(&size))))
}

/// A value that stands alone, whole; says what had to be replaced in it.
pub(crate) fn whole(bytes: &[u8]) -> (String, Option<&'static str>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let shown = escape_lines(text);
            let note = (shown != text)
                .then_some("control characters are shown escaped; -o raw writes the exact bytes");
            (shown.into_owned(), note)
        }
        Err(_) => (
            format!("base64:{}", STANDARD.encode(bytes)),
            Some("the value is no text, shown as base64; -o raw writes the exact bytes"),
        ),
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut name) = (bytes.saturating_mul(10), "B");
    for unit in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        name = unit;
    }
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// A count for people, its digits in groups of three.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// What so many things were.
pub(crate) fn were(number: u64) -> &'static str {
    if number == 1 { "it was" } else { "they were" }
}

/// `1 key`, `2 keys`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_numbers_order_and_strings() {
        let json = Encoded::of(b" { \"b\" : 1.10e40 , \"a\": [ \" x \\\" y \" , 9007199254740992 ] }\n");
        let expected = r#"{"b":1.10e40,"a":[" x \" y ",9007199254740992]}"#;
        assert_eq!(json, Encoded::Json(expected.into()));
        assert_eq!(Encoded::of(b" 1e400 "), Encoded::Text(" 1e400 ".into()));
        assert_eq!(brief(b" [ 1e400 ] ", 20), "[1e400]");
        assert_eq!(Encoded::of(b"3 replicas"), Encoded::Text("3 replicas".into()));
        assert_eq!(Encoded::of(&[0xff, 0]), Encoded::Base64("/wA=".into()));
    }

    #[test]
    fn a_brief_value_fits_and_says_that_it_was_cut() {
        assert_eq!(brief(b"short", 10), "short");
        assert_eq!(brief(b"", 10), "(empty)");
        assert_eq!(brief(&[b'x'; 2048], 20), "xxxxxxxxx… (2.0 KiB)");
        assert_eq!(brief("\u{1b}\u{1b}\u{1b}".as_bytes(), 12).chars().count(), 12);
    }

    #[test]
    fn sizes_and_counts_read_well() {
        assert_eq!(
            [0, 1023, 1024, 1536, 1 << 30].map(size),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 GiB"]
        );
        assert_eq!([0, 999, 18_241, 1_000_000].map(count), ["0", "999", "18 241", "1 000 000"]);
    }
}
