//! The state at a point, and how it goes on from there.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use univrs_state::history::Past;
use univrs_state::log::{Change, ChangeKind};
use univrs_state::pattern::Pattern;
use univrs_state::{Scan, Seq};

use crate::json::{plain, quote};
use crate::selection::{matches, prefix};
use crate::source::Source;
use crate::stop::Done;

/// Changes that are read at a time.
const PAGE: usize = 1_000;

/// The entries at a point, as JSON. Clones share them.
#[derive(Clone)]
pub(crate) struct State {
    at: Seq,
    /// An erased value is `None`.
    entries: BTreeMap<Arc<str>, Option<Arc<str>>>,
}

impl State {
    /// Reads the state at a point: of the keys that one of the patterns matches.
    pub(crate) async fn read(patterns: &[Pattern], past: &Past) -> Done<Self> {
        let mut state = Self { at: past.seq(), entries: BTreeMap::new() };
        let prefix = if let [one] = patterns { prefix(one) } else { "" };
        let mut next = Some(Scan::prefix(prefix).skip_erased());
        while let Some(scan) = next {
            let page = past.scan(scan).await?;
            let entries = page.entries.iter().map(|entry| (&*entry.key, Some(&*entry.value)));
            for (key, value) in entries.chain(page.erased.iter().map(|key| (&**key, None))) {
                if matches(patterns, key) {
                    state.entries.insert(key.into(), value.map(json));
                }
            }
            next = page.next;
        }
        Ok(state)
    }

    /// The state at a later point, by the changes up to there.
    pub(crate) async fn ahead(&self, source: &Source, patterns: &[Pattern], to: Seq) -> Done<Self> {
        let mut state = self.clone();
        while state.at < to {
            let commits = source.changes(state.at, PAGE).await?;
            let Some(last) = commits.last() else { break };
            let (after, next) = (state.at, last.last);
            for change in commits.iter().flat_map(|commit| &commit.changes) {
                if change.seq > after && change.seq <= to && matches(patterns, &change.key) {
                    state.apply(change);
                }
            }
            state.at = next.min(to);
        }
        state.at = to;
        Ok(state)
    }

    fn apply(&mut self, change: &Change) {
        if change.kind == ChangeKind::Deleted {
            self.entries.remove(&change.key);
        } else {
            self.entries.insert(change.key.clone(), change.value.as_deref().map(json));
        }
    }

    /// Where it is.
    pub(crate) fn at(&self) -> Seq {
        self.at
    }

    /// As one JSON object, and whether values of it are gone.
    pub(crate) fn json(&self) -> (String, bool) {
        let (mut json, mut erased) = (String::from("{"), false);
        for (key, value) in &self.entries {
            erased |= value.is_none();
            let comma = if json.len() > 1 { "," } else { "" };
            // Writing to a string does not fail.
            let _ = write!(json, "{comma}{}:{}", quote(key), value.as_deref().unwrap_or("null"));
        }
        json.push('}');
        (json, erased)
    }
}

fn json(value: &[u8]) -> Arc<str> {
    plain(value).into()
}
