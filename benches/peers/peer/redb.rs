//! redb: a copy-on-write B-tree; a transaction for each call.

use std::path::Path;

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};

use super::Peer;
use crate::measure::reads::end;

const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");

pub(super) fn open(path: &Path) -> Box<dyn Peer> {
    Box::new(Redb(Database::create(path).unwrap()))
}

struct Redb(Database);

impl Redb {
    fn write(&self) -> WriteTransaction {
        let mut transaction = self.0.begin_write().unwrap();
        transaction.set_durability(Durability::Immediate).unwrap();
        transaction
    }

    fn read(&self) -> ReadTransaction {
        self.0.begin_read().unwrap()
    }
}

impl Peer for Redb {
    fn fill(&self, entries: &mut dyn Iterator<Item = (String, Vec<u8>)>) {
        let transaction = self.write();
        {
            let mut table = transaction.open_table(ENTRIES).unwrap();
            for (key, value) in entries {
                table.insert(&key[..], &value[..]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    fn put(&self, key: &str, value: Vec<u8>) {
        let transaction = self.write();
        transaction.open_table(ENTRIES).unwrap().insert(key, &value[..]).unwrap();
        transaction.commit().unwrap();
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let table = self.read().open_table(ENTRIES).unwrap();
        table.get(key).unwrap().map(|value| value.value().to_vec())
    }

    fn list(&self, prefix: &str) -> Vec<String> {
        let table = self.read().open_table(ENTRIES).unwrap();
        let entries = table.range(prefix..&end(prefix)[..]).unwrap();
        entries.map(|entry| entry.unwrap().0.value().to_owned()).collect()
    }

    fn count(&self) -> usize {
        let table = self.read().open_table(ENTRIES).unwrap();
        usize::try_from(table.len().unwrap()).unwrap()
    }
}
