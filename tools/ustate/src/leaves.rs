//! JSON taken apart, each number and string as it was written.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::value::compact;

/// What is nested deeper is compared as a whole.
const DEEPEST: usize = 64;

/// What is different at one place of a JSON document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// The place, as a JSON pointer (RFC 6901); empty for the document.
    pub(crate) pointer: String,
    /// Compact JSON; none where there was nothing.
    pub(crate) before: Option<String>,
    /// None where there is nothing.
    pub(crate) after: Option<String>,
}

impl Replaced {
    fn at(pointer: String, before: Option<&RawValue>, after: Option<&RawValue>) -> Self {
        let text = |json: Option<&RawValue>| json.map(|json| compact(json.get()));
        Self { pointer, before: text(before), after: text(after) }
    }
}

/// What JSON consists of.
enum Node<'a> {
    Object(BTreeMap<String, &'a RawValue>),
    List(Vec<&'a RawValue>),
    /// A number, a string, or what cannot be taken apart.
    Leaf,
}

impl<'a> Node<'a> {
    fn of(json: &'a RawValue, depth: usize) -> Self {
        let text = json.get();
        let node = match text.as_bytes().first() {
            _ if depth >= DEEPEST => None,
            Some(b'{') => serde_json::from_str(text).map(Self::Object).ok(),
            Some(b'[') => serde_json::from_str(text).map(Self::List).ok(),
            _ => None,
        };
        node.unwrap_or(Self::Leaf)
    }
}

/// The JSON of a value; none if it is something else.
pub(crate) fn parse(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}

/// What makes one document out of another, in an order in which it can be done.
pub(crate) fn compare(before: &RawValue, after: &RawValue) -> Vec<Replaced> {
    let mut replaced = Vec::new();
    descend(before, after, "", 0, &mut replaced);
    replaced
}

fn descend(before: &RawValue, after: &RawValue, pointer: &str, depth: usize, replaced: &mut Vec<Replaced>) {
    if before.get() == after.get() {
        return;
    }
    let Some(pairs) = pairs(&Node::of(before, depth), &Node::of(after, depth)) else {
        if !is_same(before, after) {
            replaced.push(Replaced::at(pointer.to_owned(), Some(before), Some(after)));
        }
        return;
    };
    for (name, before, after) in pairs {
        let pointer = below(pointer, &name);
        match (before, after) {
            (Some(before), Some(after)) => descend(before, after, &pointer, depth + 1, replaced),
            _ => replaced.push(Replaced::at(pointer, before, after)),
        }
    }
}

/// A name, and what it stands for before and after.
type Pair<'a> = (String, Option<&'a RawValue>, Option<&'a RawValue>);

/// What two objects or two lists have below them: first what goes, the last of a list before others.
fn pairs<'a>(before: &Node<'a>, after: &Node<'a>) -> Option<Vec<Pair<'a>>> {
    match (before, after) {
        (Node::Object(old), Node::Object(new)) => {
            let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
            let gone = gone.map(|(name, json)| (name.clone(), Some(*json), None));
            let kept = new.iter().map(|(name, json)| (name.clone(), old.get(name).copied(), Some(*json)));
            Some(gone.chain(kept).collect())
        }
        (Node::List(old), Node::List(new)) => {
            let gone = old.iter().enumerate().skip(new.len()).rev();
            let gone = gone.map(|(i, json)| (i.to_string(), Some(*json), None));
            let kept = new.iter().enumerate();
            let kept = kept.map(|(i, json)| (i.to_string(), old.get(i).copied(), Some(*json)));
            Some(gone.chain(kept).collect())
        }
        _ => None,
    }
}

/// Whether it is the same but for how it is written.
pub(crate) fn is_same(before: &RawValue, after: &RawValue) -> bool {
    let string = |json: &RawValue| serde_json::from_str::<String>(json.get()).ok();
    compact(before.get()) == compact(after.get())
        || string(before).is_some_and(|before| Some(before) == string(after))
}

/// Each number, string and empty list or object, with its place.
pub(crate) fn leaves(json: &RawValue) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    collect(json, "", 0, &mut leaves);
    leaves
}

fn collect(json: &RawValue, pointer: &str, depth: usize, leaves: &mut Vec<(String, String)>) {
    match Node::of(json, depth) {
        Node::Object(object) if !object.is_empty() => {
            for (name, json) in object {
                collect(json, &below(pointer, &name), depth + 1, leaves);
            }
        }
        Node::List(list) if !list.is_empty() => {
            for (i, json) in list.into_iter().enumerate() {
                collect(json, &below(pointer, &i.to_string()), depth + 1, leaves);
            }
        }
        _ => leaves.push((pointer.to_owned(), compact(json.get()))),
    }
}

/// What stands at a place of a document.
pub(crate) fn at<'a>(json: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let Some(rest) = pointer.strip_prefix('/') else { return pointer.is_empty().then_some(json) };
    rest.split('/').try_fold(json, |json, name| {
        let name = name.replace("~1", "/").replace("~0", "~");
        match Node::of(json, 0) {
            Node::Object(object) => object.get(&name).copied(),
            Node::List(list) => {
                let plain = name == "0" || !name.starts_with(['0', '+']);
                list.get(name.parse::<usize>().ok().filter(|_| plain)?).copied()
            }
            Node::Leaf => None,
        }
    })
}

/// The pointer to what has a name in the object or list that another one points to.
pub(crate) fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    fn compared(before: &str, after: &str) -> Vec<String> {
        let show = |text: Option<String>| text.unwrap_or("-".into());
        compare(json(before), json(after))
            .into_iter()
            .map(|one| format!("{} {} {}", one.pointer, show(one.before), show(one.after)))
            .collect()
    }

    #[test]
    fn what_is_different_is_named_by_its_place() {
        assert_eq!(compared("1", " 1 "), [""; 0]);
        assert_eq!(compared(r#""a""#, r#""\u0061""#), [""; 0]);
        assert_eq!(compared(r#"{"a":1,"b":2}"#, r#"{ "b": 2, "a": 1 }"#), [""; 0]);
        assert_eq!(compared("1", "2"), [" 1 2"]);
        assert_eq!(
            compared(r#"{"a":{"x/y":1},"b":2,"c":[1,2,3]}"#, r#"{"a":{"x/y":{"z~":0}},"c":[1],"d":[4]}"#),
            ["/b 2 -", r#"/a/x~1y 1 {"z~":0}"#, "/c/2 3 -", "/c/1 2 -", "/d - [4]"]
        );
        assert_eq!(compared("[1]", "[1,2,3]"), ["/1 - 2", "/2 - 3"]);
        assert_eq!(compared("[]", "{}"), [" [] {}"]);
    }

    #[test]
    fn numbers_are_never_rounded() {
        assert_eq!(
            compared("[12345678901234567890123]", "[12345678901234567890124]"),
            ["/0 12345678901234567890123 12345678901234567890124"]
        );
    }

    #[test]
    fn leaves_are_those_without_anything_below() {
        let found = leaves(json(r#"{"b":[],"a":[{"c":null},{}, "x"]}"#));
        let texts: Vec<String> =
            found.into_iter().map(|(pointer, json)| format!("{pointer} {json}")).collect();
        assert_eq!(texts, ["/a/0/c null", "/a/1 {}", "/a/2 \"x\"", "/b []"]);
        assert_eq!(leaves(json("7")), [(String::new(), "7".to_owned())]);
    }

    #[test]
    fn pointers_find_what_they_point_to() {
        let document = json(r#"{"a":[{"x/y":1},2],"":3,"~":4}"#);
        let found = |pointer| at(document, pointer).map(RawValue::get);
        assert_eq!(found("/a/0/x~1y"), Some("1"));
        assert_eq!([found("/a/1"), found("/"), found("/~0")], [Some("2"), Some("3"), Some("4")]);
        assert_eq!(found(""), Some(document.get()));
        for absent in ["a", "/b", "/a/2", "/a/01", "/a/+1", "/a/1/x", "/a/-"] {
            assert_eq!(found(absent), None, "{absent}");
        }
    }

    #[test]
    fn json_that_is_nested_without_end_is_compared_as_a_whole() {
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(100_000), "]".repeat(100_000));
        let (before, after) = (deep("1"), deep("2"));
        let replaced = compare(json(&before), json(&after));
        assert_eq!(replaced.len(), 1);
        assert_eq!(replaced[0].pointer, "/0".repeat(DEEPEST));
        assert_eq!(leaves(json(&before)).len(), 1);
    }
}
