//! What a verification proved, and what no log can prove about itself.

use std::fmt;

use crate::seq::Seq;

/// How far the base of a log can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BaseCheck {
    /// The log names the digest of so many changes.
    Sealed(u64),
    /// The compaction goes on, and has not named a digest yet.
    Open,
    /// No change of the log names a digest.
    Unnamed,
}

/// Something that a verification proved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proved {
    /// Every value matches its hash, in this many changes.
    Values(u64),
    /// Every change continues the hash chain of the change before it, in this many changes.
    Links(u64),
    /// The projection equals the fold of the log.
    Projection {
        /// How many keys exist.
        keys: u64,
        /// How many keys are deleted.
        tombstones: u64,
    },
    /// The structure of the file, such as indexes and pages, is sound.
    Storage,
    /// The export is whole: its changes lead from the position that it begins after to the head that it names.
    Export {
        /// The position that it begins after.
        after: Seq,
        /// The position that it ends with.
        to: Seq,
    },
    /// What is left of the changes up to the position that the log begins after is what the compaction left: so many
    /// changes have the digest that the log names.
    Base {
        /// The position that the log begins after.
        floor: Seq,
        /// How many changes are left up to there.
        changes: u64,
    },
    /// The log leads to the anchors at these positions.
    Anchors(Vec<Seq>),
}

/// Something that could not be proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotProvable {
    /// Changes after the newest anchor could have been cut off or rewritten.
    AfterAnchor {
        /// The position of the newest anchor; `None` if no anchor was given.
        anchor: Option<Seq>,
        /// How many changes the log has after it.
        changes: u64,
    },
    /// An anchor before or behind an export, which has no changes there.
    OutsideExport {
        /// The position of the anchor.
        anchor: Seq,
        /// The position that the export begins after.
        after: Seq,
        /// The position that the export ends with.
        to: Seq,
    },
    /// The changes up to this position, after which the log begins.
    BelowFloor(Seq),
    /// Whether what is left of the changes up to this position, after which the log begins, is all that was left: the
    /// compaction goes on, so the log does not name a digest yet.
    BaseOpen(Seq),
    /// Whether what is left of the changes up to this position, after which the log begins, is all that was left: the log
    /// was imported from an export that names no digest.
    BaseUnnamed(Seq),
    /// An anchor before the position that the log begins after.
    AnchorBelowFloor {
        /// The position of the anchor.
        anchor: Seq,
        /// The position that the log begins after.
        floor: Seq,
    },
    /// This many values were erased, so that only their hashes were checked.
    Erased(u64),
    /// This many changes are withheld, so that only their hashes were checked.
    Withheld(u64),
    /// The changes up to this position, which were not checked.
    Before(Seq),
}

/// A number of things, which prints in words.
pub(super) struct Quantity(pub(super) u64, pub(super) &'static str);

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
            Self::Export { after, to } => {
                write!(f, "the export is whole: it leads from {after} to {to}, as its start and its end say")
            }
            Self::Base { floor, changes } => {
                let changes = Quantity(*changes, "change");
                write!(f, "what is left up to {floor} is what the compaction left: {changes}")
            }
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
            Self::OutsideExport { anchor, after, to } => {
                write!(
                    f,
                    "the anchor at {anchor}: outside this export, which begins after {after} and ends with {to}"
                )
            }
            Self::BelowFloor(floor) => write!(f, "the log begins after {floor}"),
            Self::BaseOpen(floor) => {
                write!(f, "the base is not sealed: the compaction to {floor} goes on")
            }
            Self::BaseUnnamed(floor) => {
                write!(
                    f,
                    "whether anything is missing up to {floor}: no change names the digest of what is left there"
                )
            }
            Self::AnchorBelowFloor { anchor, floor } => {
                write!(f, "the anchor at {anchor}: the log begins after {floor}")
            }
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
