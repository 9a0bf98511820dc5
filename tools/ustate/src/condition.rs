//! Conditions on values that are JSON, as people write them.

use std::str::FromStr;

use serde_json::value::RawValue;

use crate::leaves::{at, is_same, parse};

/// `/limits/max=0`: a JSON pointer, and what must be where it leads.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pointer: String,
    text: String,
    json: Option<Box<RawValue>>,
}

impl Condition {
    /// Whether a value is JSON that has this.
    pub(crate) fn holds(&self, value: Option<&[u8]>) -> bool {
        let Some(found) = value.and_then(parse).and_then(|json| at(json, &self.pointer)) else {
            return false;
        };
        self.json.as_ref().is_some_and(|json| is_same(json, found))
            || serde_json::from_str::<String>(found.get()).is_ok_and(|found| found == self.text)
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pointer, value) = text
            .split_once('=')
            .filter(|(pointer, _)| pointer.is_empty() || pointer.starts_with('/'))
            .ok_or(
                "a condition looks like /limits/max=0: a JSON pointer, which starts with '/', and a value",
            )?;
        Ok(Self {
            pointer: pointer.to_owned(),
            text: value.to_owned(),
            json: serde_json::from_str(value).ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_for_json_that_has_the_value_there() {
        let value = br#"{"max": 0, "name": "node-1", "level": "3", "tags": [ "a", {"b": null} ]}"#;
        let holds = |condition: &str| condition.parse::<Condition>().unwrap().holds(Some(value));
        for condition in [
            "/max=0",
            "/name=node-1",
            "/name=\"node-1\"",
            "/level=3",
            "/level=\"3\"",
            "/tags/0=a",
            "/tags/1/b=null",
            "/tags/1={ \"b\" : null }",
        ] {
            assert!(holds(condition), "{condition}");
        }
        for condition in ["/max=\"0\"", "/max=00", "/max=", "/min=0", "/name=node", "/tags/2=a", "=x", "/=x"]
        {
            assert!(!holds(condition), "{condition}");
        }
        let whole: Condition = "=7".parse().unwrap();
        assert!(whole.holds(Some(b" 7 ")) && !whole.holds(Some(b"7 replicas")) && !whole.holds(None));
        for bad in ["", "max=0", "/max"] {
            assert!(bad.parse::<Condition>().is_err(), "{bad}");
        }
    }
}
