//! The verification of a store that is being opened, because its database file and its log may not belong together.

use std::sync::Arc;

use super::levels;
use super::request::Verify;
use crate::audit::{Finding, Progress};
use crate::backend::sqlite::Judge;
use crate::store::foreign::tell;

/// A judge that verifies in full, and tells `progress` how far it is, from the beginning to the end.
pub(crate) fn judge(progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>) -> Judge {
    let verify = Verify { progress, ..Verify::full() };
    Judge::new(move |snapshot| {
        let changes = snapshot.tip().map_or(0, |tip| tip.head.seq.as_u64());
        tell(verify.progress.as_deref(), 0, changes)?;
        let report = levels::verify(snapshot, &verify, &|| false)?;
        tell(verify.progress.as_deref(), changes, changes)?;
        Ok(report.findings.first().map(worded))
    })
}

fn worded(finding: &Finding) -> String {
    match (finding.seq, &finding.key) {
        (Some(seq), Some(key)) => format!("change {seq} of {key}: {}", finding.what),
        (Some(seq), None) => format!("change {seq}: {}", finding.what),
        (None, Some(key)) => format!("{key}: {}", finding.what),
        (None, None) => finding.what.clone(),
    }
}
