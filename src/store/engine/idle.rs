//! When an idle store gives back the space of its write-ahead log.

use std::time::Duration;

use crate::backend::sqlite::{LogPages, Moved};
use crate::store::resident::Token;

/// How often a large log is looked at.
const OFTEN: Duration = Duration::from_secs(1);
/// How often a small log is looked at, which another process may have enlarged before it died, and a log of an idle
/// store that a reader has held for long.
const SELDOM: Duration = Duration::from_secs(60);
/// After so many looks without a commit in between a store is idle.
const QUIET_LOOKS: u32 = 5;
/// The file of a log of an idle store may keep so many bytes: emptying it costs syncs, and the next commits grow it
/// again.
const KEPT_BYTES: u64 = 1 << 20;

/// What is to be done after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Nothing,
    /// The log is moved: the reader that held it may be gone.
    Pass,
    /// The log is moved, and its file emptied.
    Empty,
}

/// What the thread of the checkpoints knows of the store between its looks.
#[derive(Debug)]
pub(super) struct Idle {
    /// The bytes of a page in the log.
    frame: u64,
    interval: Duration,
    seen: Option<Token>,
    quiet: u32,
    held: bool,
}

impl Idle {
    pub(super) fn new(frame: u64) -> Self {
        Self { frame, interval: OFTEN, seen: None, quiet: 0, held: false }
    }

    /// How long to sleep before the next look.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Looks at the log and the bytes of its file.
    pub(super) fn look(&mut self, log: &LogPages, token: Token, file: u64) -> Look {
        let idle = self.seen.replace(token) == Some(token);
        if (u64::from(log.used) * self.frame).max(file) <= KEPT_BYTES {
            (self.interval, self.quiet) = (SELDOM, 0);
            return Look::Nothing;
        }
        if !idle {
            (self.interval, self.quiet) = (OFTEN, 0);
            return if self.held { Look::Pass } else { Look::Nothing };
        }
        self.quiet += 1;
        if self.quiet < QUIET_LOOKS {
            return Look::Nothing;
        }
        self.interval = (self.interval * 2).min(SELDOM);
        Look::Empty
    }

    /// Notes what a pass has moved.
    pub(super) fn passed(&mut self, moved: Moved) {
        self.held = moved == Moved::Held;
        if self.interval == SELDOM && self.quiet == 0 {
            self.interval = OFTEN; // There are commits.
        }
    }

    /// Notes whether the log was emptied.
    pub(super) fn emptied(&mut self, moved: Moved) {
        if moved == Moved::All {
            (self.interval, self.quiet, self.seen) = (SELDOM, 0, None);
        }
    }
}
