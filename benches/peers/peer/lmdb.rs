//! LMDB by heed: a memory-mapped B-tree; a transaction for each call.

use std::path::Path;

use heed::types::{Bytes, Str};
use heed::{Database, Env, EnvOpenOptions};

use super::Peer;

/// Address space, not memory or disk.
const MAP_BYTES: usize = 8 << 30;

pub(super) fn open(path: &Path) -> Box<dyn Peer> {
    std::fs::create_dir_all(path).unwrap();
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES).max_readers(1024);
    // SAFETY: nothing else changes the files while they are mapped.
    #[allow(unsafe_code)]
    let env = unsafe { options.open(path) }.unwrap();
    let mut transaction = env.write_txn().unwrap();
    let entries = env.create_database(&mut transaction, None).unwrap();
    transaction.commit().unwrap();
    Box::new(Lmdb { env, entries })
}

struct Lmdb {
    env: Env,
    entries: Database<Str, Bytes>,
}

impl Peer for Lmdb {
    fn fill(&self, entries: &mut dyn Iterator<Item = (String, Vec<u8>)>) {
        let mut transaction = self.env.write_txn().unwrap();
        for (key, value) in entries {
            self.entries.put(&mut transaction, &key, &value).unwrap();
        }
        transaction.commit().unwrap();
    }

    fn put(&self, key: &str, value: Vec<u8>) {
        let mut transaction = self.env.write_txn().unwrap();
        self.entries.put(&mut transaction, key, &value).unwrap();
        transaction.commit().unwrap();
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let transaction = self.env.read_txn().unwrap();
        self.entries.get(&transaction, key).unwrap().map(<[u8]>::to_vec)
    }

    fn list(&self, prefix: &str) -> Vec<String> {
        let transaction = self.env.read_txn().unwrap();
        let entries = self.entries.prefix_iter(&transaction, prefix).unwrap();
        entries.map(|entry| entry.unwrap().0.to_owned()).collect()
    }

    fn count(&self) -> usize {
        let transaction = self.env.read_txn().unwrap();
        usize::try_from(self.entries.len(&transaction).unwrap()).unwrap()
    }
}
