//! The memory that all watches of an open store hold together.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::task::Waker;

use super::wakers::Wakers;
use crate::sync::{Mutex, lock};

/// The most bytes of pages that the watches of an open store hold together. A page is a copy of a part of the log, so
/// it can be taken from a watch at any time: the watch reads it again.
///
/// A watch asks before it reads. If there is no room, pages of others are taken, those first that exceed a fair share,
/// then the oldest, and always of watches that were denied less often than the one that asks. So nobody is denied for
/// ever, and a watch that is not polled keeps nothing from others. A page that is being read is not taken: it comes
/// without anybody's help. Nor is one that was just read: others are denied so often first that its watch, if it is
/// polled at all, has its turn. The count doubles each time that it loses a page before it delivers anything, so a
/// watch that is polled seldom reads a page again a few times only.
pub(crate) struct Budget {
    state: Mutex<State>,
}

struct State {
    most: usize,
    held: usize,
    leases: HashMap<u64, Leased>,
    /// How often somebody was denied in turn.
    denials: u64,
    /// The number of the next lease. Later ones have larger numbers.
    next: u64,
    /// The watches that wait for pages that are being read.
    waiting: Vec<Waker>,
}

struct Leased {
    bytes: usize,
    standing: Standing,
    /// The number of denials from which on it can be taken. None while it is being read.
    ripe: Option<u64>,
    page: Weak<dyn Loan>,
}

/// How a watch fared since it last delivered something.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standing {
    /// How often it was denied room, or lost what it had read.
    pub(crate) denied: u32,
    /// How often it lost what it had read.
    pub(crate) lost: u32,
}

/// So many times others are denied before a page is taken that was just read. Measured with 20 streams of whole commits
/// behind two commits that take a quarter of the budget each: without it each reads the log 6.3 times, with it 2.6
/// times.
const PATIENCE: u64 = 1_000;
/// That doubles at most so often.
const MOST_DOUBLED: u32 = 8;

/// What is held within the budget.
pub(crate) trait Loan: Send + Sync {
    /// Drops it.
    fn give_up(&self);
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Those who hold pages were denied as often, or have just read them. A watch that asks again gets room in the end.
    InTurn,
    /// Pages that are being read take it. The waker is called when there may be some.
    Full,
}

impl Budget {
    /// A budget of this many bytes.
    pub(crate) fn new(most: usize) -> Self {
        let state = State { most, held: 0, leases: HashMap::new(), denials: 0, next: 0, waiting: Vec::new() };
        Self { state: Mutex::new(state) }
    }

    /// Sets how many bytes the watches may hold.
    pub(crate) fn limit(&self, most: usize) {
        lock(&self.state).most = most;
    }

    /// How many bytes the watches hold.
    pub(crate) fn held(&self) -> usize {
        lock(&self.state).held
    }

    /// The fair share of one more page.
    pub(crate) fn share(&self) -> usize {
        lock(&self.state).share()
    }

    /// Room for a page of this many bytes, or for one that takes all, if it is larger than that.
    pub(crate) fn take(
        self: &Arc<Self>,
        bytes: usize,
        standing: Standing,
        page: Weak<dyn Loan>,
        waker: &Waker,
    ) -> Result<Lease, Denied> {
        let mut state = lock(&self.state);
        let bytes = bytes.min(state.most);
        let lost = match state.make_room(bytes, standing, None) {
            Ok(lost) => lost,
            Err(denied) => {
                if denied == Denied::InTurn {
                    state.denials += 1;
                } else if !state.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
                    state.waiting.push(waker.clone());
                }
                return Err(denied);
            }
        };
        let id = state.add(bytes, standing, page);
        drop(state);
        lost.iter().filter_map(Weak::upgrade).for_each(|page| page.give_up());
        Ok(Lease { budget: self.clone(), id })
    }

    /// Room for a page of this many bytes, if there is some without taking pages of others.
    pub(crate) fn take_free(self: &Arc<Self>, bytes: usize, page: Weak<dyn Loan>) -> Option<Lease> {
        let mut state = lock(&self.state);
        (bytes <= state.most.saturating_sub(state.held)).then(|| {
            let id = state.add(bytes, Standing::default(), page);
            Lease { budget: self.clone(), id }
        })
    }
}

impl State {
    fn share(&self) -> usize {
        self.most / (self.leases.len() + 1)
    }

    fn add(&mut self, bytes: usize, standing: Standing, page: Weak<dyn Loan>) -> u64 {
        let id = self.next;
        self.next += 1;
        self.held += bytes;
        self.leases.insert(id, Leased { bytes, standing, ripe: None, page });
        id
    }

    /// Makes room for this many bytes, and returns the pages that are taken for it, which the caller gives up when the
    /// lock is released. If that is not enough, takes none. `own` is the lease that needs the room.
    fn make_room(
        &mut self,
        bytes: usize,
        standing: Standing,
        own: Option<u64>,
    ) -> Result<Vec<Weak<dyn Loan>>, Denied> {
        let mut free = self.most.saturating_sub(self.held);
        if bytes <= free {
            return Ok(Vec::new());
        }
        let share = self.share();
        let others = || self.leases.iter().filter(|(id, lease)| Some(**id) != own && lease.ripe.is_some());
        let is_weaker = |lease: &Leased| {
            lease.standing.denied < standing.denied && lease.ripe.is_some_and(|ripe| ripe <= self.denials)
        };
        let weaker = others().filter(|(_, lease)| is_weaker(lease));
        let mut weaker: Vec<_> = weaker
            .map(|(id, lease)| (lease.bytes <= share, lease.standing.denied, *id, lease.bytes))
            .collect();
        weaker.sort_unstable();
        let mut taken = Vec::new();
        for (.., id, bytes_of) in weaker {
            if bytes <= free {
                break;
            }
            free += bytes_of;
            taken.push(id);
        }
        if bytes > free {
            let in_turn = others().any(|(_, lease)| !is_weaker(lease));
            return Err(if in_turn { Denied::InTurn } else { Denied::Full });
        }
        Ok(taken.into_iter().filter_map(|id| self.remove(id)).collect())
    }

    fn remove(&mut self, id: u64) -> Option<Weak<dyn Loan>> {
        let lease = self.leases.remove(&id)?;
        self.held -= lease.bytes;
        Some(lease.page)
    }

    fn woken(&mut self) -> Wakers {
        Wakers(std::mem::take(&mut self.waiting))
    }
}

/// A part of the budget; given back when it is dropped.
pub(crate) struct Lease {
    budget: Arc<Budget>,
    id: u64,
}

impl Lease {
    /// Makes the lease one of this many bytes, or of the whole budget. Returns false, and leaves it as it is, if there
    /// is no room, or if the page was taken.
    pub(crate) fn resize(&self, bytes: usize) -> bool {
        let mut state = lock(&self.budget.state);
        let lease = state.leases.get(&self.id).map(|lease| (lease.bytes, lease.standing));
        let Some((had, standing)) = lease else { return false };
        let bytes = bytes.min(state.most);
        let Ok(lost) = state.make_room(bytes.saturating_sub(had), standing, Some(self.id)) else {
            return false;
        };
        state.held = state.held - had + bytes;
        if let Some(lease) = state.leases.get_mut(&self.id) {
            lease.bytes = bytes;
        }
        let woken = if bytes < had { state.woken() } else { Wakers::default() };
        drop(state);
        lost.iter().filter_map(Weak::upgrade).for_each(|page| page.give_up());
        woken.wake();
        true
    }

    /// Notes that the page was read.
    pub(crate) fn is_there(&self) {
        self.change(|lease, denials| {
            lease.ripe = Some(denials + (PATIENCE << lease.standing.lost.min(MOST_DOUBLED)));
        });
    }

    /// Notes that something of the page was delivered.
    pub(crate) fn delivers(&self) {
        self.change(|lease, denials| (lease.standing, lease.ripe) = (Standing::default(), Some(denials)));
    }

    fn change(&self, change: impl FnOnce(&mut Leased, u64)) {
        let mut state = lock(&self.budget.state);
        let denials = state.denials;
        if let Some(lease) = state.leases.get_mut(&self.id) {
            change(lease, denials);
        }
        let woken = state.woken();
        drop(state);
        woken.wake();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = lock(&self.budget.state);
        let page = state.remove(self.id);
        let woken = state.woken();
        drop(state);
        drop(page);
        woken.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Page(AtomicBool);

    impl Loan for Page {
        fn give_up(&self) {
            assert!(!self.0.swap(true, Ordering::SeqCst), "given up twice");
        }
    }

    struct Held(Arc<Page>, Option<Lease>);

    impl Held {
        fn is_lost(&self) -> bool {
            self.0.0.load(Ordering::SeqCst)
        }

        fn there(self) -> Self {
            self.1.as_ref().unwrap().is_there();
            self
        }
    }

    fn ask(budget: &Arc<Budget>, bytes: usize, denied: u32) -> Result<Held, Denied> {
        ask_after(budget, bytes, Standing { denied, lost: 0 })
    }

    fn ask_after(budget: &Arc<Budget>, bytes: usize, standing: Standing) -> Result<Held, Denied> {
        let page = Arc::new(Page::default());
        let weak: Weak<dyn Loan> = Arc::downgrade(&(page.clone() as Arc<dyn Loan>));
        budget.take(bytes, standing, weak, Waker::noop()).map(|lease| Held(page, Some(lease)))
    }

    /// So many denials, that what was read before can be taken.
    fn deny(budget: &Arc<Budget>, denials: u64) {
        for _ in 0..denials {
            assert_eq!(ask(budget, usize::MAX, 0).err(), Some(Denied::InTurn));
        }
    }

    #[test]
    fn what_is_dropped_is_given_back_and_nothing_exceeds_the_budget() {
        let budget = Arc::new(Budget::new(100));
        let (one, two) = (ask(&budget, 60, 0).unwrap(), ask(&budget, 40, 0).unwrap());
        assert_eq!(budget.held(), 100);
        assert_eq!(ask(&budget, 1, 9).err(), Some(Denied::Full), "what is being read is not taken");
        drop(one);
        assert_eq!(budget.held(), 40);
        let other = ask(&budget, 1, 0).unwrap();
        assert!(!two.1.as_ref().unwrap().resize(101), "all of it, and another has some");
        drop(other);
        assert!(two.1.as_ref().unwrap().resize(101), "one that is larger than the budget has all of it");
        assert_eq!(budget.held(), 100);
        assert!(two.1.as_ref().unwrap().resize(10));
        assert!(two.1.as_ref().unwrap().resize(20));
        let large = ask(&budget, 1_000, 1);
        assert_eq!(large.err(), Some(Denied::Full));
        drop(two);
        let large = ask(&budget, 1_000, 0).unwrap();
        assert_eq!(budget.held(), 100, "one that is larger than the budget has all of it");
        drop(large);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_page_is_taken_from_who_was_denied_less_and_holds_more_than_a_share() {
        let budget = Arc::new(Budget::new(100));
        let small = ask(&budget, 10, 0).unwrap().there();
        let large = ask(&budget, 60, 0).unwrap().there();
        let read = ask(&budget, 30, 0).unwrap();
        deny(&budget, PATIENCE);
        assert_eq!(ask(&budget, 20, 0).err(), Some(Denied::InTurn));
        let next = ask(&budget, 20, 1).unwrap().there();
        assert!(large.is_lost() && !small.is_lost() && !read.is_lost());
        assert!(!large.1.as_ref().unwrap().resize(1), "what was taken stays so");
        drop(large);
        assert_eq!(budget.held(), 60);
        deny(&budget, PATIENCE);
        assert_eq!(ask(&budget, 90, 1).err(), Some(Denied::InTurn), "one was denied as often");
        assert!(!small.is_lost() && !next.is_lost(), "in vain, nothing is taken");
        assert_eq!(ask(&budget, 90, 2).err(), Some(Denied::Full), "the rest is being read");
        drop(read);
        let all = ask(&budget, 90, 2).unwrap().there();
        assert!(small.is_lost() && next.is_lost() && budget.held() == 90);
        all.1.as_ref().unwrap().delivers();
        assert!(ask(&budget, 50, 1).is_ok() && all.is_lost(), "who has delivered is asked first again");
    }

    #[test]
    fn a_page_that_was_just_read_is_kept_until_others_were_denied_often_and_twice_as_often_after_each_loss() {
        let budget = Arc::new(Budget::new(100));
        for lost in 0..=MOST_DOUBLED + 1 {
            let page = ask_after(&budget, 100, Standing { denied: 0, lost }).unwrap().there();
            deny(&budget, (PATIENCE << lost.min(MOST_DOUBLED)) - 1);
            assert_eq!(ask(&budget, 1, 9).err(), Some(Denied::InTurn), "and that was the last one");
            assert!(!page.is_lost() && ask(&budget, 1, 9).is_ok() && page.is_lost());
        }
        let page = ask(&budget, 100, 0).unwrap().there();
        page.1.as_ref().unwrap().delivers();
        assert!(ask(&budget, 1, 1).is_ok() && page.is_lost(), "its watch has had its turn");
    }

    #[test]
    fn a_page_that_never_grows_old_keeps_nothing_from_others() {
        let budget = Arc::new(Budget::new(100));
        let never_polled: Vec<Held> = (0..10).map(|n| ask(&budget, 10, n).unwrap().there()).collect();
        let mut losses = 0;
        let mut denied = 0;
        let got = loop {
            match ask(&budget, 100, losses) {
                Ok(got) => break got,
                Err(Denied::InTurn) => losses += 1,
                Err(Denied::Full) => panic!("nothing is being read"),
            }
            denied += 1;
            assert!(denied < PATIENCE + 20);
        };
        assert!(never_polled.iter().all(Held::is_lost));
        drop(never_polled);
        assert_eq!(budget.held(), 100);
        drop(got);
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether one who was denied, and asked again, is woken by this: once, or not at all.
    fn wakes(expected: Denied, read: impl FnOnce(&Arc<Budget>) -> Held, free: impl FnOnce(Held)) -> bool {
        let budget = Arc::new(Budget::new(100));
        let held = read(&budget);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        for _ in 0..2 {
            let page: Arc<dyn Loan> = Arc::new(Page::default());
            assert_eq!(
                budget.take(60, Standing::default(), Arc::downgrade(&page), &waker).err(),
                Some(expected)
            );
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        free(held);
        let woken = count.0.load(Ordering::SeqCst);
        assert!(woken <= 1);
        woken == 1
    }

    #[test]
    fn who_waits_for_what_is_being_read_is_woken_once_when_there_may_be_room() {
        let read = |budget: &Arc<Budget>| ask(budget, 60, 0).unwrap();
        let lease = |held: &Held, with: &dyn Fn(&Lease) -> bool| assert!(with(held.1.as_ref().unwrap()));
        assert!(wakes(Denied::Full, read, drop), "given back");
        assert!(wakes(Denied::Full, read, |held| assert!(!held.there().is_lost())), "read");
        let resized = |bytes| {
            wakes(Denied::Full, read, move |held| {
                lease(&held, &|lease| lease.resize(bytes));
                std::mem::forget(held);
            })
        };
        assert!(resized(59), "smaller");
        assert!(!resized(60) && !resized(61), "not smaller");
        let there = |budget: &Arc<Budget>| read(budget).there();
        assert!(!wakes(Denied::InTurn, there, drop), "who can ask again at once does not wait");
    }

    #[test]
    fn what_is_free_is_lent_to_the_last_byte() {
        let budget = Arc::new(Budget::new(100));
        let free = |bytes| {
            let page: Arc<dyn Loan> = Arc::new(Page::default());
            budget.take_free(bytes, Arc::downgrade(&page))
        };
        assert!(free(101).is_none());
        let _most = free(70).unwrap();
        assert!(free(31).is_none());
        let _rest = free(30).unwrap();
        assert_eq!(budget.held(), 100);
    }

    #[test]
    fn a_share_is_that_of_one_page_more() {
        let budget = Arc::new(Budget::new(100));
        let shares: Vec<_> = (0..4).map(|n| (budget.share(), ask(&budget, n, 0).unwrap())).collect();
        assert_eq!(shares.iter().map(|(share, _)| *share).collect::<Vec<_>>(), [100, 50, 33, 25]);
        budget.limit(1_000);
        assert_eq!(budget.share(), 200);
    }
}
