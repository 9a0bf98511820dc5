//! To wake what waits, without harm from a program's waker.

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

/// Runs what calls a waker. That is the program's: a panic in one must not cost others theirs, or end
/// the thread that calls it.
pub(crate) fn undisturbed(wake: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(wake));
}
