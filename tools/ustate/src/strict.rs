//! JSON that every parser reads, and reads as the same: that of RFC 7493, not nested too deep.

use std::collections::HashSet;

/// The deepest nesting. Parsers have limits, and what a value is embedded in takes a few levels itself.
const DEEPEST: usize = 100;
/// A number of so many digits, without an exponent, is exact in every parser.
const EXACT: usize = 15;

/// Whether a JSON text can be embedded in other JSON. It cannot if a string of it is no Unicode, as a lone surrogate
/// is not, if an object has a name twice, if it is nested too deep, or if a number changes in a 64-bit float, which
/// is what many parsers read it into.
pub(crate) fn is_strict(json: &str) -> bool {
    let bytes = json.as_bytes();
    // The objects and lists around a place; an object has the names that it had up to here.
    let mut around: Vec<Option<HashSet<String>>> = Vec::new();
    let (mut at, mut is_name) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        let from = at;
        at += 1;
        match byte {
            b'{' | b'[' => {
                is_name = byte == b'{';
                around.push(is_name.then(HashSet::new));
                if around.len() > DEEPEST {
                    return false;
                }
            }
            b'}' | b']' => drop(around.pop()),
            b',' => is_name = matches!(around.last(), Some(Some(_))),
            b':' => is_name = false,
            b'"' => {
                at = end_of_string(bytes, at);
                let Some(text) = json.get(from..at).and_then(unquoted) else { return false };
                if is_name
                    && let Some(Some(names)) = around.last_mut()
                    && !names.insert(text)
                {
                    return false;
                }
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(*byte);
                at += bytes.get(at..).into_iter().flatten().take_while(is_part).count();
                if !json.get(from..at).is_some_and(survives) {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

/// The place behind the quotation mark that ends a string.
fn end_of_string(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(&byte) = bytes.get(at) {
        at += if byte == b'\\' { 2 } else { 1 };
        if byte == b'"' {
            break;
        }
    }
    at.min(bytes.len())
}

/// What a string says; none if that is no Unicode.
fn unquoted(string: &str) -> Option<String> {
    serde_json::from_str(string).ok()
}

/// Whether a number is the same after it was read into a 64-bit float and written.
fn survives(number: &str) -> bool {
    if number.len() <= EXACT && !number.contains(['e', 'E']) {
        return true;
    }
    let Ok(float) = number.parse::<f64>() else { return false };
    float.is_finite() && decimal(number).is_some_and(|exact| decimal(&format!("{float:e}")) == Some(exact))
}

/// The digits of a number without zeros around them, their exponent, and whether it is negative.
fn decimal(number: &str) -> Option<(String, i64, bool)> {
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let exponent = exponent.checked_add(i64::try_from(digits.len() - significant.len()).ok()?)?;
    let significant = significant.trim_start_matches('0');
    // There is one zero.
    let zero = significant.is_empty();
    Some((significant.to_owned(), if zero { 0 } else { exponent }, negative && !zero))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn what_every_parser_reads_alike_is_strict() {
        for json in [
            "null",
            r#""""#,
            r#"{"a":1,"b":{"a":[1,{"a":2}]},"c":"a"}"#,
            r#"{"a":"b","b":"a"}"#,
            r#"["a","a",["a"],{"a":"a"}]"#,
            r#""\ud83e\udd80 \" \\ \u0000""#,
            r#"{"\\":1,"\"":2,"a,b":3,"{":4}"#,
            "0",
            "-0",
            "-0.0",
            "0.1",
            "1.10",
            "1e3",
            "100E-2",
            "1.7976931348623157e308",
            "5e-324",
            "9007199254740992",
            "-9007199254740992",
            "1234567890123450000000",
            "0.30000000000000004",
            "100000000000000000000000",
            &nested(100),
        ] {
            assert!(serde_json::from_str::<&serde_json::value::RawValue>(json).is_ok(), "{json}");
            assert!(is_strict(json), "{json}");
        }
    }

    #[test]
    fn what_a_parser_may_refuse_or_change_is_not_strict() {
        for json in [
            r#""\ud800""#,
            r#""\udc00 ""#,
            r#"["\udc00\ud800"]"#,
            r#"{"\ud800":1}"#,
            r#"{"a":1,"b":2,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"[{"x":{"a":1,"c":[{"a":1}],"a":2}}]"#,
            "1e400",
            "-1e400",
            "[1,1e309]",
            "1e-400",
            "1e99999999999999999999",
            "9007199254740993",
            "18446744073709551615",
            "12345678901234567890123",
            "0.1000000000000000055511151231257827",
            "3.14159265358979323846",
            &nested(101),
            &format!("[{},1]", nested(100)),
        ] {
            assert!(serde_json::from_str::<&serde_json::value::RawValue>(json).is_ok(), "{json}");
            assert!(!is_strict(json), "{json}");
        }
    }
}
