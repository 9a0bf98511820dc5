//! Which changes were superseded at a position.

use std::ops::ControlFlow;

use crate::backend::LogView;
use crate::error::Result;
use crate::seq::Seq;
use crate::state::Superseded;

/// How many positions are read at once. They are told backwards, and read forwards.
const POSITIONS: u64 = 1 << 16;

/// Which changes were superseded at a position, but for so many versions of each key.
pub(crate) fn superseded(log: &dyn LogView, at: Seq, keep: u64) -> Result<Superseded> {
    let mut superseded = Superseded::but_for(keep);
    let (mut end, mut links) = (at, Vec::new());
    while end > Seq::ZERO {
        let start = Seq::new(end.as_u64().saturating_sub(POSITIONS));
        log.replaced(start, end, &mut |link| {
            links.push(link);
            Ok(ControlFlow::Continue(()))
        })?;
        for (seq, before) in links.drain(..).rev() {
            superseded.take(seq, before);
        }
        end = start;
    }
    Ok(superseded)
}
