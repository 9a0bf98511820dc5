//! A watch, as publication and the statistics know it.

use std::task::Waker;

use crate::failpoint::failpoint;
use crate::log::Head;
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

/// A watch that has joined a store.
pub(crate) struct Watcher {
    id: u64,
    pattern: Pattern,
    /// Whether a consumer reads by it, whose position is recorded.
    recorded: AtomicBool,
    state: Mutex<State>,
}

struct State {
    waker: Option<Waker>,
    /// Whether a matching change was published that the watch has not read.
    behind: bool,
    /// Up to this head, the watch has read every matching change.
    passed: Head,
    /// The position up to which it has delivered, while it has not delivered all that it has read.
    delivered: Option<Seq>,
}

impl Watcher {
    /// A watch that starts after this head.
    pub(crate) fn new(id: u64, pattern: Pattern, passed: Head) -> Self {
        let state = State { waker: None, behind: false, passed, delivered: None };
        Self { id, pattern, recorded: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// Notes that a consumer reads by it.
    pub(crate) fn set_recorded(&self) {
        self.recorded.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_recorded(&self) -> bool {
        self.recorded.load(Ordering::Relaxed)
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Marks that a matching change follows this head; returns the waker, if the watch waits.
    pub(crate) fn mark(&self, before: Head) -> Option<Waker> {
        let mut state = lock(&self.state);
        if !state.behind {
            state.behind = true;
            state.pass(before);
        }
        state.waker.take()
    }

    /// The waker, if the watch waits.
    pub(crate) fn wake(&self) -> Option<Waker> {
        lock(&self.state).waker.take()
    }

    /// Whether there is something to read. If not, the waker is called when there is.
    pub(crate) fn listen(&self, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        let first = failpoint("first_waker_kept") && state.waker.is_some();
        let known = first || state.waker.as_ref().is_some_and(|known| known.will_wake(waker));
        let old = if known { None } else { state.waker.replace(waker.clone()) };
        let behind = state.behind;
        drop(state);
        // IMPORTANT: the old waker is dropped after the lock is released. It may own a task, and the task another
        // watch, whose drop takes locks.
        drop(old);
        behind
    }

    /// Notes that the watch has read everything up to a head; returns the head up to which it needs no more.
    pub(crate) fn pass(&self, read: Head) -> Head {
        let mut state = lock(&self.state);
        state.pass(read);
        state.passed
    }

    /// Notes that the watch has lost what it had read after a head, and must read it again.
    pub(crate) fn falls_back(&self, read: Head) {
        let mut state = lock(&self.state);
        state.behind = true;
        state.passed = read;
    }

    /// Notes that the watch has read all that was published.
    pub(crate) fn keeps_up(&self) {
        lock(&self.state).behind = false;
    }

    /// Notes the position up to which the watch has delivered, if it holds more; `None` if it has delivered all
    /// that it has read.
    pub(crate) fn delivers(&self, delivered: Option<Seq>) {
        lock(&self.state).delivered = delivered;
    }

    /// The position up to which every matching change was delivered.
    pub(crate) fn position(&self, head: Seq) -> Seq {
        let state = lock(&self.state);
        state.delivered.unwrap_or(if state.behind { state.passed.seq } else { head })
    }
}

impl State {
    fn pass(&mut self, head: Head) {
        if head.seq > self.passed.seq {
            self.passed = head;
        }
    }
}
