//! A head file that is a few bytes in memory: written as a store does, read as its opener does.

use std::io;
use std::sync::{Arc, Mutex};

use super::super::head_file::{HeadFile, HeadStorage};
use super::super::slot::Pair;
use crate::backend::sqlite::Sqlite;
use crate::error::Result;
use crate::log::{Head, StoreId};

#[derive(Debug)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl HeadStorage for Kept {
    fn read(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let bytes = self.0.lock().unwrap();
        Ok(bytes[..limit.min(bytes.len())].to_vec())
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        super::disk::write(&mut self.0.lock().unwrap(), offset, bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A head file to which these heads were written in turn, with this pair.
pub(crate) fn head_file(store: StoreId, heads: &[Head], pair: Option<Pair>) -> Vec<u8> {
    let file = Arc::new(Mutex::new(Vec::new()));
    let mut head_file = HeadFile::new(Box::new(Kept(file.clone())), store);
    for head in heads {
        head_file.record(Some(*head), |_| pair).unwrap();
    }
    file.lock().unwrap().clone()
}

/// What an opener that finds this head file says the log has lost.
pub(crate) fn loss(sqlite: &Sqlite, file: &[u8]) -> Result<Option<String>> {
    let file = Kept(Arc::new(Mutex::new(file.to_vec())));
    let recorded = HeadFile::new(Box::new(file), sqlite.id()).recorded()?;
    Ok(sqlite.loss(recorded)?.map(|loss| loss.to_string()))
}
