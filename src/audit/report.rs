//! What a verification says.

use std::fmt;

use crate::failpoint::failpoint;
use crate::log::{Anchor, Hash, Head, StoreId};
use crate::seq::Seq;

/// The most findings that a report lists.
const LISTED: usize = 100;

/// How much a verification looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Level {
    /// The newest changes, what their keys are now, and the anchors: milliseconds.
    Quick,
    /// The whole chain: every header and every link, and every value against its hash.
    Chain,
    /// All there is: the chain, the projection against the log, and the storage around the rows.
    #[default]
    Full,
}

/// How far a verification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Changes that were looked at.
    pub done: u64,
    /// Changes in all.
    pub total: u64,
}

/// What a verification found: what is proved, what contradicts, and what no log can prove about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// How much was looked at.
    pub level: Level,
    /// The end of the log; to be kept elsewhere, so that a cut or rewritten tail shows later.
    pub head: Head,
    /// Changes whose place, value and hash were checked; without those that are withheld.
    pub changes: u64,
    /// Keys of the projection that were compared with the log.
    pub keys: u64,
    /// Deleted keys that were compared with it.
    pub tombstones: u64,
    /// What was proved; nothing where something contradicts.
    pub proved: Vec<Proved>,
    /// What could not be proved, whatever was found.
    pub not_provable: Vec<NotProvable>,
    /// The first contradictions, in the order of the log, then of keys; at most 100.
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub contradictions: u64,
    /// Values that are gone.
    pub(crate) erased: u64,
    /// Changes that are withheld.
    pub(crate) withheld: u64,
    /// Where what was looked at begins.
    pub(crate) before: Seq,
    /// Where the log begins.
    pub(crate) floor: Seq,
    anchors: Vec<Seq>,
}

/// Something that a verification proved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proved {
    /// Every value matches its hash, in so many changes.
    Values(u64),
    /// Every change follows the one before it, in so many changes.
    Links(u64),
    /// The projection equals the fold of the log.
    Projection {
        /// Keys that exist.
        keys: u64,
        /// Keys that were deleted.
        tombstones: u64,
    },
    /// The storage around the rows is whole.
    Storage,
    /// These anchors are in this chain.
    Anchors(Vec<Seq>),
}

/// Something that could not be proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotProvable {
    /// So many changes after the newest anchor could have been cut off or rewritten.
    AfterAnchor {
        /// The newest anchor; none if there is none.
        anchor: Option<Seq>,
        /// Changes after it.
        changes: u64,
    },
    /// What came up to this position, where the log begins.
    BelowFloor(Seq),
    /// So many values are gone.
    Erased(u64),
    /// So many changes are withheld.
    Withheld(u64),
    /// Changes up to this one were not looked at.
    Before(Seq),
}

/// One contradiction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The position of the change; none where it is a row of the projection without one.
    pub seq: Option<Seq>,
    /// The key, if it is known.
    pub key: Option<String>,
    /// What contradicts what.
    pub what: String,
    /// The field that is not what it was, where that can be told: the one whose repair makes
    /// everything fit.
    pub field: Option<&'static str>,
    /// Whether the change after it follows the hash that stands here: then the rest of the log is
    /// the one that was written, and only this change was altered.
    pub links_hold: Option<bool>,
}

impl VerifyReport {
    pub(crate) fn new(level: Level, head: Head) -> Self {
        Self {
            level,
            head,
            changes: 0,
            keys: 0,
            tombstones: 0,
            proved: Vec::new(),
            not_provable: Vec::new(),
            findings: Vec::new(),
            contradictions: 0,
            erased: 0,
            withheld: 0,
            before: Seq::ZERO,
            floor: Seq::ZERO,
            anchors: Vec::new(),
        }
    }

    /// With one more contradiction.
    pub(crate) fn with(mut self, seq: Option<Seq>, key: Option<&str>, what: impl Into<String>) -> Self {
        self.find(seq, key, what);
        self
    }

    /// Compares an anchor with the hash that the log has there.
    pub(crate) fn anchor(&mut self, store: StoreId, anchor: &Anchor, hash: Option<Hash>) {
        let Head { seq, hash: kept } = anchor.head;
        if anchor.store != store {
            self.find(
                Some(seq),
                None,
                format!("the anchor at {seq} is of store {}, this is {store}", anchor.store),
            );
        } else if seq > self.head.seq {
            let missing = seq.as_u64() - self.head.seq.as_u64();
            let missing = Quantity(missing, "change");
            let are = if missing.0 == 1 { "is" } else { "are" };
            let what = format!("the log ends before the anchor at {seq}: {missing} {are} missing");
            self.find(Some(seq), None, what);
        } else if seq >= self.floor {
            if hash == Some(kept) || failpoint("anchor_unchecked") {
                self.anchors.push(seq);
            } else {
                let what = format!("the log has another hash at {seq} than the anchor that was kept");
                self.find(Some(seq), None, what);
            }
        }
    }

    /// Sums up what is proved and what is not.
    pub(crate) fn concluded(mut self) -> Self {
        self.anchors.sort_unstable();
        self.anchors.dedup();
        if self.is_intact() {
            let (keys, tombstones) = (self.keys, self.tombstones);
            self.proved.extend([
                Proved::Values(self.changes - self.erased),
                Proved::Links(self.changes + self.withheld),
            ]);
            if self.level == Level::Full {
                self.proved.extend([Proved::Projection { keys, tombstones }, Proved::Storage]);
            }
            if !self.anchors.is_empty() {
                self.proved.push(Proved::Anchors(self.anchors.clone()));
            }
        }
        let anchor = self.anchors.last().copied();
        let changes = self.head.seq.as_u64() - anchor.unwrap_or(Seq::ZERO).as_u64();
        let open = [
            (changes > 0).then_some(NotProvable::AfterAnchor { anchor, changes }),
            (self.floor > Seq::ZERO).then_some(NotProvable::BelowFloor(self.floor)),
            (self.erased > 0).then_some(NotProvable::Erased(self.erased)),
            (self.withheld > 0).then_some(NotProvable::Withheld(self.withheld)),
            (self.before > self.floor).then_some(NotProvable::Before(self.before)),
        ];
        self.not_provable.extend(open.into_iter().flatten());
        self
    }

    /// Whether nothing contradicts.
    pub fn is_intact(&self) -> bool {
        self.contradictions == 0
    }

    pub(super) fn find(&mut self, seq: Option<Seq>, key: Option<&str>, what: impl Into<String>) {
        self.contradictions += 1;
        if self.findings.len() < LISTED {
            let (key, what) = (key.map(str::to_owned), what.into());
            self.findings.push(Finding { seq, key, what, field: None, links_hold: None });
        }
    }
}

/// A number of things, in words.
struct Quantity(u64, &'static str);

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, thing) = self;
        write!(f, "{count} {thing}{}", if *count == 1 { "" } else { "s" })
    }
}

impl fmt::Display for Proved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values(count) => write!(f, "every value matches its hash: {}", Quantity(*count, "change")),
            Self::Links(count) => {
                write!(f, "every link follows the one before it: {}", Quantity(*count, "link"))
            }
            Self::Projection { keys, tombstones } => {
                write!(
                    f,
                    "kv_store equals the fold of the log: {} and {tombstones} deleted",
                    Quantity(*keys, "key")
                )
            }
            Self::Storage => f.write_str("the storage around the rows is whole"),
            Self::Anchors(anchors) => {
                write!(f, "in this chain: {} at", Quantity(anchors.len() as u64, "anchor"))?;
                anchors.iter().try_for_each(|anchor| write!(f, " {anchor}"))
            }
        }
    }
}

impl fmt::Display for NotProvable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AfterAnchor { anchor: Some(anchor), changes } => {
                let changes = Quantity(*changes, "change");
                write!(f, "{changes} after the newest anchor ({anchor}) could have been cut off or rewritten")
            }
            Self::AfterAnchor { anchor: None, changes } => {
                let changes = Quantity(*changes, "change");
                write!(f, "no anchor was given: {changes} could have been cut off or rewritten")
            }
            Self::BelowFloor(floor) => write!(f, "the log begins after {floor}"),
            Self::Erased(count) => {
                write!(f, "{} gone, of which only the hash is checked", Quantity(*count, "value"))
            }
            Self::Withheld(count) => {
                write!(f, "{} withheld, of which only the hash is checked", Quantity(*count, "change"))
            }
            Self::Before(seq) => write!(f, "what came up to {seq} was not looked at"),
        }
    }
}
