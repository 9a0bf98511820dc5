//! Values that were read before they were erased, and are not delivered after that.

use super::matching::{Before, Matching, Old};
use crate::failpoint::failpoint;
use crate::key::ERASURES_PREFIX;
use crate::log::Change;
use crate::seq::Seq;
use crate::state::Erasures;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};

/// What the erasures named that were published while the store was open. What watches hold may have been read before.
#[derive(Default)]
pub(crate) struct Erased {
    /// The position up to which there may be records of erasures, or 0. It is stored after what they name.
    newest: AtomicU64,
    named: Mutex<Erasures>,
    /// The position up to which all that the records name was swept, as far as this process knows, or 0.
    swept: AtomicU64,
}

impl Erased {
    /// Takes changes that are published.
    pub(super) fn take(&self, changes: &[Change]) {
        for change in changes.iter().filter(|change| change.key.starts_with(ERASURES_PREFIX)) {
            // A record that cannot be read is reported by whoever goes over all of them.
            if lock(&self.named).take(change) == Ok(true) {
                self.newest.fetch_max(change.seq.as_u64(), Ordering::SeqCst);
            }
        }
    }

    /// Notes that changes up to a position were published, and not read: an erasure may be among them.
    pub(crate) fn pass_over(&self, to: Seq) {
        self.newest.fetch_max(to.as_u64(), Ordering::SeqCst);
    }

    /// Whether an erasure may have been published after a position. What was read before it may be erased by now.
    pub(crate) fn is_after(&self, seq: Seq) -> bool {
        self.newest.load(Ordering::SeqCst) > seq.as_u64()
    }

    /// Notes that what the records up to a position name is gone from the storage, and that the file of its log was emptied
    /// after that. It does not come back.
    pub(crate) fn swept(&self, to: Seq) {
        self.swept.fetch_max(to.as_u64(), Ordering::SeqCst);
    }

    /// Whether it is known that what the records up to a position name is gone.
    pub(crate) fn is_swept(&self, to: Seq) -> bool {
        self.swept.load(Ordering::SeqCst) >= to.as_u64()
    }

    /// The same change without the values that were erased.
    pub(crate) fn without(&self, mut matching: Matching) -> Matching {
        let change = &mut matching.change;
        if !self.is_after(change.seq) || failpoint("erased_delivered") {
            return matching;
        }
        let named = lock(&self.named);
        if named.has(change.seq) {
            (change.value, change.salt) = (None, None);
        }
        if named.has(change.prev)
            && let Old::Read(Some(before)) = &mut matching.old
        {
            *before = Before { value: None, erased: true };
        }
        matching
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{ErasureRecord, SeqRanges};

    #[test]
    fn what_was_erased_is_not_delivered_and_all_else_is() {
        let change = |seq: u64| Change { prev: Seq::new(seq - 1), ..Change::plain(seq) };
        let before = Before { value: Some(vec![7].into()), erased: false };
        let matching = |seq| Matching { change: change(seq), old: Old::Read(Some(before.clone())) };
        let shown = |erased: &Erased, seq| {
            let Matching { change, old } = erased.without(matching(seq));
            let Old::Read(Some(old)) = old else { panic!("it was read") };
            assert_eq!(old.erased, old.value.is_none());
            (change.value.is_some(), old.value.is_some())
        };
        let erased = Erased::default();
        erased.take(&[change(8)]);
        assert!(!erased.is_after(Seq::ZERO));
        assert_eq!(shown(&erased, 3), (true, true));
        let ranges = SeqRanges::of(vec![(Seq::new(3), Seq::new(4))]).unwrap();
        let value = Some(ErasureRecord { ranges }.encode().unwrap().into());
        erased.take(&[change(9), Change { key: ErasureRecord::key(1).into(), value, ..change(10) }]);
        let all: Vec<_> = (2..7).map(|seq| shown(&erased, seq)).collect();
        assert_eq!(all, [(true, true), (false, true), (false, false), (true, false), (true, true)]);
        assert!(erased.is_after(Seq::new(9)) && !erased.is_after(Seq::new(10)));
        erased.pass_over(Seq::new(20));
        erased.pass_over(Seq::new(12));
        assert!(erased.is_after(Seq::new(19)) && !erased.is_after(Seq::new(20)));
    }
}
