//! Where a store's file is, however its path is spelled, and a lock for each such place.

use std::ffi::OsString;
use std::sync::Arc;

use super::config::{Location, Opening};
use super::path::identity;
use crate::sync::{Mutex, lock};

/// A name in a folder: two paths that lead to one name in one folder have one place. Other names of the same file,
/// which hard links give it, are other places, because they have other files beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    folder: Option<(u64, u64)>,
    name: OsString,
}

impl Opening {
    /// The place of the file, and the device and inode number of what is there now; `None` in memory, on a
    /// simulated disk, and where files have no such numbers.
    ///
    /// The path must have been [prepared](Self::enter).
    pub(crate) fn place(&self) -> Option<Place> {
        match &self.location {
            Location::File(file) if self.is_real() => {
                let (folder, name) = (identity(file.parent()?).ok()?, file.file_name()?.to_owned());
                Some(Place { folder, name })
            }
            _ => None,
        }
    }

    /// The device and the inode number of the file that is at the path now; `None` if there is none.
    pub(crate) fn file_number(&self) -> Option<(u64, u64)> {
        match &self.location {
            Location::File(file) => identity(file).ok().flatten(),
            Location::Memory => None,
        }
    }

    /// Whether the files of an open store are still those that it uses, under one name alone.
    pub(crate) fn is_in_place(&self) -> bool {
        self.check_beside().is_ok() && self.check_only_name().is_ok()
    }
}

/// A lock for each place. Who waits at one place holds up nobody at another.
pub(crate) struct PlaceLocks(Mutex<Vec<(Place, Arc<Mutex<()>>)>>);

impl PlaceLocks {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Runs while no other thread runs at the same place. Without a place it runs at once.
    pub(crate) fn at<T>(&self, place: Option<&Place>, run: impl FnOnce() -> T) -> T {
        let Some(place) = place else { return run() };
        let own = self.of(place);
        let result = {
            let _held = lock(&own);
            run()
        };
        drop(own);
        lock(&self.0).retain(|(_, used)| Arc::strong_count(used) > 1);
        result
    }

    fn of(&self, place: &Place) -> Arc<Mutex<()>> {
        let mut locks = lock(&self.0);
        if let Some((_, found)) = locks.iter().find(|(known, _)| known == place) {
            return found.clone();
        }
        let own = Arc::default();
        locks.push((place.clone(), Arc::clone(&own)));
        own
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    fn place(name: &str) -> Place {
        Place { folder: Some((1, 2)), name: name.into() }
    }

    #[test]
    fn one_place_is_for_one_thread_and_another_place_does_not_wait_for_it() {
        let (locks, (enters, entered), (leave, left)) = (PlaceLocks::new(), channel(), channel::<()>());
        let (one, other) = (place("a"), place("b"));
        thread::scope(|scope| {
            let enters_first = enters.clone();
            let first = move || {
                enters_first.send(1).unwrap();
                left.recv().unwrap();
                enters_first.send(2).unwrap();
            };
            let (locks, one) = (&locks, &one);
            scope.spawn(move || locks.at(Some(one), first));
            assert_eq!(entered.recv(), Ok(1));
            scope.spawn(move || locks.at(Some(one), || enters.send(3).unwrap()));
            assert_eq!(locks.at(Some(&other), || "at once"), "at once");
            assert_eq!(locks.at(None, || "at once"), "at once");
            leave.send(()).unwrap();
            assert_eq!([entered.recv(), entered.recv()], [Ok(2), Ok(3)]);
        });
        assert!(lock(&locks.0).is_empty(), "no lock is left behind");
    }
}
