//! The report of a verification.

use super::proved::{BaseCheck, NotProvable, Proved, Quantity};
use crate::failpoint::failpoint;
use crate::log::{Anchor, Hash, Head, StoreId};
use crate::seq::Seq;

/// The most findings that a report lists.
const LISTED: usize = 100;

/// How much a verification checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Level {
    /// The newest 1 000 changes, the current entries of their keys, and the anchors. Takes milliseconds.
    Quick,
    /// The whole log: every header and every link of the hash chain, every value against its hash, and the
    /// anchors.
    Chain,
    /// Everything: the whole log, the projection against the log, and the structure of the file (indexes and
    /// pages).
    #[default]
    Full,
}

/// The progress of a verification or an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// How many changes were checked or read.
    pub done: u64,
    /// How many changes there are in all.
    pub total: u64,
}

/// The result of a verification: what is proved, what contradicts, and what no log can prove about itself.
///
/// Damage is not an error of the verification but a finding in the report. [`is_intact`](Self::is_intact)
/// says whether the store is sound, as far as it was checked. What is [`Proved`] and [`NotProvable`] prints
/// as text.
///
/// ```
/// use univrs_state::verify::Proved;
/// use univrs_state::{LocalStore, MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// let report = store.verify().await?;
/// assert!(report.is_intact() && report.findings.is_empty());
/// assert!(report.proved.contains(&Proved::Values(1)));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// How much was checked.
    pub level: Level,
    /// The end of the log. Keep it outside of the store as an anchor: a later verification with it finds a log
    /// that was cut off or rewritten.
    pub head: Head,
    /// How many changes had their position, value and hash checked. Withheld changes do not count.
    pub changes: u64,
    /// How many keys that exist were compared with the log.
    pub keys: u64,
    /// How many deleted keys were compared with the log.
    pub tombstones: u64,
    /// What was proved; empty if anything contradicts.
    pub proved: Vec<Proved>,
    /// What could not be proved, even if nothing contradicts.
    pub not_provable: Vec<NotProvable>,
    /// The first contradictions, in the order of the log, then of keys; at most 100.
    pub findings: Vec<Finding>,
    /// How many contradictions there are in all.
    pub contradictions: u64,
    /// How many of the contradictions are within the log, or between the log and an anchor. If there are none at
    /// [`Level::Full`], an export of the log can be imported, and so makes the projection anew.
    pub in_log: u64,
    /// How many values were erased.
    pub(crate) erased: u64,
    /// How many changes are withheld.
    pub(crate) withheld: u64,
    /// The position that the check began after.
    pub(crate) before: Seq,
    /// The position that the log begins after.
    pub(crate) floor: Seq,
    /// How the base was checked, which is what is left of the changes up to there.
    pub(crate) base: Option<BaseCheck>,
    /// Whether the log is that of an export, which may be a part of the log of its store.
    pub(crate) export: bool,
    anchors: Vec<Seq>,
    /// The positions of anchors that lie before or behind the log, where it can say nothing of them.
    outside: Vec<Seq>,
}

/// One contradiction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The position of the change; `None` if the finding is about a row of the projection without one.
    pub seq: Option<Seq>,
    /// The key, if it could be read.
    pub key: Option<String>,
    /// What contradicts what.
    pub what: String,
    /// The field of the change that was altered, if that can be determined: the only field whose repair makes
    /// the change match the hash chain.
    pub field: Option<&'static str>,
    /// Whether the next change continues the chain hash of this one. If so, only this change was altered, and
    /// the rest of the log is as it was written.
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
            in_log: 0,
            erased: 0,
            withheld: 0,
            before: Seq::ZERO,
            floor: Seq::ZERO,
            base: None,
            export: false,
            anchors: Vec::new(),
            outside: Vec::new(),
        }
    }

    /// This report with one more contradiction.
    pub(crate) fn with(mut self, seq: Option<Seq>, key: Option<&str>, what: impl Into<String>) -> Self {
        self.find(seq, key, what);
        self
    }

    /// Compares an anchor with the chain hash at its position.
    pub(crate) fn anchor(&mut self, store: StoreId, anchor: &Anchor, hash: Option<Hash>) {
        let Head { seq, hash: kept } = anchor.head;
        let before = self.contradictions;
        if anchor.store != store {
            self.find(
                Some(seq),
                None,
                format!("the anchor at {seq} is of store {}, this is {store}", anchor.store),
            );
        } else if seq < self.floor || (self.export && seq > self.head.seq) {
            self.outside.push(seq);
        } else if seq > self.head.seq {
            let missing = seq.as_u64() - self.head.seq.as_u64();
            let missing = Quantity(missing, "change");
            let are = if missing.0 == 1 { "is" } else { "are" };
            let what = format!("the log ends before the anchor at {seq}: {missing} {are} missing");
            self.find(Some(seq), None, what);
        } else if hash == Some(kept) || failpoint("anchor_unchecked") {
            self.anchors.push(seq);
        } else {
            let what = format!("the log has another hash at {seq} than the anchor that was kept");
            self.find(Some(seq), None, what);
        }
        self.in_log += self.contradictions - before;
    }

    /// Fills in what is proved and what could not be proved.
    pub(crate) fn concluded(mut self) -> Self {
        for anchors in [&mut self.anchors, &mut self.outside] {
            anchors.sort_unstable();
            anchors.dedup();
        }
        if self.is_intact() {
            let (keys, tombstones) = (self.keys, self.tombstones);
            self.proved.extend([
                Proved::Values(self.changes - self.erased),
                Proved::Links(self.changes + self.withheld),
            ]);
            if self.export {
                // Nothing is stored around an export, and its state is made of its log as it is read.
                self.proved.push(Proved::Export { after: self.floor, to: self.head.seq });
            } else if self.level == Level::Full {
                self.proved.extend([Proved::Projection { keys, tombstones }, Proved::Storage]);
            }
            if let (Some(BaseCheck::Sealed(changes)), true) = (self.base, self.level > Level::Quick) {
                self.proved.push(Proved::Base { floor: self.floor, changes });
            }
            if !self.anchors.is_empty() {
                self.proved.push(Proved::Anchors(self.anchors.clone()));
            }
        }
        let anchor = self.anchors.last().copied();
        // A damaged log may end before its floor.
        let changes = self.head.seq.as_u64().saturating_sub(anchor.unwrap_or(self.floor).as_u64());
        let open = [
            (changes > 0).then_some(NotProvable::AfterAnchor { anchor, changes }),
            (self.floor > Seq::ZERO).then_some(NotProvable::BelowFloor(self.floor)),
            (self.base == Some(BaseCheck::Open)).then_some(NotProvable::BaseOpen(self.floor)),
            (self.base == Some(BaseCheck::Unnamed)).then_some(NotProvable::BaseUnnamed(self.floor)),
            (self.erased > 0).then_some(NotProvable::Erased(self.erased)),
            (self.withheld > 0).then_some(NotProvable::Withheld(self.withheld)),
            (self.before > self.floor).then_some(NotProvable::Before(self.before)),
        ];
        self.not_provable.extend(open.into_iter().flatten());
        let (after, to) = (self.floor, self.head.seq);
        let export = self.export;
        let outside = self.outside.iter().map(|&anchor| {
            if export {
                NotProvable::OutsideExport { anchor, after, to }
            } else {
                NotProvable::AnchorBelowFloor { anchor, floor: after }
            }
        });
        self.not_provable.extend(outside);
        self
    }

    /// Whether nothing contradicts: there are no findings.
    pub fn is_intact(&self) -> bool {
        self.contradictions == 0
    }

    /// Counts a contradiction, and lists it where there is room: its place then.
    pub(super) fn find(
        &mut self,
        seq: Option<Seq>,
        key: Option<&str>,
        what: impl Into<String>,
    ) -> Option<usize> {
        self.contradictions += 1;
        let place = self.findings.len();
        (place < LISTED).then(|| {
            let (key, what) = (key.map(str::to_owned), what.into());
            self.findings.push(Finding { seq, key, what, field: None, links_hold: None });
            place
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T: std::fmt::Display>(all: impl IntoIterator<Item = T>) -> Vec<String> {
        all.into_iter().map(|one| one.to_string()).collect()
    }

    #[test]
    fn what_is_proved_prints_with_its_numbers() {
        let (after, to) = (Seq::new(3), Seq::new(9));
        let proved = [
            Proved::Values(1),
            Proved::Links(2),
            Proved::Projection { keys: 1, tombstones: 2 },
            Proved::Storage,
            Proved::Export { after, to },
            Proved::Anchors(vec![after]),
            Proved::Anchors(vec![after, to]),
        ];
        assert_eq!(
            said(proved),
            [
                "every value matches its hash: 1 change",
                "every link follows the one before it: 2 links",
                "kv_store equals the fold of the log: 1 key and 2 deleted",
                "the storage around the rows is whole",
                "the export is whole: it leads from 3 to 9, as its start and its end say",
                "in this chain: 1 anchor at 3",
                "in this chain: 2 anchors at 3 9",
            ]
        );
    }

    #[test]
    fn what_is_not_provable_prints_with_its_numbers() {
        let (anchor, after, to) = (Seq::new(1), Seq::new(3), Seq::new(9));
        let open = [
            NotProvable::AfterAnchor { anchor: Some(anchor), changes: 1 },
            NotProvable::AfterAnchor { anchor: None, changes: 2 },
            NotProvable::OutsideExport { anchor, after, to },
            NotProvable::BelowFloor(after),
            NotProvable::Erased(1),
            NotProvable::Withheld(2),
            NotProvable::Before(after),
        ];
        assert_eq!(
            said(open),
            [
                "1 change after the newest anchor (1) could have been cut off or rewritten",
                "no anchor was given: 2 changes could have been cut off or rewritten",
                "the anchor at 1: outside this export, which begins after 3 and ends with 9",
                "the log begins after 3",
                "1 value gone, of which only the hash is checked",
                "2 changes withheld, of which only the hash is checked",
                "what came up to 3 was not looked at",
            ]
        );
    }

    /// A report on a log of ten changes after position 2.
    fn report() -> VerifyReport {
        let head = Head { seq: Seq::new(12), hash: Hash::from_bytes([1; 32]) };
        VerifyReport {
            changes: 10,
            floor: Seq::new(2),
            before: Seq::new(2),
            ..VerifyReport::new(Level::Chain, head)
        }
    }

    #[test]
    fn a_value_that_is_gone_is_not_proved_and_a_withheld_change_is_a_link() {
        let report = VerifyReport { erased: 3, withheld: 2, changes: 8, ..report() }.concluded();
        assert_eq!(report.proved, [Proved::Values(5), Proved::Links(10)]);
        let open = NotProvable::AfterAnchor { anchor: None, changes: 10 };
        let floor = NotProvable::BelowFloor(Seq::new(2));
        assert_eq!(report.not_provable, [open, floor, NotProvable::Erased(3), NotProvable::Withheld(2)]);
    }

    #[test]
    fn what_came_before_the_changes_that_were_looked_at_is_not_proved() {
        let open = |report: VerifyReport| report.concluded().not_provable.last().copied();
        assert_eq!(open(report()), Some(NotProvable::BelowFloor(Seq::new(2))), "all was looked at");
        let later = VerifyReport { before: Seq::new(3), ..report() };
        assert_eq!(open(later), Some(NotProvable::Before(Seq::new(3))));
    }

    #[test]
    fn an_anchor_at_either_end_of_the_log_is_compared_and_one_behind_it_says_how_much_is_missing() {
        let store = StoreId::from_bytes([1; 16]);
        let hash = Hash::from_bytes([1; 32]);
        let with = |export, seq| {
            let mut report = VerifyReport { export, ..report() };
            let anchor = Anchor::new(store, Head { seq: Seq::new(seq), hash });
            report.anchor(store, &anchor, Some(hash));
            let (anchors, outside) = (report.anchors.len(), report.outside.len());
            (anchors, outside, report.in_log, report.findings.pop().map(|finding| finding.what))
        };
        for export in [false, true] {
            assert_eq!(with(export, 1), (0, 1, 0, None));
            assert_eq!(with(export, 2), (1, 0, 0, None));
            assert_eq!(with(export, 12), (1, 0, 0, None));
        }
        assert_eq!(with(true, 13), (0, 1, 0, None));
        let missing = |what: &str| Some(format!("the log ends before the anchor at {what} missing"));
        assert_eq!(with(false, 13), (0, 0, 1, missing("13: 1 change is")));
        assert_eq!(with(false, 14), (0, 0, 1, missing("14: 2 changes are")));

        let mut report = report().with(None, None, "in the projection");
        let behind = Anchor::new(store, Head { seq: Seq::new(13), hash });
        report.anchor(store, &behind, None);
        assert_eq!((report.contradictions, report.in_log), (2, 1), "an anchor is of the log");
    }

    #[test]
    fn a_report_lists_the_first_hundred_findings_and_counts_all() {
        let mut report = report();
        for n in 0..102 {
            let place = report.find(None, None, "what");
            assert_eq!(place, (n < 100).then_some(n));
        }
        assert_eq!((report.findings.len(), report.contradictions, report.is_intact()), (100, 102, false));
    }
}
