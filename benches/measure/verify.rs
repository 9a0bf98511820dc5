//! Verification of a whole store.

use tokio::runtime::Runtime;
use univrs_state::{LocalStore, SqliteStore, StateStore};

use super::{Pace, pace};

/// Verifies a log of so many changes.
pub(crate) fn verify(runtime: &Runtime, store: &SqliteStore, changes: usize) -> Pace {
    let head = runtime.block_on(store.head()).unwrap();
    pace(|| {
        let report = runtime.block_on(store.verify()).unwrap();
        assert!(report.is_intact() && report.head == head, "{report:?}");
        assert_eq!(report.changes, changes as u64);
        changes
    })
}
