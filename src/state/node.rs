//! The nodes of a [`Tree`](super::tree::Tree).
//!
//! A search in a node compares numbers, not keys. Each key is an allocation of its own, so comparing keys
//! would cost a cache miss each. Instead a node keeps, side by side, the eight bytes of each key after the
//! prefix that all its keys have in common: its hint. Only where hints are equal is a key itself compared.
//! These are the poor man's normalized keys of Graefe and Larson ("B-tree indexes and CPU caches", 2001).

use std::cmp::Ordering;
use std::sync::Arc;

/// The most items of a node. An insertion copies a node that a reader still holds, so a larger node makes
/// writes dearer; a smaller one makes the tree deeper. The hints of 32 keys are four cache lines.
const FULL: usize = 32;

/// Bytes of the common prefix that lie within the node, so that comparing them takes no other memory.
const BEGIN: usize = 32;

/// An item of the map, which carries its key.
pub(crate) trait Keyed {
    /// The key.
    fn key(&self) -> &Arc<str>;
}

/// A node, shared between copies of a tree.
pub(super) struct Node<T> {
    /// The length of the prefix that all keys of this node have in common.
    common: usize,
    /// The first [`BEGIN`] bytes of that prefix.
    begin: [u8; BEGIN],
    /// The hint of each key, in order.
    hints: Vec<u64>,
    pub(super) entries: Entries<T>,
}

/// The entries of a node: items in a leaf, children above.
pub(super) enum Entries<T> {
    Items(Vec<Arc<T>>),
    Children(Vec<Child<T>>),
}

/// A node, and a key that separates it: not greater than any key of the node, and greater than all keys of
/// the nodes before it.
pub(super) struct Child<T> {
    pub(super) first: Arc<str>,
    pub(super) node: Arc<Node<T>>,
}

/// The hint of a key: the eight bytes after the first `common` ones, as a number that sorts as they do.
/// Missing bytes are zeros.
fn hint(key: &str, common: usize) -> u64 {
    let rest = key.as_bytes().get(common..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => rest.iter().enumerate().fold(0, |hint, (i, byte)| hint | u64::from(*byte) << (56 - 8 * i)),
    }
}

/// The length of the common prefix of two keys.
fn shared(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// Splits entries into nodes that are three quarters full, which leaves room for insertions.
pub(super) fn chunks<E>(entries: Vec<E>) -> impl Iterator<Item = Vec<E>> {
    let mut entries = entries.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<E> = entries.by_ref().take(FULL * 3 / 4).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

impl<T: Keyed> Child<T> {
    pub(super) fn over(entries: Entries<T>) -> Self {
        let first = entries.key(0).map_or_else(|| Arc::from(""), Arc::from);
        Self { first, node: Arc::new(Node::new(entries)) }
    }
}

impl<T: Keyed> Entries<T> {
    fn len(&self) -> usize {
        match self {
            Self::Items(items) => items.len(),
            Self::Children(children) => children.len(),
        }
    }

    pub(super) fn key(&self, index: usize) -> Option<&str> {
        match self {
            Self::Items(items) => items.get(index).map(|item| &**item.key()),
            Self::Children(children) => children.get(index).map(|child| &*child.first),
        }
    }

    fn split_off(&mut self, at: usize) -> Self {
        match self {
            Self::Items(items) => Self::Items(items.split_off(at)),
            Self::Children(children) => Self::Children(children.split_off(at)),
        }
    }
}

impl<T: Keyed> Node<T> {
    pub(super) fn new(entries: Entries<T>) -> Self {
        let mut node = Self { entries, ..Self::default() };
        node.take_hints();
        node
    }

    /// Computes the common prefix and the hints.
    fn take_hints(&mut self) {
        let ends = (self.entries.key(0), self.entries.key(self.entries.len().saturating_sub(1)));
        // The keys are in order, so all have the prefix that the first and the last have in common.
        self.common = if let (Some(first), Some(last)) = ends { shared(first, last) } else { 0 };
        if let Some(first) = self.entries.key(0) {
            let within = self.common.min(BEGIN);
            self.begin.iter_mut().zip(first.bytes().take(within)).for_each(|(to, from)| *to = from);
        }
        let keys = (0..self.entries.len()).filter_map(|index| self.entries.key(index));
        self.hints = keys.map(|key| hint(key, self.common)).collect();
    }

    /// The index of the key; an error has the index to insert it at.
    pub(super) fn search(&self, key: &str) -> Result<usize, usize> {
        let (bytes, common) = (key.as_bytes(), self.common);
        let whole = || self.entries.key(0).and_then(|first| first.as_bytes().get(..common));
        let prefix = self.begin.get(..common).or_else(whole).unwrap_or_default();
        match bytes.get(..common).unwrap_or(bytes).cmp(prefix) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.entries.len()),
            Ordering::Equal => {}
        }
        let sought = hint(key, common);
        let mut index = self.hints.partition_point(|hint| *hint < sought);
        while self.hints.get(index) == Some(&sought) {
            match self.entries.key(index).map(|found| found.cmp(key)) {
                Some(Ordering::Less) => index += 1,
                Some(Ordering::Equal) => return Ok(index),
                _ => break,
            }
        }
        Err(index)
    }

    /// The index of the child that has the key, if the tree has it.
    pub(super) fn child_of(&self, key: &str) -> usize {
        match self.search(key) {
            Ok(index) => index,
            Err(index) => index.saturating_sub(1),
        }
    }

    /// Inserts an entry with a new key. If the node has too many entries then, splits off and returns the upper
    /// half.
    fn put(&mut self, index: usize, key: &str, put: impl FnOnce(&mut Entries<T>)) -> Option<Child<T>> {
        put(&mut self.entries);
        let ends = [self.entries.key(0), self.entries.key(self.entries.len() - 1)];
        if ends.into_iter().flatten().all(|end| shared(end, key) >= self.common) && self.entries.len() > 2 {
            self.hints.insert(index, hint(key, self.common));
        } else {
            self.take_hints();
        }
        if self.entries.len() <= FULL {
            return None;
        }
        let upper = Child::over(self.entries.split_off(FULL / 2));
        self.take_hints();
        Some(upper)
    }
}

/// Inserts an item; returns the item that it replaces, and the upper half if the node was split.
pub(super) fn insert<T: Keyed>(node: &mut Arc<Node<T>>, item: Arc<T>) -> (Option<Arc<T>>, Option<Child<T>>) {
    let node = Arc::make_mut(node);
    let key = item.key().clone();
    let index = match &node.entries {
        Entries::Items(_) => node.search(&key),
        Entries::Children(_) => Ok(node.child_of(&key)),
    };
    match (&mut node.entries, index) {
        (Entries::Items(items), Ok(index)) => {
            (items.get_mut(index).map(|old| std::mem::replace(old, item)), None)
        }
        (Entries::Children(children), Ok(index)) => {
            let Some(child) = children.get_mut(index) else { return (None, None) };
            let (old, upper) = insert(&mut child.node, item);
            if key < child.first {
                child.first = key;
                node.take_hints();
            }
            let upper = upper.and_then(|upper| {
                let first = upper.first.clone();
                node.put(index + 1, &first, |entries| {
                    if let Entries::Children(children) = entries {
                        children.insert(index + 1, upper);
                    }
                })
            });
            (old, upper)
        }
        (Entries::Items(_), Err(index)) => {
            let upper = node.put(index, &key, |entries| {
                if let Entries::Items(items) = entries {
                    items.insert(index, item);
                }
            });
            (None, upper)
        }
        (Entries::Children(_), Err(_)) => (None, None),
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { common: 0, begin: [0; BEGIN], hints: Vec::new(), entries: Entries::Items(Vec::new()) }
    }
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        let (hints, entries) = (self.hints.clone(), self.entries.clone());
        Self { common: self.common, begin: self.begin, hints, entries }
    }
}

impl<T> Clone for Entries<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Items(items) => Self::Items(items.clone()),
            Self::Children(children) => Self::Children(children.clone()),
        }
    }
}

impl<T> Clone for Child<T> {
    fn clone(&self) -> Self {
        Self { first: self.first.clone(), node: self.node.clone() }
    }
}
