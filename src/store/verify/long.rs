//! A verification of an open store, on threads of its own.

use super::levels;
use super::request::Verify;
use crate::audit::VerifyReport;
use crate::error::Result;
use crate::store::open_store::OpenStore;
use crate::store::threads::Waiter;

impl OpenStore {
    pub(crate) async fn verify(&self, verify: Verify) -> Result<VerifyReport> {
        let (shared, waiter) = (self.shared.clone(), Waiter::new());
        let awaited = waiter.awaited();
        let ends = move || shared.is_closed() || awaited.is_in_vain();
        // The file is checked beside the rows, on a thread of its own, because both take long.
        let flaws = if verify.is_full() {
            let ends = ends.clone();
            Some(self.start_alone("verification", move |snapshot| levels::flaws(snapshot, &ends))?)
        } else {
            None
        };
        let rows =
            self.start_alone("verification", move |snapshot| levels::rows(snapshot, &verify, &ends))?;
        let report = self.finish_alone(rows).await?;
        let flaws = match flaws {
            Some(flaws) => self.finish_alone(flaws).await?,
            None => Vec::new(),
        };
        drop(waiter);
        Ok(levels::conclude(report, &flaws))
    }
}
