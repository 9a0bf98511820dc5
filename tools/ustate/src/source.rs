//! What commands read: a live store, or an export of a log.

use std::ops::Deref;
use std::path::Path;

use univrs_state::archive::{Archive, Export, Exported};
use univrs_state::log::{Change, StoreId};
use univrs_state::verify::{Verify, VerifyReport};
use univrs_state::{Result, Seq, SqliteStore, StateError, StateStore};

/// An open store for reading. What it has in common with every store it is by [`Deref`].
pub(crate) enum Source {
    /// The database of a store, which others may write meanwhile.
    Live(SqliteStore),
    /// An exported log, which was checked as it was opened.
    Export(Archive),
}

/// Whether this is the file of an export; a path that leads nowhere is none.
pub(crate) fn is_export(path: &Path) -> Result<bool> {
    if path.is_file() { Archive::is_one(path) } else { Ok(false) }
}

impl Source {
    pub(crate) fn store_id(&self) -> StoreId {
        match self {
            Self::Live(store) => store.store_id(),
            Self::Export(archive) => archive.store_id(),
        }
    }

    /// Where the log begins; what came up to here is not in it.
    pub(crate) fn floor(&self) -> Seq {
        match self {
            Self::Live(_) => Seq::ZERO,
            Self::Export(archive) => archive.floor().seq,
        }
    }

    /// How many changes are in the chain, but not shown.
    pub(crate) fn withheld(&self) -> u64 {
        match self {
            Self::Live(_) => 0,
            Self::Export(archive) => archive.withheld(),
        }
    }

    /// Changes of a key before a place, newest first; one where the log does not have all that were
    /// asked for. Also whether it has none of them, though there were some.
    pub(crate) async fn changes_of(
        &self,
        key: &str,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<(Vec<Change>, bool)> {
        let gone = |error: &StateError| matches!(error, StateError::Compacted { .. } | StateError::Erased(_));
        let mut page = self.history(key, before, limit).await;
        if page.as_ref().is_err_and(gone) {
            page = self.history(key, before, 1).await;
        }
        match page {
            Err(error) if before.is_some() && gone(&error) => Ok((Vec::new(), true)),
            page => Ok((page?, false)),
        }
    }

    pub(crate) fn is_export(&self) -> bool {
        matches!(self, Self::Export(_))
    }

    pub(crate) async fn export(
        &self,
        export: Export,
        write: impl std::io::Write + Send + 'static,
    ) -> Result<Exported> {
        match self {
            Self::Live(store) => store.export(export, write).await,
            Self::Export(archive) => archive.export(export, write).await,
        }
    }

    pub(crate) async fn export_to(&self, export: Export, path: &Path) -> Result<Exported> {
        match self {
            Self::Live(store) => store.export_to(export, path).await,
            Self::Export(archive) => archive.export_to(export, path).await,
        }
    }

    /// Gives up what it is doing.
    pub(crate) async fn close(&self) -> Result<()> {
        match self {
            Self::Live(store) => store.close().await,
            Self::Export(archive) => archive.close().await,
        }
    }

    pub(crate) async fn verify(&self, verify: Verify) -> Result<VerifyReport> {
        match self {
            Self::Live(store) => store.verify_with(verify).await,
            Self::Export(archive) => archive.verify_with(verify).await,
        }
    }
}

impl Deref for Source {
    type Target = dyn StateStore;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Live(store) => store,
            Self::Export(archive) => archive,
        }
    }
}
