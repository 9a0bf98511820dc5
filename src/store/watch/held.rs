//! What a watch has read and not yet delivered. It is held within the budget of all watches, and may be lost.

use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};

use crate::error::Result;
use crate::limits::Limits;
use crate::store::feed::{Budget, Denied, Lease, Loan};
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
    /// How often the watch was denied, or lost a page, since it last delivered something.
    losses: u32,
    /// The bytes that a page needs that was read before and did not fit.
    pub(super) need: usize,
}

impl Claim {
    /// Waits for room. Others have their turn first.
    pub(super) fn wait(&mut self, denied: Denied, context: &Context<'_>) -> Poll<()> {
        if denied == Denied::InTurn {
            self.losses = self.losses.saturating_add(1);
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Notes that what was read is lost.
    pub(super) fn lost(&mut self, need: usize) {
        self.need = self.need.max(need);
        self.losses = self.losses.saturating_add(1);
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
        let lease = budget.take(bytes.max(claim.need), claim.losses, held.weak(), waker)?;
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
