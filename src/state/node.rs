//! The nodes of a [`Tree`](super::tree::Tree).
//!
//! The keys of a node often share a long prefix. So that a search need not look at each key in
//! memory of its own, a node has the eight bytes after the common prefix of its keys beside them, as
//! numbers in the order of bytes (the poor man's normalized keys of Graefe and Larson, "B-tree
//! indexes and CPU caches", 2001).

use std::cmp::Ordering;
use std::sync::Arc;

/// The most items of a node.
const FULL: usize = 32;

/// Bytes of the common prefix that a node has within itself.
const BEGIN: usize = 32;

/// What is kept under a key of its own.
pub(crate) trait Keyed {
    /// The key.
    fn key(&self) -> &Arc<str>;
}

/// A node, shared between the copies of a tree that have it.
pub(super) struct Node<T> {
    /// Bytes that all keys of this node begin with.
    common: usize,
    /// Those bytes, as far as they have room here.
    begin: [u8; BEGIN],
    /// The bytes after that of each key, as a number; in order.
    hints: Vec<u64>,
    pub(super) entries: Entries<T>,
}

/// What a node holds.
pub(super) enum Entries<T> {
    Items(Vec<Arc<T>>),
    Children(Vec<Child<T>>),
}

/// A node with a key that is not after any key of it, and after all keys of the nodes before.
pub(super) struct Child<T> {
    pub(super) first: Arc<str>,
    pub(super) node: Arc<Node<T>>,
}

/// The eight bytes after the first `common` ones, zeros where there are none.
fn hint(key: &str, common: usize) -> u64 {
    let rest = key.as_bytes().get(common..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => rest.iter().enumerate().fold(0, |hint, (i, byte)| hint | u64::from(*byte) << (56 - 8 * i)),
    }
}

/// How many bytes two keys begin with alike.
fn shared(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// Splits into parts that leave room in a node for more.
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

    /// Computes what is kept beside the keys.
    fn take_hints(&mut self) {
        let ends = (self.entries.key(0), self.entries.key(self.entries.len().saturating_sub(1)));
        // The keys are in order: what the first and the last begin with, all do.
        self.common = if let (Some(first), Some(last)) = ends { shared(first, last) } else { 0 };
        if let Some(first) = self.entries.key(0) {
            let within = self.common.min(BEGIN);
            self.begin.iter_mut().zip(first.bytes().take(within)).for_each(|(to, from)| *to = from);
        }
        let keys = (0..self.entries.len()).filter_map(|index| self.entries.key(index));
        self.hints = keys.map(|key| hint(key, self.common)).collect();
    }

    /// The index of the key, or where it belongs.
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

    /// The child that has the key, if any has.
    pub(super) fn child_of(&self, key: &str) -> usize {
        match self.search(key) {
            Ok(index) => index,
            Err(index) => index.saturating_sub(1),
        }
    }

    /// Puts an entry with a new key in, and splits off the upper half if there are too many then.
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

/// Puts an item in; returns the one that it replaces, and the upper half of a node that was full.
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
