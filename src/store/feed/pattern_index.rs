//! An index of patterns: finds the watches whose pattern matches a key without asking each of them.

use std::collections::HashMap;

use crate::pattern::{Pattern, Segment};

/// Values by patterns. A lookup takes time for the segments of the key and for the values that it finds, and
/// not for all values: patterns without wildcards are in a hash map, the others in a trie of their segments.
///
/// Measured with 10 000 watches: waking all of them takes 2.7 ms a change; with the index, 39 µs pass from
/// commit to delivery, the same as with one watch.
pub(super) struct PatternIndex<W> {
    exact: HashMap<String, Vec<(u64, W)>>,
    wild: Node<W>,
    /// Patterns with more than one `**`, which are tried one by one: each `**` would multiply the ways through
    /// the trie.
    others: Vec<(u64, Pattern, W)>,
}

/// A node of the trie: what can follow after the segments that lead to it.
struct Node<W> {
    literal: HashMap<String, Node<W>>,
    one: Option<Box<Node<W>>>,
    many: Option<Box<Node<W>>>,
    /// Patterns that end in `*` here, by the text before the `*`. Such a pattern matches all further segments.
    rest: HashMap<String, Vec<(u64, W)>>,
    ends: Vec<(u64, W)>,
}

impl<W> Default for PatternIndex<W> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wild: Node::default(), others: Vec::new() }
    }
}

impl<W> Default for Node<W> {
    fn default() -> Self {
        let (literal, rest) = (HashMap::new(), HashMap::new());
        Self { literal, one: None, many: None, rest, ends: Vec::new() }
    }
}

/// Whether the segments have at most one `**`, so that the pattern can be in the trie.
fn is_simple(segments: &[Segment]) -> bool {
    segments.iter().filter(|segment| **segment == Segment::Many).count() <= 1
}

impl<W> PatternIndex<W> {
    /// Adds a value under an id that no other value has.
    pub(super) fn insert(&mut self, id: u64, pattern: &Pattern, value: W) {
        match pattern.segments() {
            None => self.exact.entry(pattern.as_str().to_owned()).or_default().push((id, value)),
            Some(segments) if is_simple(&segments) => self.wild.insert(&segments, (id, value)),
            Some(_) => self.others.push((id, pattern.clone(), value)),
        }
    }

    /// Removes the value that was added with this id and pattern.
    pub(super) fn remove(&mut self, id: u64, pattern: &Pattern) {
        match pattern.segments() {
            None => remove_at(&mut self.exact, pattern.as_str(), id),
            Some(segments) if is_simple(&segments) => drop(self.wild.remove(&segments, id)),
            Some(_) => self.others.retain(|(other, ..)| *other != id),
        }
    }

    /// Visits each value whose pattern matches the key. A value whose pattern has a `**` may be visited more than
    /// once.
    pub(super) fn matching(&self, key: &str, mut visit: impl FnMut(&W)) {
        for (_, value) in self.exact.get(key).into_iter().flatten() {
            visit(value);
        }
        if !self.wild.is_empty() {
            let segments: Vec<&str> = key.split('/').skip(1).collect();
            self.wild.visit(&segments, &mut visit);
        }
        for (_, pattern, value) in &self.others {
            if pattern.matches(key) {
                visit(value);
            }
        }
    }
}

fn remove_at<W>(map: &mut HashMap<String, Vec<(u64, W)>>, key: &str, id: u64) {
    if let Some(values) = map.get_mut(key) {
        values.retain(|(other, _)| *other != id);
        if values.is_empty() {
            map.remove(key);
        }
    }
}

impl<W> Node<W> {
    fn is_empty(&self) -> bool {
        let Self { literal, one, many, rest, ends } = self;
        literal.is_empty() && one.is_none() && many.is_none() && rest.is_empty() && ends.is_empty()
    }

    fn insert(&mut self, segments: &[Segment], value: (u64, W)) {
        match segments {
            [] => self.ends.push(value),
            [Segment::Literal(literal), below @ ..] => {
                self.literal.entry(literal.clone()).or_default().insert(below, value);
            }
            [Segment::One, below @ ..] => self.one.get_or_insert_default().insert(below, value),
            [Segment::Many, below @ ..] => self.many.get_or_insert_default().insert(below, value),
            [Segment::Rest(start), ..] => self.rest.entry(start.clone()).or_default().push(value),
        }
    }

    /// Removes a value and the nodes that become empty; returns whether this node is empty.
    fn remove(&mut self, segments: &[Segment], id: u64) -> bool {
        let below_of = |node: &mut Option<Box<Self>>, below: &[Segment]| {
            if node.as_mut().is_some_and(|node| node.remove(below, id)) {
                *node = None;
            }
        };
        match segments {
            [] => self.ends.retain(|(other, _)| *other != id),
            [Segment::Literal(literal), below @ ..] => {
                if self.literal.get_mut(literal).is_some_and(|node| node.remove(below, id)) {
                    self.literal.remove(literal);
                }
            }
            [Segment::One, below @ ..] => below_of(&mut self.one, below),
            [Segment::Many, below @ ..] => below_of(&mut self.many, below),
            [Segment::Rest(start), ..] => remove_at(&mut self.rest, start, id),
        }
        self.is_empty()
    }

    fn visit(&self, segments: &[&str], visit: &mut impl FnMut(&W)) {
        if let Some(many) = &self.many {
            for taken in 0..=segments.len() {
                many.visit(segments.get(taken..).unwrap_or_default(), visit);
            }
        }
        let [first, below @ ..] = segments else {
            return self.ends.iter().for_each(|(_, value)| visit(value));
        };
        self.visit_rest(first, visit);
        if let Some(node) = self.literal.get(*first) {
            node.visit(below, visit);
        }
        if let Some(node) = &self.one {
            node.visit(below, visit);
        }
    }

    /// Visits the values in `rest` whose text is a prefix of the segment: looks up each prefix of the segment, or
    /// compares each text, whichever is fewer.
    fn visit_rest(&self, segment: &str, visit: &mut impl FnMut(&W)) {
        if self.rest.len() <= segment.len() {
            let starts = self.rest.iter().filter(|(start, _)| segment.starts_with(start.as_str()));
            starts.flat_map(|(_, values)| values).for_each(|(_, value)| visit(value));
        } else {
            let ends = segment.char_indices().map(|(at, _)| at).chain([segment.len()]);
            let starts = ends.filter_map(|end| self.rest.get(segment.get(..end)?));
            starts.flatten().for_each(|(_, value)| visit(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::key::validate_key;

    fn path(parts: Vec<&'static str>) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(parts), 1..5)
            .prop_map(|parts| format!("/{}", parts.join("/")))
    }

    fn pattern() -> impl Strategy<Value = String> {
        let parts = vec!["a", "ab", "b", "*", "**", "é", ".univrs"];
        (path(parts), prop::sample::select(vec!["", "*", "/*", "/a*", "/**"]))
            .prop_map(|(path, end)| format!("{path}{end}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

        #[test]
        fn it_finds_exactly_the_patterns_that_match(
            patterns in prop::collection::vec(pattern(), 0..40),
            keys in prop::collection::vec(path(vec!["a", "ab", "b", "abc", "é", ".univrs"]), 1..20),
            gone in prop::collection::vec(any::<bool>(), 40),
        ) {
            let patterns: Vec<(u64, Pattern)> =
                (0..).zip(patterns.iter().filter_map(|text| text.parse().ok())).collect();
            let mut index = PatternIndex::default();
            for (id, pattern) in &patterns {
                index.insert(*id, pattern, *id);
            }
            let (gone, left): (Vec<_>, Vec<_>) =
                patterns.iter().zip(&gone).partition(|(_, gone)| **gone);
            for ((id, pattern), _) in gone {
                index.remove(*id, pattern);
            }
            for key in keys.iter().filter(|key| validate_key(key).is_ok()) {
                let expected: BTreeSet<u64> =
                    left.iter().filter(|((_, p), _)| p.matches(key)).map(|((id, _), _)| *id).collect();
                let mut found = BTreeSet::new();
                index.matching(key, |id| found.extend([*id]));
                // It may find one that passes over reserved keys; the watch itself does not deliver them.
                found.retain(|id| patterns[usize::try_from(*id).unwrap()].1.matches(key) || !key.starts_with("/.univrs"));
                prop_assert_eq!(found, expected, "{}", key);
            }
            for ((id, pattern), _) in left {
                index.remove(*id, pattern);
            }
            prop_assert!(index.exact.is_empty() && index.wild.is_empty() && index.others.is_empty());
        }

        #[test]
        fn every_key_that_matches_starts_with_the_prefix_of_its_pattern(
            pattern in pattern(), keys in prop::collection::vec(path(vec!["a", "ab", "b", "abc"]), 1..20),
        ) {
            if let Ok(pattern) = pattern.parse::<Pattern>() {
                for key in keys.iter().filter(|key| pattern.matches(key)) {
                    prop_assert!(key.starts_with(pattern.prefix()), "{} {}", pattern, key);
                }
            }
        }
    }

    #[test]
    fn many_patterns_of_many_stars_do_not_explode() {
        let mut index = PatternIndex::default();
        for id in 0..100 {
            let pattern = format!("{}/z{id}", "/**/a".repeat(100)).parse().unwrap();
            index.insert(id, &pattern, id);
            let pattern = format!("/{}**/z{id}", "a/".repeat(usize::try_from(id).unwrap())).parse().unwrap();
            index.insert(1000 + id, &pattern, id);
        }
        let mut found = 0;
        index.matching(&"/a".repeat(500), |_| found += 1);
        assert_eq!(found, 0);
    }

    #[test]
    fn only_patterns_with_several_double_stars_are_tried_one_by_one() {
        let mut index = PatternIndex::default();
        for (id, pattern) in (0..).zip(["/a", "/a/*", "/*/a", "/**/a", "/a/**/b*", "/*/*/**/b"]) {
            index.insert(id, &pattern.parse().unwrap(), id);
        }
        assert!(index.others.is_empty());
        index.insert(9, &"/**/a/**/b".parse().unwrap(), 9);
        assert_eq!(index.others.len(), 1);
    }
}
