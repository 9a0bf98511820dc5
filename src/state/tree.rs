//! A persistent ordered map: a B+ tree whose nodes are shared between its copies.
//!
//! A copy of the map costs one pointer. An insertion walks from the root to a leaf: it copies each node on
//! this way that another copy of the map shares, and changes the others in place. So a reader keeps the
//! state that it has, the writer never waits for readers, and a group of insertions copies a node once.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use super::node::{Child, Entries, Keyed, Node, chunks, insert};

/// A persistent ordered map of shared items by their keys.
pub(crate) struct Tree<T> {
    root: Arc<Node<T>>,
    len: usize,
}

impl<T: Keyed> Tree<T> {
    /// The map of these items. They must be in the order of their keys, without duplicates.
    pub(crate) fn from_sorted(items: Vec<Arc<T>>) -> Self {
        let len = items.len();
        let mut nodes: Vec<Child<T>> =
            chunks(items).map(|items| Child::over(Entries::Items(items))).collect();
        while nodes.len() > 1 {
            nodes = chunks(nodes).map(|children| Child::over(Entries::Children(children))).collect();
        }
        nodes.pop().map_or_else(Self::default, |root| Self { root: root.node, len })
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The item of the key.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<T>> {
        let mut node = &self.root;
        loop {
            match &node.entries {
                Entries::Items(items) => return items.get(node.search(key).ok()?),
                Entries::Children(children) => node = &children.get(node.child_of(key))?.node,
            }
        }
    }

    /// Inserts an item; returns the item with the same key that it replaces.
    pub(crate) fn insert(&mut self, item: Arc<T>) -> Option<Arc<T>> {
        let (old, upper) = insert(&mut self.root, item);
        self.len += usize::from(old.is_none());
        if let Some(upper) = upper {
            let first = self.root.entries.key(0).map_or_else(|| upper.first.clone(), Arc::from);
            let lower = Child { first, node: self.root.clone() };
            self.root = Arc::new(Node::new(Entries::Children(vec![lower, upper])));
        }
        old
    }

    /// The items from `start` on, in the order of keys.
    pub(crate) fn from(&self, start: Bound<&str>) -> Items<'_, T> {
        let mut items = Items { above: Vec::new(), leaf: [].iter() };
        let mut node = &self.root;
        let (Bound::Included(key) | Bound::Excluded(key)) = start else {
            items.descend(node);
            return items;
        };
        loop {
            match &node.entries {
                Entries::Children(children) => {
                    let index = node.child_of(key);
                    items.above.push(children.get(index + 1..).unwrap_or_default().iter());
                    let Some(child) = children.get(index) else { return items };
                    node = &child.node;
                }
                Entries::Items(leaf) => {
                    let index = match (node.search(key), start) {
                        (Ok(index), Bound::Excluded(_)) => index + 1,
                        (Ok(index) | Err(index), _) => index,
                    };
                    items.leaf = leaf.get(index..).unwrap_or_default().iter();
                    return items;
                }
            }
        }
    }
}

/// Items in the order of their keys.
pub(crate) struct Items<'a, T> {
    /// The children that are still to be visited, for each level above the leaf.
    above: Vec<std::slice::Iter<'a, Child<T>>>,
    leaf: std::slice::Iter<'a, Arc<T>>,
}

impl<'a, T> Items<'a, T> {
    fn descend(&mut self, mut node: &'a Arc<Node<T>>) {
        loop {
            match &node.entries {
                Entries::Items(items) => {
                    self.leaf = items.iter();
                    return;
                }
                Entries::Children(children) => {
                    let mut children = children.iter();
                    let Some(first) = children.next() else { return };
                    self.above.push(children);
                    node = &first.node;
                }
            }
        }
    }
}

impl<'a, T> Iterator for Items<'a, T> {
    type Item = &'a Arc<T>;

    fn next(&mut self) -> Option<&'a Arc<T>> {
        loop {
            if let Some(item) = self.leaf.next() {
                return Some(item);
            }
            let Some(next) = self.above.last_mut()?.next() else {
                self.above.pop();
                continue;
            };
            self.descend(&next.node);
        }
    }
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { root: Arc::new(Node::default()), len: 0 }
    }
}

impl<T> Clone for Tree<T> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<T> fmt::Debug for Tree<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Pair(Arc<str>, u64);

    impl Keyed for Pair {
        fn key(&self) -> &Arc<str> {
            &self.0
        }
    }

    /// Keys that share long and short prefixes, end inside each other's hints, and have bytes of
    /// every size.
    fn key() -> impl Strategy<Value = String> {
        let tail = prop::collection::vec(
            prop::sample::select(vec!["a", "b", "0", "/", "é", "\u{10FFFF}", "\0"]),
            0..12,
        );
        let head = prop::sample::select(vec!["", "/", "/nodes/", "/nodes/region-1/", "/nodes/region-2/rack"]);
        (head, tail).prop_map(|(head, tail)| format!("{head}{}", tail.concat()))
    }

    fn pairs(tree: &Tree<Pair>, start: Bound<&str>) -> Vec<(String, u64)> {
        tree.from(start).map(|pair| (pair.0.to_string(), pair.1)).collect()
    }

    proptest! {
        #[test]
        fn it_does_what_a_plain_map_does_and_its_copies_stay_as_they_were(
            keys in prop::collection::vec(key(), 0..400), starts in prop::collection::vec(key(), 8),
        ) {
            let (mut tree, mut plain) = (Tree::default(), BTreeMap::new());
            let mut copies = Vec::new();
            for (number, key) in (0..).zip(&keys) {
                if number % 50 == 0 {
                    copies.push((tree.clone(), plain.clone()));
                }
                let old = tree.insert(Arc::new(Pair(key.as_str().into(), number))).map(|pair| pair.1);
                prop_assert_eq!(old, plain.insert(key.clone(), number));
            }
            let sorted = plain.iter().map(|(key, number)| Arc::new(Pair(key.as_str().into(), *number)));
            copies.push((Tree::from_sorted(sorted.collect()), plain.clone()));
            copies.push((tree, plain));
            for (tree, plain) in &copies {
                prop_assert_eq!(tree.len(), plain.len());
                prop_assert!(pairs(tree, Bound::Unbounded).iter().map(|(k, v)| (k, v)).eq(plain.iter()));
                for key in keys.iter().chain(&starts) {
                    prop_assert_eq!(tree.get(key).map(|pair| pair.1), plain.get(key).copied());
                }
                for start in &starts {
                    for bound in [Bound::Included(start.as_str()), Bound::Excluded(start.as_str())] {
                        let expected = plain.range::<str, _>((bound, Bound::Unbounded));
                        prop_assert!(pairs(tree, bound).iter().map(|(k, v)| (k, v)).eq(expected));
                    }
                }
            }
        }
    }

    #[test]
    fn many_keys_in_any_order_are_found() {
        for step in [1_u64, 7_919, 99_991] {
            let mut tree = Tree::default();
            for n in 0..100_000 {
                let n = n * step % 100_000;
                tree.insert(Arc::new(Pair(format!("/bench/key/{n:08}").into(), n)));
            }
            assert_eq!(tree.len(), 100_000);
            assert!(tree.from(Bound::Unbounded).map(|pair| pair.1).eq(0..100_000));
            assert_eq!(tree.get("/bench/key/00099999").map(|pair| pair.1), Some(99_999));
            assert_eq!(tree.get("/bench/key/00100000"), None);
        }
    }
}
