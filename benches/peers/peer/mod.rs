//! The peers: each as its users would use it, one handle shared by all threads.

mod fjall;
mod lmdb;
mod redb;
mod sqlite;

use std::path::{Path, PathBuf};

use crate::measure::{Random, key};

/// An embedded store.
pub(crate) trait Peer: Send + Sync {
    /// Writes all of these entries in one durable commit.
    fn fill(&self, entries: &mut dyn Iterator<Item = (String, Vec<u8>)>);

    /// Writes an entry; durable when it returns.
    fn put(&self, key: &str, value: Vec<u8>);

    /// The newest value of a key.
    fn get(&self, key: &str) -> Option<Vec<u8>>;

    /// The keys that start with a prefix.
    fn list(&self, prefix: &str) -> Vec<String>;

    /// How many entries there are.
    fn count(&self) -> usize;
}

/// A kind of peer.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// What is synced before a write is acknowledged.
    pub(crate) syncs: &'static str,
    /// Opens what lies at a path, or creates it.
    open: fn(&Path) -> Box<dyn Peer>,
}

pub(crate) const KINDS: [Kind; 4] = [
    Kind {
        name: "redb",
        syncs: "`Durability::Immediate`: one `fdatasync` of the database, its header included",
        open: self::redb::open,
    },
    Kind {
        name: "LMDB (heed)",
        syncs: "default flags: `fdatasync` of the pages, then the meta page through `O_DSYNC`",
        open: self::lmdb::open,
    },
    Kind {
        name: "fjall",
        syncs: "`PersistMode::SyncAll`: one `fsync` of the journal",
        open: self::fjall::open,
    },
    Kind {
        name: "rusqlite",
        syncs: "WAL, `synchronous = FULL`: one `fsync` of the write-ahead log; checkpoints sync both files",
        open: self::sqlite::open,
    },
];

/// A peer with entries.
pub(crate) struct Filled {
    pub(crate) kind: &'static Kind,
    pub(crate) peer: Box<dyn Peer>,
    path: PathBuf,
    keys: usize,
}

impl Filled {
    /// One of each kind, with a random value under each of the first `keys` keys.
    pub(crate) fn all(folder: &Path, keys: usize) -> Vec<Self> {
        let fill = |kind: &'static Kind| {
            let path = folder.join(kind.name);
            let peer = (kind.open)(&path);
            let mut random = Random::new(3);
            peer.fill(&mut (0..keys).map(|n| (key(n), random.value())));
            Self { kind, peer, path, keys }
        };
        KINDS.iter().map(fill).collect()
    }

    /// Writes once more, opens it anew, and checks that it has all keys, and the newest value.
    pub(crate) fn check(self) {
        let value = Random::new(17).value();
        self.peer.put(&key(0), value.clone());
        drop(self.peer);
        let peer = (self.kind.open)(&self.path);
        assert_eq!(peer.count(), self.keys, "{} has other keys", self.kind.name);
        assert_eq!(peer.get(&key(0)), Some(value), "{} has another value", self.kind.name);
    }
}
