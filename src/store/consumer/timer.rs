//! Wakes tasks that wait for a time, in whichever runtime they are. One thread does it for all consumers of the
//! process; it lives as long as somebody waits.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use crate::error::Result;
use crate::store::feed::undisturbed;
use crate::store::threads::spawn;

// No locks of `crate::sync`: those of the build that tries interleavings do not live in statics.
static WAITING: Mutex<Waiting> = Mutex::new(Waiting { wakers: BTreeMap::new(), next: 0, has_thread: false });
static CHANGED: Condvar = Condvar::new();

struct Waiting {
    /// By time, and by a number that tells apart those of one time.
    wakers: BTreeMap<(Instant, u64), Waker>,
    next: u64,
    has_thread: bool,
}

/// A task that is woken at a time, once. Dropping it forgets that.
#[derive(Debug)]
pub(super) struct Timer {
    place: (Instant, u64),
    waker: Waker,
}

fn waiting() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Timer {
    /// Wakes the task at this time.
    pub(super) fn start(at: Instant, waker: &Waker) -> Result<Self> {
        let mut all = waiting();
        let place = (at, all.next);
        if !all.has_thread {
            spawn("univrs-state timer", wake_when_due)?;
            all.has_thread = true;
        }
        all.next += 1;
        all.wakers.insert(place, waker.clone());
        if all.wakers.first_key_value().is_some_and(|(first, _)| *first == place) {
            CHANGED.notify_one();
        }
        Ok(Self { place, waker: waker.clone() })
    }

    /// Whether it wakes this task, not after this time.
    pub(super) fn serves(&self, at: Instant, waker: &Waker) -> bool {
        let is_there = waiting().wakers.contains_key(&self.place);
        is_there && self.place.0 <= at && self.waker.will_wake(waker)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut all = waiting();
        let waker = all.wakers.remove(&self.place);
        if all.wakers.is_empty() {
            CHANGED.notify_one(); // The thread ends.
        }
        drop(all);
        // IMPORTANT: after the lock is released. The waker may own a task, and the task another timer.
        drop(waker);
    }
}

/// Wakes who is due until nobody waits.
fn wake_when_due() {
    let mut all = waiting();
    loop {
        let Some((place, _)) = all.wakers.first_key_value() else {
            all.has_thread = false;
            return;
        };
        let (place, left) = (*place, place.0.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            let due = all.wakers.remove(&place);
            drop(all);
            undisturbed(|| due.into_iter().for_each(Waker::wake));
            all = waiting();
        } else {
            all = CHANGED.wait_timeout(all, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    struct Bell(&'static str, Mutex<Sender<(&'static str, Instant)>>);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            assert_ne!(self.0, "panics");
            let _ = self.1.lock().unwrap().send((self.0, Instant::now()));
        }
    }

    #[test]
    fn tasks_are_woken_in_the_order_of_their_times_and_not_before_them() {
        let (sender, rings) = channel();
        let bell = |name| Waker::from(Arc::new(Bell(name, Mutex::new(sender.clone()))));
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let late = Timer::start(at(60), &bell("late")).unwrap();
        let _panics = Timer::start(at(1), &bell("panics")).unwrap();
        let _soon = Timer::start(at(20), &bell("soon")).unwrap();
        let dropped = Timer::start(at(30), &bell("dropped")).unwrap();
        let again = bell("again");
        let timer = Timer::start(at(40), &again).unwrap();
        drop(dropped);
        assert!(timer.serves(at(40), &again) && !timer.serves(at(39), &again));
        assert!(!timer.serves(at(50), &bell("other")));
        for (name, millis) in [("soon", 20), ("again", 40), ("late", 60)] {
            let (bell, moment) = rings.recv().unwrap();
            assert_eq!(bell, name);
            assert!(moment >= at(millis));
        }
        assert!(!late.serves(at(60), &bell("late")), "it wakes once");
        // The thread ends and starts again.
        let _now = Timer::start(Instant::now(), &bell("now")).unwrap();
        assert_eq!(rings.recv().unwrap().0, "now");
    }
}
