//! Threads that call a peer at once, as tasks call the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{Pace, Random, pace};

/// How many have begun: each draws other numbers.
static SEED: AtomicU64 = AtomicU64::new(0);

/// Repeats `work` in so many threads until the turn is over.
pub(crate) fn repeat(threads: usize, turn: Duration, work: impl Fn(&mut Random) + Sync) -> Pace {
    let end = Instant::now() + turn;
    let run = || {
        let mut random = Random::new(SEED.fetch_add(1, Ordering::Relaxed));
        let mut count = 0;
        while count == 0 || Instant::now() < end {
            work(&mut random);
            count += 1;
        }
        count
    };
    pace(|| {
        thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    })
}
