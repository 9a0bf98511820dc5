//! Sealing: drafts get positions, a time, salts and chain hashes.

use std::sync::Arc;

use super::reserved::accepts_clock;
use super::{Change, Draft, Meta, Prev, SALT_BYTES, Timestamp, Tip, hash};
use crate::seq::Seq;

/// Seals the drafts of one commit: gives them the positions after the tip, a commit time, salts and chain
/// hashes. The time is `clock`, or a microsecond after the tip if the clock is behind it and the commit does not
/// accept the clock. Returns the changes and the new tip.
///
/// `salt` is called once for each value, in order.
pub(crate) fn seal(
    drafts: Vec<Draft>,
    meta: Option<&Arc<Meta>>,
    tip: Tip,
    clock: Timestamp,
    mut salt: impl FnMut() -> [u8; SALT_BYTES],
) -> (Vec<Change>, Tip) {
    let has_cause = |cause: &str| meta.is_some_and(|meta| meta.has_cause(cause));
    let accepts = drafts
        .first()
        .is_some_and(|draft| accepts_clock(&draft.key, drafts.len() == 1, draft.kind, has_cause));
    let at = if accepts { clock.within_years() } else { clock.after(tip.at) };
    let before = tip.head.seq.as_u64();
    let commit_seq = Seq::new(before + drafts.len() as u64);
    let mut head = tip.head;
    let encoded = meta.map(|meta| meta.encode());
    let mut changes = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let salt = draft.value.is_some().then(&mut salt);
        let mut change = Change {
            seq: head.seq.next(),
            commit_seq,
            at,
            kind: draft.kind,
            version: draft.version,
            created_at: draft.created_at.unwrap_or(at),
            prev: match draft.prev {
                Prev::Recorded(seq) => seq,
                Prev::Draft(index) => Seq::new(before + 1 + index as u64),
            },
            until: draft.until,
            value_hash: draft.value.as_deref().zip(salt).map(|(value, salt)| hash::value(&salt, value)),
            key: draft.key,
            value: draft.value,
            salt,
            meta: meta.cloned(),
            hash: head.hash,
        };
        let header = hash::header(&change.view(encoded.as_deref()).header());
        change.hash = hash::link(head.hash, header);
        head = change.head();
        changes.push(change);
    }
    (changes, Tip { head, at })
}
