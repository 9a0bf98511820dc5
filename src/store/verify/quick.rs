//! A verification of the newest changes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::corruption::corruption;
use crate::audit::{Level, VerifyReport};
use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::log::{Change, Follow};
use crate::seq::Seq;
use crate::state::{Entry, KeyVersion};
use crate::store::read::log::{pass_withheld, resolve};

/// How many of the newest changes a quick verification checks.
const RECENT: u64 = 1_000;

/// Checks the newest changes, and the rows of their keys.
pub(super) fn quick(snapshot: &dyn Snapshot) -> Result<VerifyReport> {
    let floor = snapshot.floor()?;
    let tip = match snapshot.tip() {
        Err(StateError::Corrupted(what)) => {
            return Ok(VerifyReport::new(Level::Quick, floor.head).with(None, None, what));
        }
        tip => tip?.head,
    };
    let mut report = VerifyReport::new(Level::Quick, tip);
    let from = tip.seq.as_u64().saturating_sub(RECENT).max(floor.seq().as_u64());
    let mut last: BTreeMap<Arc<str>, Change> = BTreeMap::new();
    let recent = resolve(snapshot, Seq::new(from).into()).and_then(|from| {
        report.before = from.seq;
        let mut follow = Follow::from_floor(snapshot.store_id(), from, None);
        snapshot.changes(from.seq, &mut |change| {
            pass_withheld(snapshot, &mut follow, change.seq);
            follow.check(&change).map_err(|error| StateError::Corrupted(error.to_string()))?;
            report.changes += 1;
            report.erased += u64::from(change.is_erased());
            last.insert(change.key.clone(), change);
            Ok(ControlFlow::Continue(()))
        })?;
        pass_withheld(snapshot, &mut follow, Seq::MAX);
        if follow.head() == tip {
            Ok(())
        } else {
            Err(StateError::Corrupted("the last change of the log does not match the head of the log".into()))
        }
    });
    if let Some(what) = corruption(recent)? {
        return Ok(report.with(None, None, what));
    }
    for (key, change) in last {
        let now = snapshot.key_version(&key).and_then(|key_version| match Entry::left_by(&change) {
            Err(StateError::Erased(_)) => Ok(key_version == Some(KeyVersion::from_change(&change))),
            entry => {
                Ok(key_version == Some(KeyVersion::from_change(&change)) && snapshot.entry(&key)? == entry?)
            }
        });
        match now {
            Ok(true) => {}
            Ok(false) => {
                let what = "the projection does not equal the fold of the log";
                report = report.with(Some(change.seq), Some(&key), what);
            }
            Err(StateError::Corrupted(what)) => report = report.with(Some(change.seq), Some(&key), what),
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}
