//! Checking a whole store with a table of all keys, so that each contradiction is found.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Broken, Earlier, Level, VerifyReport, contradicts};
use crate::log::{Change, ChangeKind, Follow, FollowBase, Hash, Meta, StoreId, Timestamp, Until};
use crate::seq::Seq;
use crate::state::{Entry, Floor, Forgetting, KeyVersion};

/// A verification in progress. It takes the log in order, then the commit ids and the projection, of any
/// backend.
pub(crate) struct Verification {
    base: FollowBase,
    /// How many changes of the base follow each other as they should.
    in_base: u64,
    follow: Follow,
    /// The last change of each key. Its value is dropped after it was checked.
    fold: BTreeMap<Arc<str>, Change>,
    /// The first and last change of each commit that has an id.
    commit_ids: BTreeMap<String, (Seq, Seq)>,
    forgetting: Forgetting,
    /// The first position of the current commit.
    first: Seq,
    floor: Seq,
    /// Whether changes at or below the floor may be missing.
    is_part: bool,
    /// The last change, if it broke the chain.
    broken: Option<Broken>,
    report: VerifyReport,
}

impl Verification {
    /// A verification of the log after a floor. With `is_part`, changes at or below it may be missing.
    pub(crate) fn new(store: StoreId, floor: &Floor, is_part: bool, level: Level) -> Self {
        let head = floor.head;
        let mut report = VerifyReport::new(level, head);
        report.floor = head.seq;
        Self {
            base: FollowBase::new(store, head, floor.at),
            in_base: 0,
            follow: Follow::from_floor(store, head, floor.at),
            fold: BTreeMap::new(),
            commit_ids: BTreeMap::new(),
            forgetting: Forgetting::default(),
            first: head.seq.next(),
            floor: head.seq,
            is_part,
            broken: None,
            report,
        }
    }

    /// Checks the next change of the base, with the chain before it. All of them come before the other changes.
    pub(crate) fn base(&mut self, change: Change, before: Hash) {
        self.report.changes += 1;
        self.report.erased += u64::from(change.is_erased());
        let header = change.header_hash();
        match self.base.check_hashed(Some(before), &change.view(None), header) {
            Ok(()) => self.in_base += 1,
            Err(error) => drop(self.report.find(Some(error.seq()), Some(&change.key), error.to_string())),
        }
        let last = self.fold.get(&change.key).map(KeyVersion::from_change);
        if change.prev > Seq::ZERO && last.is_some() {
            self.check_follows(&change, last, true);
        }
        self.fold_in(change);
    }

    /// How many changes of the base follow each other as they should, and their digest.
    pub(crate) fn sealed(&self) -> (u64, Hash) {
        (self.in_base, self.base.digest())
    }

    /// Adds a contradiction of the base as a whole.
    pub(crate) fn find_in_base(&mut self, what: String) {
        self.report.find(Some(self.floor), None, what);
    }

    /// Moves on behind withheld changes, up to a position.
    pub(crate) fn pass_withheld(&mut self, to: Seq, header: impl Fn(Seq) -> Option<Hash>) {
        while self.follow.head().seq.next() < to
            && let Some(header) = header(self.follow.head().seq.next())
        {
            self.follow.pass(header);
            self.report.withheld += 1;
            self.broken = None;
        }
    }

    /// The report on the log alone.
    pub(crate) fn report(self) -> VerifyReport {
        self.report
    }

    /// Checks the next change against the chain, its neighbours and the key's last change.
    pub(crate) fn change(&mut self, change: Change) {
        self.report.changes += 1;
        self.report.erased += u64::from(change.is_erased());
        if let Some(broken) = self.broken.take() {
            broken.look_back(&change, &mut self.report);
        }
        let last = self.fold.get(&change.key).map(KeyVersion::from_change);
        if let Err(error) = self.follow.check(&change) {
            // A change that is gone has no key, and nothing was altered in the one that is found there.
            let is_gone = Broken::is_gone(&self.follow, &change, error);
            let key = (!is_gone).then_some(&*change.key);
            let listed = self.report.find(Some(error.seq()), key, error.to_string());
            self.broken = listed
                .filter(|_| !is_gone)
                .map(|listed| Broken::at(listed, &self.follow, &change, error, last, &mut self.report));
            self.follow.skip(&change);
        }
        let last = last.filter(|last| last.is_live() || !self.forgetting.covers(&change.key, last.seq));
        self.check_follows(&change, last, self.is_part);
        if change.closes_commit() {
            if let Some(id) = change.meta.as_deref().and_then(Meta::commit_id) {
                self.commit_ids.insert(id.to_owned(), (self.first, change.seq));
            }
            self.first = change.seq.next();
        }
        self.fold_in(change);
    }

    fn check_follows(&mut self, change: &Change, last: Option<KeyVersion>, is_part: bool) {
        let earlier = Earlier::at(self.floor, is_part, self.forgetting.version());
        if let Some(what) = contradicts(change, last, earlier) {
            self.report.find(Some(change.seq), Some(&change.key), what);
        }
    }

    fn fold_in(&mut self, change: Change) {
        self.forgetting.take(&change.key, change.value.as_deref());
        let left = Change { value: None, ..change };
        self.fold.insert(left.key.clone(), left);
    }

    /// Ends the log; `unreadable` says why it could not be read to its end.
    pub(crate) fn end_of_log(&mut self, unreadable: Option<String>) {
        self.report.head = self.follow.head();
        if let Some(what) = unreadable {
            self.report.find(Some(self.follow.head().seq.next()), None, what);
        } else if !self.follow.is_whole() {
            self.report.find(Some(self.follow.head().seq), None, "the last commit of the log is incomplete");
        }
        self.report.in_log = self.report.contradictions;
        self.fold
            .retain(|key, last| last.kind != ChangeKind::Deleted || !self.forgetting.covers(key, last.seq));
    }

    /// Compares a remembered commit id with the log.
    pub(crate) fn commit_id(&mut self, id: &str, first: Seq, last: Seq) {
        if self.commit_ids.remove(id) != Some((first, last)) {
            self.report.find(Some(last), None, "a row of commit_ids does not match any commit of the log");
        }
    }

    /// Ends the commit ids; `unreadable` says why they could not be read to their end.
    pub(crate) fn end_of_commit_ids(&mut self, unreadable: Option<String>) {
        if let Some(what) = unreadable {
            self.report.find(None, None, what);
        } else {
            for (_, last) in self.commit_ids.values() {
                self.report.find(Some(*last), None, "commit_ids has no row for this commit");
            }
        }
    }

    /// Compares an entry of the projection with the fold.
    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.report.keys += 1;
        let last = self.fold.remove(entry.key.as_str());
        self.compare(entry.seq, &entry.key, last.is_some_and(|last| is_of(entry, &last)));
    }

    /// Compares an entry whose value was erased: its version, both times, its position and its end.
    pub(crate) fn erased(&mut self, key: &str, numbers: (u64, Timestamp, Timestamp, Seq, Option<Until>)) {
        self.report.keys += 1;
        let last = self.fold.remove(key);
        let erased = |last: Change| {
            last.is_erased()
                && last.salt.is_none()
                && numbers == (last.version, last.created_at, last.at, last.seq, last.until)
        };
        self.compare(numbers.3, key, last.is_some_and(erased));
    }

    /// Compares a deleted key of the projection with the fold.
    pub(crate) fn tombstone(&mut self, key: &str, version: u64, seq: Seq) {
        self.report.tombstones += 1;
        let deleted =
            |last: Change| last.kind == ChangeKind::Deleted && (last.version, last.seq) == (version, seq);
        let last = self.fold.remove(key);
        self.compare(seq, key, last.is_some_and(deleted));
    }

    /// Notes a damaged row of the projection.
    pub(crate) fn damaged(&mut self, key: &str, what: &str) {
        self.report.keys += 1;
        let seq = self.fold.remove(key).map(|last| last.seq);
        self.report.find(seq, Some(key), what);
    }

    fn compare(&mut self, seq: Seq, key: &str, same: bool) {
        if !same {
            self.report.find(Some(seq), Some(key), "the projection does not equal the fold of the log");
        }
    }

    /// Ends the projection; `unreadable` says why it could not be read to its end. Returns the report.
    pub(crate) fn finish(mut self, unreadable: Option<String>) -> VerifyReport {
        if let Some(what) = unreadable {
            self.report.find(None, None, what);
        } else {
            for last in self.fold.values() {
                self.report.find(Some(last.seq), Some(&last.key), "the projection has no row for this key");
            }
        }
        self.report
    }
}

/// Whether an entry is the state that a change left. The change has lost its value, but not its hash.
fn is_of(entry: &Entry, last: &Change) -> bool {
    let with_value = Change { value: Some(entry.value.as_slice().into()), ..last.clone() };
    last.kind != ChangeKind::Deleted
        && last.salt.is_some()
        && with_value.has_its_value()
        && Entry::from_change(&with_value).is_some_and(|expected| expected == *entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Draft, Head, Prev, Tip, seal};

    /// A log: `/a` is created, `/b` is created, `/a` is deleted.
    fn log() -> (StoreId, Vec<Change>) {
        let store = StoreId::from_bytes([1; 16]);
        let draft = |kind, key: &str, version, created_at, prev: u64, value: Option<&[u8]>| Draft {
            kind,
            key: key.into(),
            version,
            created_at,
            prev: Prev::Recorded(Seq::new(prev)),
            until: None,
            value: value.map(Arc::from),
        };
        let noon = Timestamp::from_micros(1_767_225_600_000_000);
        let (mut tip, mut changes) = (Tip::genesis(store), Vec::new());
        for draft in [
            draft(ChangeKind::Created, "/a", 1, None, 0, Some(b"1")),
            draft(ChangeKind::Created, "/b", 1, None, 0, Some(b"1")),
            draft(ChangeKind::Deleted, "/a", 2, Some(noon), 1, None),
        ] {
            let (sealed, next) = seal(vec![draft], None, tip, noon, || [7; 16]);
            changes.extend(sealed);
            tip = next;
        }
        (store, changes)
    }

    /// The findings of a verification of these changes, whose projection is given to it by `project`.
    fn findings(changes: Vec<Change>, project: impl FnOnce(&mut Verification)) -> Vec<super::super::Finding> {
        let (store, _) = log();
        let mut verification = Verification::new(store, &Floor::genesis(store), false, Level::Full);
        for change in changes {
            verification.change(change);
        }
        verification.end_of_log(None);
        verification.end_of_commit_ids(None);
        project(&mut verification);
        verification.finish(None).findings
    }

    #[test]
    fn a_row_of_a_deleted_key_has_the_version_and_the_position_of_its_last_change() {
        let (_, changes) = log();
        let entry = Entry::from_change(&changes[1]).unwrap();
        let with = |key: &'static str, version, seq| {
            let entry = entry.clone();
            findings(changes.clone(), move |verification| {
                verification.entry(&entry);
                verification.tombstone(key, version, Seq::new(seq));
            })
        };
        assert!(with("/a", 2, 3).is_empty());
        assert_eq!(with("/a", 3, 3).len(), 1, "another version");
        assert_eq!(with("/a", 2, 1).len(), 1, "another position");
        let living = findings(changes.clone(), |verification| {
            verification.tombstone("/b", 1, Seq::new(2));
            verification.tombstone("/a", 2, Seq::new(3));
        });
        assert_eq!(living.len(), 1, "a key that exists");
    }

    #[test]
    fn a_damaged_row_is_found_once_in_the_words_of_the_storage() {
        let (_, changes) = log();
        let found = findings(changes, |verification| {
            verification.damaged("/b", "the row does not match its checksum");
            verification.tombstone("/a", 2, Seq::new(3));
        });
        let said: Vec<_> = found.iter().map(|finding| (finding.seq, finding.what.as_str())).collect();
        assert_eq!(said, [(Some(Seq::new(2)), "the row does not match its checksum")]);
    }

    // The hash of a change is blamed only if what follows goes on from the hash that the change should have.
    #[test]
    fn a_hash_is_blamed_only_where_the_log_goes_on_from_the_right_one() {
        let (_, changes) = log();
        let fields = |spoil: &dyn Fn(&mut Vec<Change>)| {
            let mut spoiled = changes.clone();
            spoil(&mut spoiled);
            let found = findings(spoiled, |_| {});
            found.into_iter().find(|finding| finding.seq == Some(Seq::new(2))).map(|finding| finding.field)
        };
        let other = Hash::from_bytes([9; 32]);
        assert_eq!(fields(&|log| log[1].hash = other), Some(Some("hash")));
        let both = |log: &mut Vec<Change>| {
            log[1].key = "/c".into();
            log[1].hash = other;
            log[2].hash = other;
        };
        assert_eq!(fields(&both), Some(None), "nothing goes on from it");
    }

    /// The changes of [`log`], without the value of `/b`, which was erased.
    fn erased_log() -> Vec<Change> {
        let (_, mut changes) = log();
        changes[1] = Change { value: None, salt: None, ..changes[1].clone() };
        changes
    }

    #[test]
    fn a_row_of_a_key_is_what_its_last_change_left() {
        let (_, changes) = log();
        let sound = Entry::from_change(&changes[1]).unwrap();
        let with = |changes: &[Change], entry: Entry| {
            let found = findings(changes.to_vec(), |verification| {
                verification.entry(&entry);
                verification.tombstone("/a", 2, Seq::new(3));
            });
            found.into_iter().map(|finding| finding.key.unwrap()).collect::<Vec<_>>()
        };
        assert!(with(&changes, sound.clone()).is_empty());
        let now = std::time::SystemTime::now();
        for other in [
            Entry { value: b"2".to_vec(), ..sound.clone() },
            Entry { version: 2, ..sound.clone() },
            Entry { created_at: now, ..sound.clone() },
            Entry { updated_at: now, ..sound.clone() },
            Entry { seq: Seq::new(3), ..sound.clone() },
            Entry { until: Until::from_number(1_767_225_600_000_000), ..sound.clone() },
        ] {
            assert_eq!(with(&changes, other.clone()), ["/b"], "{other:?}");
        }
        assert_eq!(with(&erased_log(), sound), ["/b"], "a value that is gone");
        let deletion = Change { value: Some(b"1"[..].into()), ..changes[2].clone() };
        let found = findings(changes.clone(), |verification| {
            verification.entry(&Entry::from_change(&changes[1]).unwrap());
            verification.entry(&Entry::from_change(&deletion).unwrap());
        });
        assert_eq!(found.len(), 1, "a key that is deleted");
    }

    #[test]
    fn a_row_whose_value_is_gone_has_the_numbers_of_a_change_whose_value_is_gone() {
        let changes = log().1;
        let Change { version, created_at, at, seq, .. } = changes[1];
        let later = Timestamp::from_micros(at.as_micros() + 1);
        let with = |changes: &[Change], numbers| {
            let deleted = |verification: &mut Verification| verification.tombstone("/a", 2, Seq::new(3));
            findings(changes.to_vec(), |verification| {
                verification.erased("/b", numbers);
                deleted(verification);
            })
            .len()
        };
        let gone = erased_log();
        assert_eq!(with(&gone, (version, created_at, at, seq, None)), 0);
        assert_eq!(with(&gone, (version + 1, created_at, at, seq, None)), 1, "another version");
        assert_eq!(with(&gone, (version, later, at, seq, None)), 1, "created at another time");
        assert_eq!(with(&gone, (version, created_at, later, seq, None)), 1, "written at another time");
        assert_eq!(with(&gone, (version, created_at, at, seq.next(), None)), 1, "another position");
        let until = Until::from_number(1_767_225_600_000_000);
        assert_eq!(with(&gone, (version, created_at, at, seq, until)), 1, "another end");
        assert_eq!(with(&changes, (version, created_at, at, seq, None)), 1, "the log has the value");
        let Change { version, created_at, at, seq, .. } = changes[2];
        let entry = Entry::from_change(&changes[1]).unwrap();
        let found = findings(changes.clone(), |verification| {
            verification.entry(&entry);
            verification.erased("/a", (version, created_at, at, seq, None));
        });
        assert_eq!(found.len(), 1, "a deleted key");
    }

    #[test]
    fn every_row_is_counted_whatever_is_found() {
        let (store, _) = log();
        let mut verification = Verification::new(store, &Floor::genesis(store), false, Level::Full);
        for change in erased_log() {
            verification.change(change);
        }
        let Change { version, created_at, at, seq, .. } = log().1[1];
        verification.end_of_log(None);
        verification.erased("/b", (version, created_at, at, seq, None));
        verification.tombstone("/a", 2, Seq::new(3));
        let counted = |report: &VerifyReport| (report.changes, report.erased, report.keys, report.tombstones);
        assert_eq!(counted(&verification.report), (3, 1, 1, 1));
        verification.damaged("/b", "damaged");
        verification.damaged("/c", "damaged");
        verification.entry(&Entry::from_change(&log().1[1]).unwrap());
        assert_eq!(counted(&verification.report), (3, 1, 4, 1));
    }

    /// The findings on the log alone: position, key, field.
    fn found_in(changes: Vec<Change>) -> Vec<(u64, Option<String>, Option<&'static str>)> {
        let (store, _) = log();
        let mut verification = Verification::new(store, &Floor::genesis(store), false, Level::Chain);
        for change in changes {
            verification.change(change);
        }
        let found = verification.report().findings.into_iter();
        found.map(|finding| (finding.seq.unwrap().as_u64(), finding.key, finding.field)).collect()
    }

    // Of a change that is gone nobody knows the key. One whose position was altered is still there.
    #[test]
    fn a_change_that_is_gone_is_told_from_one_whose_position_was_altered() {
        let (_, changes) = log();
        assert_eq!(found_in(changes.clone()), []);
        let (mut gone, mut altered, mut moved) = (changes.clone(), changes.clone(), changes);
        gone.remove(1);
        assert_eq!(found_in(gone)[0], (2, None, None));
        altered[1].seq = Seq::new(9);
        assert_eq!(found_in(altered)[0], (2, Some("/b".to_owned()), Some("seq")));
        (moved[1].seq, moved[1].commit_seq) = (Seq::new(9), Seq::new(9));
        assert_eq!(found_in(moved)[0], (2, Some("/b".to_owned()), Some("seq")), "with its commit");
    }

    #[test]
    fn the_end_of_a_commit_is_blamed_at_its_first_change_too() {
        let (_, mut changes) = log();
        changes[1].commit_seq = Seq::new(4);
        assert_eq!(found_in(changes)[0], (2, Some("/b".to_owned()), Some("commit_seq")));
    }

    /// The log after position 2 of a change to `/a` with this version and predecessor, and of one behind it: how many
    /// findings there are.
    fn found_after_a_floor(drafts: [(u64, u64); 2]) -> usize {
        let store = StoreId::from_bytes([1; 16]);
        let at = Timestamp::from_micros(1_767_225_600_000_000);
        let floor = Head { seq: Seq::new(2), hash: Hash::from_bytes([5; 32]) };
        let mut tip = Tip { head: floor, at };
        let mut verification = Verification::new(store, &Floor::at(floor, Some(at)), true, Level::Chain);
        for (version, prev) in drafts {
            let draft = Draft {
                kind: ChangeKind::Updated,
                key: "/a".into(),
                version,
                created_at: Some(at),
                prev: Prev::Recorded(Seq::new(prev)),
                until: None,
                value: Some(b"1"[..].into()),
            };
            let (sealed, next) = seal(vec![draft], None, tip, at, || [7; 16]);
            for change in sealed {
                verification.change(change);
            }
            tip = next;
        }
        verification.report().findings.len()
    }

    #[test]
    fn a_key_may_begin_before_the_log_and_goes_on_in_it_step_by_step() {
        assert_eq!(found_after_a_floor([(5, 1), (6, 3)]), 0);
        assert_eq!(found_after_a_floor([(5, 2), (6, 3)]), 0, "at the last position before the log");
        assert_eq!(found_after_a_floor([(5, 1), (6, 1)]), 1, "the log has a later change of the key");
        assert_eq!(found_after_a_floor([(5, 1), (7, 3)]), 1, "a version is left out");
    }

    #[test]
    fn withheld_changes_are_passed_up_to_a_position_and_no_further() {
        let (store, changes) = log();
        let mut verification = Verification::new(store, &Floor::genesis(store), false, Level::Chain);
        let header = |seq: Seq| changes.iter().find(|change| change.seq == seq).map(Change::header_hash);
        verification.pass_withheld(Seq::new(1), header);
        assert_eq!(verification.report.withheld, 0);
        verification.pass_withheld(Seq::new(3), header);
        assert_eq!((verification.report.withheld, verification.follow.head()), (2, changes[1].head()));
        verification.pass_withheld(Seq::MAX, header);
        assert_eq!((verification.report.withheld, verification.follow.head()), (3, changes[2].head()));
        assert!(verification.report().is_intact());
    }
}
