//! Sources of randomness.

use std::fmt;
use std::sync::Mutex;

use crate::sync::whole;

/// A source of random bytes, for the salts of values and the ids of stores.
///
/// The store draws a salt for each value of a batch before it decides, also of a batch that it then refuses.
pub trait Entropy: Send + Sync {
    /// Fills the buffer with random bytes; returns false if it cannot.
    fn fill(&self, buffer: &mut [u8]) -> bool;
}

/// The operating system's random bytes, drawn a few kilobytes at a time.
#[derive(Default)]
pub struct OsEntropy {
    pool: Mutex<Vec<u8>>,
}

impl fmt::Debug for OsEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OsEntropy")
    }
}

impl Entropy for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) -> bool {
        const POOL: usize = 4096;
        if buffer.len() > POOL {
            return getrandom::fill(buffer).is_ok();
        }
        let mut pool = whole(self.pool.lock());
        if pool.len() < buffer.len() {
            let mut fresh = vec![0; POOL];
            if getrandom::fill(&mut fresh).is_err() {
                return false;
            }
            *pool = fresh;
        }
        let rest = pool.len() - buffer.len();
        for (byte, random) in buffer.iter_mut().zip(pool.drain(rest..)) {
            *byte = random;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_are_given_out_twice() {
        let entropy = OsEntropy::default();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..2000 {
            let mut salt = [0; 16];
            assert!(entropy.fill(&mut salt));
            assert!(seen.insert(salt));
        }
        let mut large = vec![0; 10_000];
        assert!(entropy.fill(&mut large) && large.iter().any(|byte| *byte != 0));
    }
}
