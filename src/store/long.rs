//! Reads that take long, on threads of their own.

use tokio::sync::oneshot;

use super::core::{Core, answered};
use super::{StateStore, Verify, verify};
use crate::audit::VerifyReport;
use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::log::Anchor;

impl Core {
    pub(super) async fn verify(&self, verify: Verify) -> Result<VerifyReport> {
        let (shared, beside) = (self.shared.clone(), self.shared.clone());
        // At the same time, as each takes long.
        let flaws = if verify.is_full() {
            Some(self.start_alone(move |snapshot| verify::flaws(snapshot, &|| beside.is_closed()))?)
        } else {
            None
        };
        let rows =
            self.start_alone(move |snapshot| verify::rows(snapshot, &verify, &|| shared.is_closed()))?;
        let report = self.finish_alone(rows).await?;
        let flaws = match flaws {
            Some(flaws) => self.finish_alone(flaws).await?,
            None => Vec::new(),
        };
        Ok(verify::conclude(report, &flaws))
    }

    pub(super) async fn anchor(&self) -> Result<Anchor> {
        Ok(Anchor::new(self.shared.store, self.head().await?))
    }

    /// A read that takes long.
    pub(super) async fn read_alone<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let started = self.start_alone(read)?;
        self.finish_alone(started).await
    }

    fn start_alone<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        self.shared.check_open()?;
        let (read, receiver) = answered(read);
        self.engine.read_alone(read);
        Ok(receiver)
    }

    async fn finish_alone<T>(&self, started: oneshot::Receiver<Result<T>>) -> Result<T> {
        match started.await {
            // Closing interrupts what runs, which is a storage error then.
            Err(_) | Ok(Err(_)) if self.shared.is_closed() => Err(StateError::Closed),
            result => result.unwrap_or(Err(StateError::Closed)),
        }
    }
}
