//! Which openings of one file share one store.

use std::sync::Arc;

use super::Options;

impl Options {
    /// Whether an opening with these options may share a store that was opened with `others`: what is of the whole
    /// store must be equal, or not be set here. Limits are of the handle, and so is `read_only` beside a store that
    /// can be written; durability and store id are those of the file. A loss is accepted by an opening of its own.
    pub(in super::super) fn may_share(&self, others: &Self) -> bool {
        // A new option must be named here, so that it is decided whether it is of the whole store.
        let Self {
            limits: _,
            retain_every: _,
            store_id: _,
            durability: _,
            create: _,
            opening_progress: _,
            loss_meta: _,
            clock,
            entropy,
            read_only,
            busy_timeout,
            wal_cap,
            resident_bytes,
            watch_bytes,
            accept_loss,
            unshared,
        } = self;
        let same_clock = clock.as_ref().is_none_or(|clock| Arc::ptr_eq(clock, &others.clock_or_systems()));
        let same_entropy =
            entropy.as_ref().is_none_or(|entropy| Arc::ptr_eq(entropy, &others.entropy_or_systems()));
        let same_timeout = busy_timeout.is_none_or(|timeout| timeout == others.timeout());
        let same_cap = wal_cap.is_none_or(|bytes| bytes == others.cap());
        let same_budget = resident_bytes.is_none_or(|bytes| bytes == others.budget());
        let same_watches = watch_bytes.is_none_or(|bytes| bytes == others.of_watches());
        let can_write = *read_only || !others.read_only;
        let same_sizes = same_cap && same_budget && same_watches;
        same_clock && same_entropy && same_timeout && same_sizes && can_write && !accept_loss && !unshared
    }

    /// Whether an opening with these options never shares a store.
    pub(in super::super) fn is_unshared(&self) -> bool {
        self.unshared
    }
}
