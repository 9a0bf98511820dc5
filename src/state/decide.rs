//! Deciding a batch: its changes, or why it is refused.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Batch, Condition, Forgotten, KeyVersion, Life, Refusal, Write};
use crate::error::{FailedCondition, Rejection};
use crate::key::CONSUMERS_PREFIX;
use crate::limits::Exceeded;
use crate::log::{ChangeKind, Draft, Prev, Timestamp};
use crate::seq::Seq;

/// The state that a batch is decided on: the versions of the keys that it names, and the keys under each
/// prefix that it names.
pub(crate) trait KeyVersions {
    /// The last change of the key; `None` if it never had one, or the key is forgotten.
    fn key_version(&self, key: &str) -> Option<KeyVersion>;
    /// The keys under the prefix. Counting may stop above `limit`.
    fn below(&self, prefix: &str, limit: usize) -> KeysBelow;
    /// The keys of consumers that are not done with what lies before a floor, and where that was recorded.
    fn behind(&self, floor: Seq) -> Vec<(String, Seq)>;
    /// The deleted keys that count as never written.
    fn forgotten(&self) -> Option<&Forgotten>;
}

/// The keys under a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeysBelow {
    /// How many keys there are, deleted and reserved ones included. If this is above the limit, counting
    /// stopped there, and `newest` is unknown.
    pub(crate) count: usize,
    /// The newest change of the keys under the prefix, and its key. Reserved keys count only if the prefix
    /// names them.
    pub(crate) newest: Option<(String, Seq)>,
}

/// The result of a batch that is not refused.
#[derive(Debug)]
pub(crate) struct Decision {
    /// The changes, in the order of the writes; a deletion of an absent key leaves none.
    pub(crate) drafts: Vec<Draft>,
    /// For each write the key's version after it; 0 if the key is absent then.
    pub(crate) versions: Vec<u64>,
}

/// Decides a batch on the state before it.
///
/// IMPORTANT: the decision depends on the batch and that state alone: not on this machine, and on other
/// batches of the same storage transaction only by the state that they leave. So every machine with the
/// same log decides the same.
pub(crate) fn decide(batch: &Batch, head: Seq, key_versions: &impl KeyVersions) -> Result<Decision, Refusal> {
    let mut failed = Vec::new();
    for condition in batch.conditions() {
        failed.extend(failed_condition(condition, head, key_versions).map_err(Refusal::LimitExceeded)?);
    }
    if !failed.is_empty() {
        return Err(Refusal::Rejected(Rejection { failed }));
    }
    let mut drafts: Vec<Draft> = Vec::with_capacity(batch.len());
    let mut versions = Vec::with_capacity(batch.len());
    let mut written: HashMap<&Arc<str>, Place> = HashMap::new();
    for write in batch.writes() {
        let key = write.key();
        let place = match written.get(key) {
            Some(place) => *place,
            None => Place::recorded(key_versions.key_version(key), key_versions.forgotten()),
        };
        let (kind, value, stage) = match (write, place.stage) {
            (Write::Set { value, .. }, Stage::Absent) => (ChangeKind::Created, Some(value), Stage::New),
            (Write::Set { value, .. }, stage) => (ChangeKind::Updated, Some(value), stage),
            (Write::Delete { .. }, Stage::Absent) => {
                versions.push(0);
                continue;
            }
            (Write::Delete { .. }, _) => (ChangeKind::Deleted, None, Stage::Absent),
        };
        let created_at = match place.stage {
            Stage::Living { since } => Some(since),
            Stage::Absent | Stage::New => None,
        };
        let version = place.version + 1;
        written.insert(key, Place { version, prev: Prev::Draft(drafts.len()), stage });
        versions.push(if stage == Stage::Absent { 0 } else { version });
        drafts.push(Draft {
            kind,
            key: key.clone(),
            version,
            created_at,
            prev: place.prev,
            until: None,
            value: value.cloned(),
        });
    }
    Ok(Decision { drafts, versions })
}

/// The state of a key while its batch is decided.
#[derive(Clone, Copy)]
struct Place {
    version: u64,
    prev: Prev,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Absent,
    /// The batch itself created the key.
    New,
    Living {
        since: Timestamp,
    },
}

impl Place {
    /// IMPORTANT: a key without a change may have been forgotten. It goes on from the largest version that a forgotten
    /// key may have had, so that no version comes twice.
    fn recorded(key_version: Option<KeyVersion>, forgotten: Option<&Forgotten>) -> Self {
        let before = forgotten.map_or(0, |forgotten| forgotten.version);
        let stage = match key_version.map(|key_version| key_version.life) {
            Some(Life::Live { created_at }) => Stage::Living { since: created_at },
            Some(Life::Deleted) | None => Stage::Absent,
        };
        Self {
            version: key_version.map_or(before, |key_version| key_version.version),
            prev: Prev::Recorded(key_version.map_or(Seq::ZERO, |key_version| key_version.seq)),
            stage,
        }
    }
}

/// How a condition fails; `None` if it holds.
fn failed_condition(
    condition: &Condition,
    head: Seq,
    key_versions: &impl KeyVersions,
) -> Result<Option<FailedCondition>, Exceeded> {
    Ok(match condition {
        Condition::Version { key, version: expected } => {
            let found = key_versions.key_version(key).map_or(0, |key_version| key_version.live_version());
            (found != *expected).then(|| FailedCondition::Version {
                key: key.clone(),
                expected: *expected,
                found,
            })
        }
        Condition::UnchangedSince { prefix, seq: expected, limit } => {
            let KeysBelow { count, newest } = key_versions.below(prefix, *limit);
            // Counting may stop anywhere above the limit. The error names the first number above it, so that it is
            // the same on every backend.
            let counted = count.min(limit.saturating_add(1));
            Exceeded::check_state(counted, *limit, "keys", || format!("the prefix {prefix:?}"))?;
            let (found, key) = match newest {
                _ if *expected > head => (head, None),
                Some((key, newest)) if newest > *expected => (newest, Some(key)),
                // A deletion after the position may be forgotten.
                _ if let Some(forgotten) = key_versions.forgotten().filter(|past| *expected < past.floor) => {
                    (forgotten.floor, None)
                }
                _ => return Ok(None),
            };
            Some(FailedCondition::ChangedSince { prefix: prefix.clone(), expected: *expected, found, key })
        }
        Condition::NoneBehind { floor, seq: expected, but_for } => {
            let mut behind = key_versions.behind(*floor).into_iter();
            let found = behind.find(|(key, found)| found > expected && !but_for.contains(key));
            found.map(|(key, found)| FailedCondition::ChangedSince {
                prefix: CONSUMERS_PREFIX.to_owned(),
                expected: *expected,
                found,
                key: Some(key),
            })
        }
    })
}
