//! How a command ends when it does not end well: what, the facts, and one hint.

use std::io;

use univrs_state::StateError;

use crate::escape::escape;
use crate::json::{Object, quote};

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Absent, or a condition does not hold.
    No = 1,
    Usage = 2,
    NoStore = 3,
    Busy = 4,
    Integrity = 5,
    HistoryGone = 6,
    Io = 7,
    Bug = 70,
}

/// Why a command stops before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    Failed(Box<Failure>),
    /// The answer is no, as the output says already.
    No,
    /// Nobody reads standard output any longer, which is no failure.
    ClosedPipe,
    /// The number of the signal that ended it.
    Signal(u8),
}

impl Stop {
    /// With one more fact, if it is a failure.
    pub(crate) fn with(mut self, fact: &str) -> Self {
        if let Self::Failed(failure) = &mut self {
            failure.facts.push(fact.to_owned());
        }
        self
    }
}

impl Stop {
    /// With a hint, if it is a failure that names another way but has no hint yet.
    pub(crate) fn or_hint(mut self, hint: impl FnOnce() -> String) -> Self {
        if let Self::Failed(failure) = &mut self
            && !failure.facts.is_empty()
        {
            failure.hint.get_or_insert_with(hint);
        }
        self
    }
}

/// What a command comes to.
pub(crate) type Done<T = ()> = Result<T, Stop>;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// A stable name for machines.
    pub(crate) code: &'static str,
    pub(crate) what: String,
    pub(crate) facts: Vec<String>,
    /// A command that helps.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &'static str, what: impl Into<String>) -> Self {
        Self { exit, code, what: what.into(), facts: Vec::new(), hint: None }
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", what)
    }

    pub(crate) fn io(doing: &str, error: &io::Error) -> Self {
        Self::new(Exit::Io, "io", format!("{doing}: {error}"))
    }

    pub(crate) fn of(error: &StateError) -> Self {
        let what = match error {
            StateError::Compacted { oldest, .. } => {
                format!("the log begins after {oldest}; what was asked for came before")
            }
            error => error.to_string(),
        };
        Self::new(exit_of(error), error.code(), what)
    }

    pub(crate) fn fact(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(fact.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// For people.
    pub(crate) fn lines(&self, error: &str) -> String {
        let mut lines = format!("{error} {}\n", escape(&self.what));
        for fact in &self.facts {
            lines.extend(["  ", &escape(fact), "\n"]);
        }
        if let Some(hint) = &self.hint {
            lines.extend(["  hint: ", &escape(hint), "\n"]);
        }
        lines
    }

    /// For machines.
    pub(crate) fn json(&self) -> String {
        let object = Object::of_type("error")
            .text("code", self.code)
            .number("exit", self.exit as u64)
            .text("message", &self.what)
            .list("facts", self.facts.iter().map(|fact| quote(fact)));
        object.maybe("hint", self.hint.as_deref()).finish()
    }
}

fn exit_of(error: &StateError) -> Exit {
    match error {
        StateError::VersionConflict { .. }
        | StateError::AlreadyExists(_)
        | StateError::Rejected(_)
        | StateError::Fenced(_)
        | StateError::Held(_) => Exit::No,
        StateError::LimitExceeded(_)
        | StateError::CommitIdReused(_)
        | StateError::ReadOnly
        | StateError::Unsupported(_)
        | StateError::InvalidKey(_)
        | StateError::InvalidArgument(_)
        | StateError::SerializationError(_)
        | StateError::KeyNotFound(_)
        | StateError::InsideCommit { .. } => Exit::Usage,
        // Of either, another store or another version is needed; no other arguments help.
        StateError::CannotOpen { .. } | StateError::UpgradeNeeded(_) => Exit::NoStore,
        StateError::Busy(_) => Exit::Busy,
        StateError::Corrupted(_) => Exit::Integrity,
        StateError::Compacted { .. } | StateError::CursorDiverged(_) | StateError::Erased(_) => {
            Exit::HistoryGone
        }
        StateError::OutcomeUnknown(_)
        | StateError::ConnectionError(_)
        | StateError::StorageFull(_)
        | StateError::Storage(_)
        | StateError::Unavailable(_)
        | StateError::ClockLeapt(_) => Exit::Io,
        _ => Exit::Bug,
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Failure::of(&error).into()
    }
}

/// A failure of a whole command, as an error of the given exit.
pub(crate) fn fail<T>(failure: Failure) -> Done<T> {
    Err(failure.into())
}
