//! fjall: a log-structured merge tree.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::Peer;

pub(super) fn open(path: &Path) -> Box<dyn Peer> {
    let database = Database::builder(path).open().unwrap();
    let entries = database.keyspace("entries", KeyspaceCreateOptions::default).unwrap();
    Box::new(Fjall { database, entries })
}

struct Fjall {
    database: Database,
    entries: Keyspace,
}

impl Peer for Fjall {
    fn fill(&self, entries: &mut dyn Iterator<Item = (String, Vec<u8>)>) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (key, value) in entries {
            batch.insert(&self.entries, key, value);
        }
        batch.commit().unwrap();
    }

    fn put(&self, key: &str, value: Vec<u8>) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.entries, key, value);
        batch.commit().unwrap();
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.entries.get(key).unwrap().map(|value| value.to_vec())
    }

    fn list(&self, prefix: &str) -> Vec<String> {
        let text = |key: &[u8]| std::str::from_utf8(key).unwrap().to_owned();
        self.entries.prefix(prefix).map(|entry| text(&entry.key().unwrap())).collect()
    }

    fn count(&self) -> usize {
        self.entries.len().unwrap()
    }
}
