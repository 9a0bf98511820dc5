//! The operations of a store that this process has open.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::state_store::StateStore;
use super::stats::Stats;
use super::transfer::{Export, Exported};
use super::verify::Verify;
use crate::audit::VerifyReport;
use crate::error::{Result, StateError};
use crate::log::{Anchor, StoreId};

/// The operations of a store that this process has open, beside those of [`StateStore`]: verify, export,
/// statistics, and close.
///
/// [`SqliteStore`](crate::SqliteStore), [`MemoryStore`](crate::MemoryStore) and
/// [`Archive`](crate::archive::Archive) implement it, and so do `Arc`, `Box`, references and
/// [`WithMeta`](crate::WithMeta) of them. The trait is object safe; on a bare `&dyn LocalStore` call
/// `export` and `export_to` through one more reference. Nothing outside of this crate can implement it.
///
/// ```
/// use univrs_state::{LocalStore, MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// assert!(store.verify().await?.is_intact());
/// store.close().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// Every method that returns a result returns [`StateError::Closed`](crate::StateError::Closed) after the
/// store was closed, and [`StateError::Storage`](crate::StateError::Storage) when the storage fails. What
/// else a method returns, it says.
#[async_trait]
pub trait LocalStore: StateStore + sealed::Opened {
    /// The store's identity, which is drawn when it is created.
    fn store_id(&self) -> StoreId {
        self.opened().0.shared.store
    }

    /// Counts since the store was opened, the write-ahead log, what is in memory, and how far each watch
    /// lags.
    ///
    /// # Errors
    /// See the trait.
    async fn stats(&self) -> Result<Stats> {
        self.opened().0.stats().await
    }

    /// Checks the whole log against its hashes, every row against its checksum, and the
    /// projection against the log. Reads one state throughout: the write-ahead log of a store on disk is
    /// not started over while it runs.
    ///
    /// # Errors
    /// See the trait. Contradictions are no errors: they are in the report.
    async fn verify(&self) -> Result<VerifyReport> {
        self.opened().0.verify(Verify::full()).await
    }

    /// Verifies as the request says: at a level, against anchors, with a progress function.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify); [`StateError::Panicked`](crate::StateError::Panicked) if the
    /// progress function panics.
    async fn verify_with(&self, verify: Verify) -> Result<VerifyReport> {
        self.opened().0.verify(verify).await
    }

    /// The head of the log with the id of the store, as one line to be kept in another place.
    ///
    /// # Errors
    /// See the trait.
    async fn anchor(&self) -> Result<Anchor> {
        self.opened().0.anchor().await
    }

    /// Writes the log to a writer, checked on the way. Reads one state throughout.
    ///
    /// # Errors
    /// Those of [`StateStore::at`] for its points; the error of the writer;
    /// [`StateError::Corrupted`](crate::StateError::Corrupted) if the log contradicts itself. What was written
    /// until then lacks the end line, so every reader refuses it.
    async fn export<W>(&self, export: Export, write: W) -> Result<Exported>
    where
        Self: Sized,
        W: Write + Send + 'static,
    {
        self.opened().0.export(export, write).await
    }

    /// Writes the log to a file, which must not exist yet. The file is made for its owner alone, and is
    /// there only when it is complete and on disk.
    ///
    /// # Errors
    /// Those of [`export`](Self::export); [`StateError::CannotOpen`](crate::StateError::CannotOpen) if
    /// something is there, or nothing can be made there.
    async fn export_to<P>(&self, export: Export, path: P) -> Result<Exported>
    where
        Self: Sized,
        P: AsRef<Path> + Send,
    {
        StateError::check_names_file(path.as_ref(), "an export")?;
        self.opened().0.export_to(export, path.as_ref()).await
    }

    /// Closes the store for all its handles: what was ordered is recorded, the write-ahead log is
    /// moved into the database, watches end, and later calls return
    /// [`StateError::Closed`](crate::StateError::Closed). Reads that run are interrupted and return it, too.
    /// Closing a closed store does nothing. Other processes that have the file open are in nobody's way: what
    /// cannot be moved because of them stays in the log.
    ///
    /// Other openings of the same file in this process go on: this closes the handles and watches of its own
    /// opening, and the last opening that is closed moves the write-ahead log.
    ///
    /// # Errors
    /// The store is closed, and everything acknowledged is recorded, whatever this returns.
    /// [`StateError::Storage`](crate::StateError::Storage) if the write-ahead log could not be moved;
    /// [`StateError::Busy`](crate::StateError::Busy) if code of the program that a read runs, such as the writer
    /// of an export, has not returned after 30 seconds: it keeps the files open until it does.
    async fn close(&self) -> Result<()> {
        self.opened().0.close().await
    }
}

impl<S: LocalStore + ?Sized> LocalStore for Arc<S> {}
impl<S: LocalStore + ?Sized> LocalStore for Box<S> {}
impl<S: LocalStore + ?Sized> LocalStore for &S {}

/// Keeps the trait to the stores of this crate: only they have what its methods ask.
pub(crate) mod sealed {
    use std::sync::Arc;

    use crate::store::open_store::OpenStore;

    /// The open store behind a handle.
    #[expect(missing_debug_implementations, reason = "nobody outside of this crate can have one")]
    pub struct Handle<'a>(pub(crate) &'a Arc<OpenStore>);

    /// What has an open store.
    pub trait Opened {
        /// The open store.
        fn opened(&self) -> Handle<'_>;
    }

    impl<S: Opened + ?Sized> Opened for Arc<S> {
        fn opened(&self) -> Handle<'_> {
            (**self).opened()
        }
    }

    impl<S: Opened + ?Sized> Opened for Box<S> {
        fn opened(&self) -> Handle<'_> {
            (**self).opened()
        }
    }

    impl<S: Opened + ?Sized> Opened for &S {
        fn opened(&self) -> Handle<'_> {
            (**self).opened()
        }
    }
}
