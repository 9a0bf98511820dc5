//! To wake what waits, without harm from a program's waker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// The watches to be woken. It carries no data: who hears it reads on from its own cursor.
#[must_use = "watches wait for it"]
#[derive(Default)]
pub(super) struct Bell(pub(super) Vec<Waker>);

impl Bell {
    pub(super) fn ring(self) {
        self.0.into_iter().for_each(|waker| undisturbed(|| waker.wake()));
    }
}

/// Runs what calls a waker. That is the program's: a panic in one must not cost others theirs, or end
/// the thread that calls it.
pub(super) fn undisturbed(wake: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(wake));
}
