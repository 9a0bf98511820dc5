//! The levels of a verification.

use std::ops::ControlFlow;

use super::base::seal;
use super::corruption::corruption;
use super::observer::Observer;
use super::quick::quick;
use super::request::Verify;
use super::second_look::look_again;
use super::sums::at_once;
use crate::audit::{Level, VerifyReport};
use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::log::Head;

/// Verifies a store, until `cancelled` returns true. Corruption is a finding; other errors stay errors.
#[cfg(any(test, feature = "sqlite"))]
pub(crate) fn verify(
    snapshot: &dyn Snapshot,
    verify: &Verify,
    cancelled: &dyn Fn() -> bool,
) -> Result<VerifyReport> {
    Ok(conclude(rows(snapshot, verify, cancelled)?, &flaws(snapshot, cancelled)?))
}

/// Verifies the rows of the log and the projection.
pub(super) fn rows(
    snapshot: &dyn Snapshot,
    verify: &Verify,
    cancelled: &dyn Fn() -> bool,
) -> Result<VerifyReport> {
    let observer = Observer { total: 0, progress: verify.progress.as_deref(), cancelled };
    let floor = match snapshot.floor() {
        Err(StateError::Corrupted(what)) => {
            // Without a floor nothing tells where the log begins.
            let head = Head::genesis(snapshot.store_id());
            return Ok(VerifyReport::new(verify.level, head).with(None, None, what));
        }
        floor => floor?,
    };
    let mut report = if verify.level == Level::Quick {
        quick(snapshot)?
    } else {
        // The sums of log and projection are equal only for a whole log.
        let quickly = if snapshot.is_whole() { at_once(snapshot, verify.level, &observer)? } else { None };
        match quickly {
            Some(report) => report,
            None => look_again(snapshot, verify.level, &observer)?,
        }
    };
    (report.floor, report.export) = (floor.seq(), snapshot.is_export());
    report.base = match seal(snapshot, &floor) {
        Ok(seal) => seal.told(),
        Err(StateError::Corrupted(_)) => None, // It is among the findings.
        Err(error) => return Err(error),
    };
    for anchor in &verify.anchors {
        match snapshot.hash_at(anchor.head.seq) {
            Ok(hash) => report.anchor(snapshot.store_id(), anchor, hash),
            Err(StateError::Corrupted(_)) => report.anchor(snapshot.store_id(), anchor, None),
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

/// The flaws of the file that no row shows, such as in an index or a page.
pub(super) fn flaws(snapshot: &dyn Snapshot, cancelled: &dyn Fn() -> bool) -> Result<Vec<String>> {
    let mut flaws = Vec::new();
    let read = snapshot.flaws(&mut |what| {
        flaws.push(what);
        if cancelled() { Err(StateError::Closed) } else { Ok(ControlFlow::Continue(())) }
    });
    flaws.extend(corruption(read)?);
    Ok(flaws)
}

/// The report on rows and file.
pub(super) fn conclude(report: VerifyReport, flaws: &[String]) -> VerifyReport {
    flaws.iter().fold(report, |report, what| report.with(None, None, what)).concluded()
}
