//! What a process notes of its clients and watches, so that it is known even if the process dies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::operation::{Answer, Operation, Record};
use crate::streams::plan::Seen;
use crate::support::child::say;

/// A note; those of one client or watch are in the order in which it happened to them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Line {
    /// Noted before the invocation; without an answer behind it, the outcome is unknown.
    Asked {
        client: String,
        at: u64,
        operation: Operation,
    },
    Answered {
        client: String,
        invoked: u64,
        completed: u64,
        answer: Answer,
    },
    Seen {
        stream: String,
        at: u64,
        seen: Seen,
    },
}

/// Where lines are noted.
#[derive(Clone)]
pub(crate) enum Journal {
    Kept(Arc<Mutex<Vec<Line>>>),
    /// In a child: over the pipe, out of its memory before anything else happens.
    Told,
}

impl Journal {
    pub(crate) fn note(&self, line: Line) {
        match self {
            Self::Kept(lines) => lines.lock().unwrap().push(line),
            Self::Told => say(&format!("@ok {}", serde_json::to_string(&line).unwrap())),
        }
    }
}

/// The operations of these lines.
pub(crate) fn records(lines: &[Line]) -> Vec<Record> {
    let mut open: HashMap<&str, Record> = HashMap::new();
    let mut records = Vec::new();
    for line in lines {
        match line {
            Line::Asked { client, at, operation } => {
                let (client, operation, answer) = (client.clone(), operation.clone(), Answer::Unknown);
                let record = Record { client, invoked: *at, completed: None, operation, answer };
                records.extend(open.insert(line.name(), record));
            }
            Line::Answered { client, invoked, completed, answer } => {
                let asked = open.remove(client.as_str()).expect("an answer follows a question");
                let known = !matches!(answer, Answer::Closed | Answer::Unknown);
                let completed = known.then_some(*completed);
                records.push(Record { invoked: *invoked, completed, answer: answer.clone(), ..asked });
            }
            Line::Seen { .. } => {}
        }
    }
    records.extend(open.into_values());
    records
}

impl Line {
    /// When it was noted.
    pub(crate) fn at(&self) -> u64 {
        match self {
            Self::Asked { at, .. } | Self::Seen { at, .. } => *at,
            Self::Answered { completed, .. } => *completed,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Asked { client, .. } | Self::Answered { client, .. } => client,
            Self::Seen { stream, .. } => stream,
        }
    }
}
