//! The batch of a restore, read from a store.

use super::history::{Restore, RestorePlan};
use super::state_store::StateStore;
use crate::error::Result;
use crate::seq::Seq;
use crate::state::Batch;

/// The batch that restores a state: reads what differs page by page.
pub(super) async fn plan<S: StateStore + ?Sized>(store: &S, restore: Restore) -> Result<Batch> {
    let mut plan = RestorePlan::new(restore);
    while let Some(diff) = plan.next_page() {
        let page = store.diff(diff).await?;
        for key in plan.take(page)? {
            let last = store.history(&key, None, 1).await?;
            plan.changed_at(&key, last.first().map_or(Seq::ZERO, |last| last.seq));
        }
    }
    plan.into_batch()
}
