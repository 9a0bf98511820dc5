//! Options that are refused, by their names.

use super::Options;
use crate::error::{Result, StateError};
use crate::limits::Exceeded;

/// The least cap of the write-ahead log.
const LEAST_WAL_CAP: u64 = 1 << 20;

impl Options {
    /// Refuses options that have no effect on a store in memory.
    pub(in super::super) fn check_in_memory(&self) -> Result<()> {
        let asked = [
            ("read_only", self.read_only, "it can always be written; read a file, or an Archive"),
            ("create", !self.create, "it is always created"),
            ("durability", self.durability.is_some(), "it ends with its process"),
            ("resident_bytes", self.resident_bytes.is_some(), "all of it is in memory"),
            ("wal_cap", self.wal_cap.is_some(), "it has no write-ahead log"),
            ("accept_loss", self.accept_loss, "it has no file that could have lost something"),
            ("loss_meta", !self.loss_meta.is_empty(), "it has no file that could have lost something"),
        ];
        match asked.into_iter().find(|(_, asked, _)| *asked) {
            None => Ok(()),
            Some((name, _, why)) => Err(StateError::InvalidArgument(format!(
                "option {name} cannot be kept by a store in memory, as {why}: leave it out, or open a file"
            ))),
        }
    }

    /// Refuses what the new store of an import could not be opened with, before it is made.
    pub(in super::super) fn check_import(&self) -> Result<()> {
        if !self.create {
            return Err(StateError::InvalidArgument(
                "option create is false, but an import makes a new store: leave it out".into(),
            ));
        }
        self.check_in_file()?;
        self.check_watch_bytes()?;
        self.limits.check_ranges()
    }

    /// Refuses options of a file that contradict each other.
    pub(in super::super) fn check_in_file(&self) -> Result<()> {
        if self.read_only && self.accept_loss {
            return Err(StateError::InvalidArgument(
                "option accept_loss records the loss, which option read_only forbids: open it once without read_only"
                    .into(),
            ));
        }
        if self.read_only && self.retain_every.is_some() {
            return Err(StateError::InvalidArgument(
                "option retain_every writes, which option read_only forbids: leave one of them out".into(),
            ));
        }
        let meta = self.loss_meta.encoded_len();
        Exceeded::check_limit(meta, self.limits.meta_bytes, "bytes", || "the option loss_meta".into())?;
        match self.wal_cap {
            Some(bytes) if bytes < LEAST_WAL_CAP => Err(StateError::InvalidArgument(format!(
                "option wal_cap is {bytes} bytes, but commits need {LEAST_WAL_CAP} at least: raise it, or leave it out"
            ))),
            _ => Ok(()),
        }
    }
}
