//! What a log says of its base.

use super::Start;
use crate::key::COMPACTION_KEY;
use crate::log::{Change, Hash};
use crate::seq::Seq;
use crate::state::{BaseSeal, Compaction};

/// The record of a compaction that has ended: it names the base that was left.
#[derive(Debug)]
pub(super) struct BaseRecord(Compaction);

impl BaseRecord {
    /// The newest record of the base at a floor, after one more change. There is none while another compaction to this
    /// floor goes on, and none that could be relied on behind one that cannot be read.
    pub(super) fn newest(known: Option<Self>, change: &Change, floor: Seq) -> Option<Self> {
        if *change.key != *COMPACTION_KEY {
            return known;
        }
        match Compaction::decode(change.value.as_deref().unwrap_or_default()) {
            Ok(record) if record.floor.seq != floor => known,
            Ok(record) if record.base.is_some() => Some(Self(record)),
            _ => None,
        }
    }

    /// Whether it is about the base of a log file with this start, whose digest is given. True if the file has no base.
    pub(super) fn is_of(&self, start: &Start, digest: Hash) -> bool {
        let Self(record) = self;
        let at = start.floor_at.is_none_or(|at| record.at == at);
        let named = |count| record.base == Some(BaseSeal { count, digest });
        start.base.is_none_or(|count| record.floor == start.floor && at && named(count))
    }
}
