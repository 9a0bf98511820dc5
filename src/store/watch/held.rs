//! What a watch has read and not yet delivered. It is held within the budget of all watches, and may be lost.

use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};

use crate::error::Result;
use crate::limits::Limits;
use crate::store::feed::{Budget, Denied, Lease, Loan, Standing};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

/// What a watch has read and not yet delivered. Whoever needs its memory may take it; the watch then reads it again.
pub(super) struct Held<T> {
    lease: OnceLock<Lease>,
    slot: Mutex<Slot<T>>,
    /// Whether something of it was delivered.
    delivers: AtomicBool,
}

enum Slot<T> {
    /// It is being read.
    Due,
    /// It was read.
    There(T),
    /// It was taken, or did not fit. The bytes are what it needed then.
    Lost(usize),
}

/// What a page may take, and what is known of what it needs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Claim {
    standing: Standing,
    /// The bytes that a page needs that was read before and did not fit.
    pub(super) need: usize,
}

impl Claim {
    /// Waits for room. Others have their turn first.
    pub(super) fn wait(&mut self, denied: Denied, context: &Context<'_>) -> Poll<()> {
        if denied == Denied::InTurn {
            self.standing.denied = self.standing.denied.saturating_add(1);
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Notes that what was read is lost.
    pub(super) fn lost(&mut self, need: usize) {
        self.need = self.need.max(need);
        let Standing { denied, lost } = self.standing;
        self.standing = Standing { denied: denied.saturating_add(1), lost: lost.saturating_add(1) };
    }

    /// Notes that something was delivered.
    pub(super) fn delivered(&mut self) {
        *self = Self::default();
    }

    /// The bytes that the next page should have at most: the changes and what they replaced.
    pub(super) fn page(budget: &Budget) -> usize {
        budget.share().min(2 * Limits::PAGE_BYTES)
    }
}

impl<T: Send + 'static> Held<T> {
    /// Something that takes no room, because it is delivered at once.
    pub(super) fn at_once(content: T) -> Arc<Self> {
        Self::new(Slot::There(content))
    }

    /// Room for something that will be read.
    pub(super) fn ask(
        budget: &Arc<Budget>,
        bytes: usize,
        claim: Claim,
        waker: &Waker,
    ) -> Result<Arc<Self>, Denied> {
        let held = Self::new(Slot::Due);
        let lease = budget.take(bytes.max(claim.need), claim.standing, held.weak(), waker)?;
        let _ = held.lease.set(lease);
        Ok(held)
    }

    /// Room for something that will be read, if nobody else needs the room.
    pub(super) fn ask_for_free(budget: &Arc<Budget>, bytes: usize) -> Option<Arc<Self>> {
        let held = Self::new(Slot::Due);
        let lease = budget.take_free(bytes, held.weak())?;
        let _ = held.lease.set(lease);
        Some(held)
    }

    fn new(slot: Slot<T>) -> Arc<Self> {
        Arc::new(Self { lease: OnceLock::new(), slot: Mutex::new(slot), delivers: AtomicBool::new(false) })
    }

    fn weak(self: &Arc<Self>) -> Weak<dyn Loan> {
        let this: Weak<Self> = Arc::downgrade(self);
        this
    }

    /// Puts in what was read, if it fits. If reading failed, gives the room back.
    pub(super) fn fill(&self, need: usize, read: Result<T>, bytes: impl FnOnce(&T) -> usize) -> Result<()> {
        let filled = read.map(|content| {
            let bytes = bytes(&content);
            if self.fits(bytes.max(need)) {
                *lock(&self.slot) = Slot::There(content);
            } else {
                self.lose(bytes);
            }
        });
        if let Some(lease) = self.lease.get() {
            if filled.is_err() {
                lease.resize(0);
            }
            lease.is_there();
        }
        filled
    }

    /// Puts in more: `more` bytes beside those that are there.
    pub(super) fn add(
        &self,
        more: usize,
        bytes: impl FnOnce(&T) -> usize,
        add: impl FnOnce(&mut T),
    ) -> Result<(), usize> {
        let bytes = self.with(|content| bytes(content))? + more;
        if self.fits(bytes) {
            self.with(add)
        } else {
            self.lose(bytes);
            Err(bytes)
        }
    }

    /// Calls `with` with what is there; `Err` with the bytes that it needs if it is lost.
    pub(super) fn with<R>(&self, with: impl FnOnce(&mut T) -> R) -> Result<R, usize> {
        match &mut *lock(&self.slot) {
            Slot::There(content) => Ok(with(content)),
            Slot::Due => Err(0),
            Slot::Lost(need) => Err(*need),
        }
    }

    /// Notes that something of it was delivered. Until then it is kept from those who were denied less often.
    pub(super) fn delivers(&self) {
        if !self.delivers.swap(true, Ordering::Relaxed)
            && let Some(lease) = self.lease.get()
        {
            lease.delivers();
        }
    }

    fn fits(&self, bytes: usize) -> bool {
        self.lease.get().is_none_or(|lease| lease.resize(bytes))
    }

    /// Twice as much: what comes behind it is not read yet, and each attempt reads all of it.
    fn lose(&self, bytes: usize) {
        *lock(&self.slot) = Slot::Lost(bytes.saturating_mul(2));
        if let Some(lease) = self.lease.get() {
            lease.resize(0);
        }
    }
}

impl<T: Send> Loan for Held<T> {
    fn give_up(&self) {
        let content = std::mem::replace(&mut *lock(&self.slot), Slot::Lost(0));
        drop(content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StateError;

    /// What takes so many bytes.
    struct Content(usize);

    fn bytes(content: &Content) -> usize {
        content.0
    }

    fn ask(budget: &Arc<Budget>, bytes: usize, losses: u32) -> Result<Arc<Held<Content>>, Denied> {
        Held::ask(
            budget,
            bytes,
            Claim { standing: Standing { denied: losses, lost: 0 }, need: 0 },
            Waker::noop(),
        )
    }

    fn content(held: &Held<Content>) -> Result<usize, usize> {
        held.with(|content| content.0)
    }

    #[test]
    fn a_claim_grows_with_what_is_lost_until_something_is_delivered() {
        let mut claim = Claim::default();
        claim.lost(30);
        claim.lost(20);
        assert_eq!((claim.standing.denied, claim.standing.lost, claim.need), (2, 2, 30));
        let budget = Arc::new(Budget::new(100));
        let held: Arc<Held<Content>> = Held::ask(&budget, 10, claim, Waker::noop()).unwrap();
        assert_eq!(budget.held(), 30, "as much as it needed before");
        drop(held);
        claim.delivered();
        assert_eq!((claim.standing.denied, claim.standing.lost, claim.need), (0, 0, 0));
    }

    #[test]
    fn who_is_denied_in_turn_asks_again_with_one_denial_more() {
        let mut claim = Claim::default();
        let context = Context::from_waker(Waker::noop());
        assert!(claim.wait(Denied::Full, &context).is_pending());
        assert_eq!(claim.standing.denied, 0);
        assert!(claim.wait(Denied::InTurn, &context).is_pending());
        assert_eq!(claim.standing.denied, 1);
    }

    #[test]
    fn who_is_denied_in_turn_is_woken_at_once_and_who_is_denied_for_room_by_whoever_gives_it_back() {
        #[derive(Default)]
        struct Woken(std::sync::atomic::AtomicUsize);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let context = Context::from_waker(&waker);
        let times = || woken.0.load(Ordering::SeqCst);
        let mut claim = Claim::default();
        assert!(claim.wait(Denied::Full, &context).is_pending());
        assert_eq!(times(), 0, "it would ask again and again");
        assert!(claim.wait(Denied::InTurn, &context).is_pending());
        assert_eq!(times(), 1);
    }

    #[test]
    fn a_page_is_a_fair_share_and_at_most_two_pages_of_the_log() {
        let budget = Arc::new(Budget::new(100));
        assert_eq!(Claim::page(&budget), 100);
        let _held = ask(&budget, 10, 0).unwrap();
        assert_eq!(Claim::page(&budget), 50);
        assert_eq!(Claim::page(&Budget::new(100 * Limits::PAGE_BYTES)), 2 * Limits::PAGE_BYTES);
    }

    #[test]
    fn what_is_free_is_given_and_nothing_is_taken_for_it() {
        let budget = Arc::new(Budget::new(100));
        let one = ask(&budget, 40, 0).unwrap();
        one.fill(0, Ok(Content(40)), bytes).unwrap();
        let ahead: Arc<Held<Content>> = Held::ask_for_free(&budget, 60).unwrap();
        assert_eq!(budget.held(), 100);
        assert!(Held::<Content>::ask_for_free(&budget, 1).is_none());
        drop(ahead);
        assert_eq!((content(&one), budget.held()), (Ok(40), 40));
    }

    #[test]
    fn what_was_read_takes_what_it_needs_or_is_lost() {
        let budget = Arc::new(Budget::new(100));
        let other = ask(&budget, 40, 0).unwrap();
        let held = ask(&budget, 10, 0).unwrap();
        assert_eq!(content(&held), Err(0), "nothing was read yet");
        held.fill(0, Ok(Content(20)), bytes).unwrap();
        assert_eq!((content(&held), budget.held()), (Ok(20), 60));
        assert_eq!(held.add(30, bytes, |content| content.0 += 1), Ok(()));
        assert_eq!((content(&held), budget.held()), (Ok(21), 90));
        assert_eq!(held.add(40, bytes, |content| content.0 += 1), Err(61));
        assert_eq!((content(&held), budget.held()), (Err(122), 40), "it is lost, and its room is given back");
        let late = ask(&budget, 10, 0).unwrap();
        late.fill(0, Ok(Content(70)), bytes).unwrap();
        assert_eq!((content(&late), budget.held()), (Err(140), 40));
        drop(other);
        let early = ask(&budget, 10, 0).unwrap();
        early.fill(50, Ok(Content(20)), bytes).unwrap();
        assert_eq!((content(&early), budget.held()), (Ok(20), 50), "it keeps what it will need");
    }

    #[test]
    fn a_read_that_fails_gives_its_room_back() {
        let budget = Arc::new(Budget::new(100));
        let held = ask(&budget, 10, 0).unwrap();
        assert_eq!(held.fill(0, Err(StateError::Closed), bytes), Err(StateError::Closed));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn what_was_delivered_in_part_is_taken_from_first_and_is_gone_then() {
        let budget = Arc::new(Budget::new(100));
        let held = ask(&budget, 100, 5).unwrap();
        held.fill(0, Ok(Content(100)), bytes).unwrap();
        assert_eq!(ask(&budget, 50, 1).err(), Some(Denied::InTurn));
        held.delivers();
        let _next = ask(&budget, 50, 1).unwrap();
        assert_eq!(content(&held), Err(0));
        assert_eq!(held.add(1, bytes, |content| content.0 += 1), Err(0));
        assert_eq!(held.fill(0, Ok(Content(10)), bytes), Ok(()));
        assert!(content(&held).is_err(), "there is no room any more");
    }
}
