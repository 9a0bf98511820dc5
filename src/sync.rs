//! Locks and how they are taken, atomics, the writer's queue and the pointer to the published state. The
//! build that tries interleavings (`tests/kernels`) has those of its scheduler instead.

#[cfg(not(kernels))]
pub(crate) use arc_swap::{ArcSwap, Guard};
#[cfg(not(kernels))]
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

/// A queue with many senders and one receiver.
#[cfg(all(not(kernels), feature = "sqlite"))]
pub(crate) use crossbeam_channel as queue;

#[cfg(kernels)]
pub(crate) use scheduled::{ArcSwap, Guard, queue};
#[cfg(kernels)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

use std::sync::PoisonError;

/// The guard of a lock, also if a thread panicked while it held the lock.
///
/// A panic poisons a lock, because the data that it guards may be half changed. Here they are not.
///
/// IMPORTANT: code that can panic, such as the clock of a program, must run before anything is changed under
/// a lock.
fn whole<G>(taken: Result<G, PoisonError<G>>) -> G {
    taken.unwrap_or_else(PoisonError::into_inner)
}

/// Locks a mutex.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    whole(mutex.lock())
}

/// Takes a lock for reading, shared with other readers.
pub(crate) fn read_lock<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    whole(lock.read())
}

/// Takes a lock for writing, without any reader.
pub(crate) fn write_lock<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    whole(lock.write())
}

#[cfg(kernels)]
mod scheduled {
    use std::sync::Arc;

    use super::RwLock;

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
            super::read_lock(&self.0).clone()
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            self.load()
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            *super::write_lock(&self.0) = value;
        }
    }
}
