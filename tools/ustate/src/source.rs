//! What commands read: a live store, or an export of a log.

use std::ops::Deref;
use std::path::Path;

use univrs_state::archive::Archive;
use univrs_state::log::Change;
use univrs_state::{LocalStore, Result, Seq, SqliteStore, StateError};

/// An open store for reading. What it has in common with every store it is by [`Deref`].
pub(crate) enum Source {
    /// The database of a store, which others may write meanwhile, and where its log began when it was opened.
    Live(SqliteStore, Seq),
    /// An exported log, which was checked as it was opened.
    Export(Archive),
}

/// Whether this is the file of an export; a path that leads nowhere is none.
pub(crate) fn is_export(path: &Path) -> Result<bool> {
    if path.is_file() { Archive::is_one(path) } else { Ok(false) }
}

impl Source {
    pub(crate) async fn live(store: SqliteStore) -> Result<Self> {
        let floor = LocalStore::floor(&store).await?.seq;
        Ok(Self::Live(store, floor))
    }

    /// Where the log begins; what came up to here is not in it.
    pub(crate) fn floor(&self) -> Seq {
        match self {
            Self::Live(_, floor) => *floor,
            Self::Export(archive) => archive.floor().seq,
        }
    }

    /// Whether it has every change from the beginning on.
    pub(crate) fn is_whole(&self) -> bool {
        self.floor() == Seq::ZERO && self.withheld() == 0
    }

    /// How many changes are in the chain, but not shown.
    pub(crate) fn withheld(&self) -> u64 {
        match self {
            Self::Live(..) => 0,
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

    /// The store, for what asks for a handle and not for an object.
    pub(crate) fn local(&self) -> &dyn LocalStore {
        &**self
    }

    pub(crate) fn is_export(&self) -> bool {
        matches!(self, Self::Export(_))
    }
}

impl Deref for Source {
    type Target = dyn LocalStore;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Live(store, _) => store,
            Self::Export(archive) => archive,
        }
    }
}
