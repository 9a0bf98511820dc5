//! Locks, atomics, the queue of the writer and the pointer to the published state. In the build that
//! tries interleavings (`tests/kernels`) they are those of its scheduler.

#[cfg(not(kernels))]
pub(crate) use arc_swap::{ArcSwap, Guard};
#[cfg(not(kernels))]
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, atomic};

/// A queue of which one end is held by many.
#[cfg(all(not(kernels), feature = "sqlite"))]
pub(crate) use crossbeam_channel as queue;

#[cfg(kernels)]
pub(crate) use scheduled::{ArcSwap, Guard, queue};
#[cfg(kernels)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, PoisonError, RwLock, atomic};

#[cfg(kernels)]
mod scheduled {
    use std::sync::Arc;

    use super::{PoisonError, RwLock};

    pub(crate) mod queue {
        pub(crate) use shuttle::sync::mpsc::{Receiver, Sender, TryRecvError, channel as unbounded};
    }

    /// Each load and store is a step that the scheduler sees.
    pub(crate) struct ArcSwap<T>(RwLock<Arc<T>>);

    pub(crate) type Guard<T> = T;

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self(RwLock::new(Arc::new(value)))
        }

        pub(crate) fn load(&self) -> Arc<T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            self.load()
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
        }
    }
}
