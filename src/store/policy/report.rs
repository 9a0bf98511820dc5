//! What became of a run of the policy.

use std::fmt;

use crate::error::Result;
use crate::log::Timestamp;
use crate::seq::Seq;
use crate::state::Policy;
use crate::store::retain::{Compacted, CompactionPlan, Thinned, ThinningPlan};

/// What a run of the policy did. Made by [`Retention::retain`](crate::retain::Retention::retain).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Retained {
    /// The policy; `None` if there is none, so everything is kept.
    pub policy: Option<Policy>,
    /// The compaction, if anything was due to leave.
    pub compacted: Option<Compacted>,
    /// The thinnings that dropped something, in the order of the policy's rules.
    pub thinned: Vec<Thinned>,
    /// What kept the run from going as far as the policy says.
    pub held_back: Vec<HoldBack>,
}

/// What a run of the policy would do. Made by [`Retention::plan_retention`](crate::retain::Retention::plan_retention).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RetentionPlan {
    /// The policy; `None` if there is none, so everything is kept.
    pub policy: Option<Policy>,
    /// The compaction, if anything is due to leave.
    pub compaction: Option<CompactionPlan>,
    /// The thinnings that would drop something if there were no compaction before them, in the order of the policy's rules.
    pub thinnings: Vec<ThinningPlan>,
    /// What keeps the run from going as far as the policy says.
    pub held_back: Vec<HoldBack>,
}

/// What keeps a run from going as far as the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoldBack {
    /// A consumer is not done with what lies after this position.
    Consumer {
        /// Its name.
        name: String,
        /// Up to here it is done.
        at: Seq,
    },
    /// A mark names this position, and the policy spares marks.
    Mark {
        /// Its name.
        name: String,
        /// What it names.
        at: Seq,
    },
    /// A watch of this process has not delivered what lies after this position.
    Watch {
        /// Its pattern.
        pattern: String,
        /// Up to here it has.
        at: Seq,
    },
    /// A run on a schedule goes no further than this time for now, in case the clock is wrong. It may go further later, or
    /// when somebody asks for a run.
    Pace {
        /// The time.
        to: Timestamp,
    },
    /// When the store was opened, the clock was more than a day ahead of the newest commit. A run on a schedule waits until
    /// somebody asks for a run, accepts the clock or sets the policy.
    Clock,
    /// Nobody has asked for the first run of this policy yet. A run on a schedule waits for that.
    FirstRun,
}

impl fmt::Display for HoldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consumer { name, at } => write!(f, "the consumer {name} is done up to {at} only"),
            Self::Mark { name, at } => write!(f, "the mark {name} names {at}"),
            Self::Watch { pattern, at } => write!(f, "a watch of {pattern} has delivered up to {at} only"),
            Self::Pace { to } => {
                write!(f, "a run on a schedule goes up to {to} for now, in case the clock is wrong; ask for a run to go further")
            }
            Self::Clock => f.write_str(
                "the clock was more than a day ahead of the newest commit when the store was opened; ask for a run if it is right",
            ),
            Self::FirstRun => f.write_str("nobody has asked for the first run of this policy yet; ask for one"),
        }
    }
}

/// The last run on a schedule. Returned by [`Retention::last_retention`](crate::retain::Retention::last_retention).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scheduled {
    /// When it ended, by the clock of the store.
    pub at: Timestamp,
    /// What it did.
    pub result: Result<Retained>,
}
