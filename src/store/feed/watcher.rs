//! A watch, as publication and the statistics know it.

use std::task::Waker;

use crate::log::Head;
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::sync::{Mutex, lock};

/// A watch that has joined a store.
pub(crate) struct Watcher {
    id: u64,
    pattern: Pattern,
    state: Mutex<State>,
}

struct State {
    waker: Option<Waker>,
    /// Whether something that concerns it was published which it has not read.
    behind: bool,
    /// Nothing up to here concerns it but what it has read.
    passed: Head,
    /// Where its delivery stands, while it has not delivered all that it has read.
    delivered: Option<Seq>,
}

impl Watcher {
    /// A watch that has passed over everything up to here.
    pub(crate) fn new(id: u64, pattern: Pattern, passed: Head) -> Self {
        Self { id, pattern, state: Mutex::new(State { waker: None, behind: false, passed, delivered: None }) }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Something that concerns it follows this head; returns what wakes it, if it waits.
    pub(crate) fn mark(&self, before: Head) -> Option<Waker> {
        let mut state = lock(&self.state);
        if !state.behind {
            state.behind = true;
            state.pass(before);
        }
        state.waker.take()
    }

    /// What wakes it, if it waits.
    pub(crate) fn wake(&self) -> Option<Waker> {
        lock(&self.state).waker.take()
    }

    /// Whether there is something to read; if not, the waker is called when there is.
    pub(crate) fn listen(&self, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        let known = state.waker.as_ref().is_some_and(|known| known.will_wake(waker));
        let old = if known { None } else { state.waker.replace(waker.clone()) };
        let behind = state.behind;
        drop(state);
        drop(old); // It may own a task, and that another watch: nothing is locked meanwhile.
        behind
    }

    /// It has read everything up to here; returns how far it has passed over the log.
    pub(crate) fn pass(&self, read: Head) -> Head {
        let mut state = lock(&self.state);
        state.pass(read);
        state.passed
    }

    /// It has read all that was published.
    pub(crate) fn keeps_up(&self) {
        lock(&self.state).behind = false;
    }

    /// It has delivered everything up to here, and holds more; or all that it has read.
    pub(crate) fn delivers(&self, delivered: Option<Seq>) {
        lock(&self.state).delivered = delivered;
    }

    /// Everything up to here was delivered or passed over.
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
