//! Waking watches. A waker is code of the program, and may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// The watches to be woken. They carry no data: a watch that is woken reads on from its own cursor.
#[must_use = "watches wait for it"]
#[derive(Default)]
pub(crate) struct Wakers(pub(super) Vec<Waker>);

impl Wakers {
    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(|waker| undisturbed(|| waker.wake()));
    }
}

/// Runs code that calls a waker of the program. If the waker panics, the others are still woken, and the
/// calling thread goes on.
pub(crate) fn undisturbed(wake: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(wake));
}
