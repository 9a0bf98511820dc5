//! What is different between two states: of one store, or of two.

use std::cmp::Ordering;
use std::collections::VecDeque;

use univrs_state::history::{Diff, Difference, Past};
use univrs_state::log::{Change, ChangeKind};
use univrs_state::pattern::Pattern;
use univrs_state::{Entry, Scan};

use crate::selection::{matches, prefix};
use crate::source::Source;
use crate::stop::Done;

/// The most pairs of two stores that are put together, and about the most bytes of their values.
const MOST: usize = 200;
const MOST_BYTES: usize = 4 << 20;

/// A key that is not the same in both states.
pub(crate) struct Pair {
    pub(crate) key: String,
    /// The change that left its value in the first state; none where it is absent there.
    pub(crate) before: Option<Change>,
    /// Its last change in the second state; none where it has none. A deletion says by whom.
    pub(crate) after: Option<Change>,
}

impl Pair {
    pub(crate) fn kind(&self) -> ChangeKind {
        match (&self.before, self.now()) {
            (None, _) => ChangeKind::Created,
            (Some(_), Some(_)) => ChangeKind::Updated,
            (Some(_), None) => ChangeKind::Deleted,
        }
    }

    /// The change that left its value in the second state.
    pub(crate) fn now(&self) -> Option<&Change> {
        self.after.as_ref().filter(|after| after.kind != ChangeKind::Deleted)
    }
}

/// The pairs of two states, in the order of keys, a page at a time.
#[allow(clippy::large_enum_variant)] // there is one at a time
pub(crate) enum Pairs<'a> {
    Within(Within<'a>),
    Across(Across<'a>),
}

impl<'a> Pairs<'a> {
    /// Between two points of one store.
    pub(crate) fn within(source: &'a Source, from: &Past, to: &Past, patterns: &'a [Pattern]) -> Self {
        let diff = Diff::between(from.cursor(), to.cursor()).prefix(start(patterns));
        Self::Within(Within { source, patterns, next: Some(diff) })
    }

    /// Between states of two stores.
    pub(crate) fn across(
        from: (&'a Source, &'a Past),
        to: (&'a Source, &'a Past),
        patterns: &'a [Pattern],
    ) -> Self {
        let side = |(source, past)| Side {
            source,
            past,
            patterns,
            next: Some(Scan::prefix(start(patterns)).skip_erased()),
            read: VecDeque::new(),
        };
        Self::Across(Across { from: side(from), to: side(to) })
    }

    /// The next ones; none at the end.
    pub(crate) async fn next(&mut self) -> Done<Option<Vec<Pair>>> {
        match self {
            Self::Within(within) => within.next().await,
            Self::Across(across) => across.next().await,
        }
    }
}

/// What the keys start with that are looked at.
fn start(patterns: &[Pattern]) -> &str {
    if let [pattern] = patterns { prefix(pattern) } else { "" }
}

pub(crate) struct Within<'a> {
    source: &'a Source,
    patterns: &'a [Pattern],
    next: Option<Diff>,
}

impl Within<'_> {
    async fn next(&mut self) -> Done<Option<Vec<Pair>>> {
        let Some(diff) = self.next.take() else { return Ok(None) };
        let page = self.source.diff(diff).await?;
        self.next = page.next;
        let differs = |one: &Difference| !one.is_same_value() && matches(self.patterns, &one.key);
        let pairs = page.differences.into_iter().filter(differs);
        Ok(Some(pairs.map(|one| Pair { key: one.key, before: one.before, after: one.after }).collect()))
    }
}

pub(crate) struct Across<'a> {
    from: Side<'a>,
    to: Side<'a>,
}

impl Across<'_> {
    async fn next(&mut self) -> Done<Option<Vec<Pair>>> {
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        while pairs.len() < MOST && bytes < MOST_BYTES {
            let Some(pair) = self.step().await? else { break };
            let values = [&pair.before, &pair.after].into_iter().flatten();
            bytes +=
                values.filter_map(|change| change.value.as_ref()).map(|value| value.len()).sum::<usize>();
            pairs.push(pair);
        }
        Ok((!pairs.is_empty()).then_some(pairs))
    }

    /// The next key that is not the same.
    async fn step(&mut self) -> Done<Option<Pair>> {
        loop {
            let order = match (self.from.peek().await?, self.to.peek().await?) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(from), Some(to)) => from.cmp(to),
            };
            let from = if order.is_le() { self.from.read.pop_front() } else { None };
            let to = if order.is_ge() { self.to.read.pop_front() } else { None };
            let value = |read: &Option<Read>| Some(read.as_ref()?.1.as_ref()?.value.clone());
            if value(&from).is_some() && value(&from) == value(&to) {
                continue;
            }
            let Some((key, _)) = from.or(to) else { return Ok(None) };
            let (before, after) = (self.from.change(&key).await?, self.to.change(&key).await?);
            let before = before.filter(|before| before.kind != ChangeKind::Deleted);
            let hash = |change: &Option<Change>| change.as_ref().and_then(|change| change.value_hash);
            // Values that are gone are the same where their hashes are.
            if hash(&before).is_none() || hash(&before) != hash(&after) {
                return Ok(Some(Pair { key, before, after }));
            }
        }
    }
}

/// A key, and its entry unless the value is gone.
type Read = (String, Option<Entry>);

/// The entries of a state, in order; a value that is gone leaves its key.
struct Side<'a> {
    source: &'a Source,
    past: &'a Past,
    patterns: &'a [Pattern],
    next: Option<Scan>,
    read: VecDeque<Read>,
}

impl Side<'_> {
    /// The key of the next one.
    async fn peek(&mut self) -> Done<Option<&str>> {
        while self.read.is_empty()
            && let Some(scan) = self.next.take()
        {
            let page = self.past.scan(scan).await?;
            self.next = page.next;
            let entries = page.entries.into_iter().map(|entry| (entry.key.clone(), Some(entry)));
            let mut read: Vec<_> = entries.chain(page.erased.into_iter().map(|key| (key, None))).collect();
            read.retain(|(key, _)| matches(self.patterns, key));
            read.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            self.read.extend(read);
        }
        Ok(self.read.front().map(|(key, _)| key.as_str()))
    }

    /// The last change of a key in this state.
    async fn change(&self, key: &str) -> Done<Option<Change>> {
        let before = Some(self.past.seq().next());
        Ok(self.source.history(key, before, 1).await?.into_iter().next())
    }
}
