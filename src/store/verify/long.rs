//! A verification of an open store, on threads of its own.

use super::levels;
use super::request::Verify;
use crate::audit::VerifyReport;
use crate::error::Result;
use crate::store::open_store::OpenStore;

impl OpenStore {
    pub(crate) async fn verify(&self, verify: Verify) -> Result<VerifyReport> {
        let (shared, beside) = (self.shared.clone(), self.shared.clone());
        // The file is checked beside the rows, on a thread of its own, because both take long.
        let flaws = if verify.is_full() {
            Some(self.start_alone("verification", move |snapshot| {
                levels::flaws(snapshot, &|| beside.is_closed())
            })?)
        } else {
            None
        };
        let rows = self.start_alone("verification", move |snapshot| {
            levels::rows(snapshot, &verify, &|| shared.is_closed())
        })?;
        let report = self.finish_alone(rows).await?;
        let flaws = match flaws {
            Some(flaws) => self.finish_alone(flaws).await?,
            None => Vec::new(),
        };
        Ok(levels::conclude(report, &flaws))
    }
}
