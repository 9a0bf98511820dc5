//! The changes of a part of a log, page by page.

use univrs_state::Seq;
use univrs_state::log::Change;
use univrs_state::pattern::Pattern;

use crate::source::Source;
use crate::stop::Done;

/// How many positions a page covers. A page has whole commits, so it may be larger.
const PAGE: u64 = 200;

/// The changes after one position and up to another, from either end.
///
/// Each change is read once, however large its commit is. Pages of positions that read a whole commit for each part of
/// it took 9.8 s for 100 commits of 6,000 changes.
pub(crate) struct Pages<'a> {
    source: &'a Source,
    /// Follows the changes of this key, and reads no others. They lead from the newest to the oldest.
    key: Option<&'a str>,
    /// Oldest first: the ends of the pages of the key that are still to be read, the oldest one last. Known once the
    /// way back was gone.
    ends: Option<Vec<Seq>>,
    oldest_first: bool,
    low: Seq,
    high: Seq,
}

impl<'a> Pages<'a> {
    /// The patterns tell what need not be read; what does not match may come nevertheless.
    pub(crate) fn of(
        source: &'a Source,
        patterns: &'a [Pattern],
        oldest_first: bool,
        (low, high): (Seq, Seq),
    ) -> Self {
        let key = match patterns {
            [one] if !one.as_str().contains('*') && source.is_whole() => Some(one.as_str()),
            _ => None,
        };
        Self { source, key, ends: None, oldest_first, low, high }
    }

    /// The next page; none at the end.
    pub(crate) async fn next(&mut self) -> Done<Option<Vec<Change>>> {
        if self.low >= self.high {
            return Ok(None);
        }
        if let Some(key) = self.key {
            return if self.oldest_first {
                self.of_key_forward(key).await
            } else {
                self.of_key(key).await.map(Some)
            };
        }
        let (low, high) = (self.low.as_u64(), self.high.as_u64());
        let (start, end) = if self.oldest_first {
            (low, high.min(low + PAGE))
        } else {
            (low.max(high.saturating_sub(PAGE)), high)
        };
        let mut changes = self.read(Seq::new(start), Seq::new(end)).await?;
        // A commit that begins before the page or ends behind it came whole, and is not read again.
        let (first, last) = (changes.first().map(|first| first.seq), changes.last().map(|last| last.seq));
        changes.retain(|change| change.seq > self.low && change.seq <= self.high);
        if self.oldest_first {
            self.low = last.unwrap_or(Seq::ZERO).max(Seq::new(end));
        } else {
            self.high = first.map_or(Seq::new(start), |first| first.previous().min(Seq::new(start)));
            changes.reverse();
        }
        Ok(Some(changes))
    }

    async fn of_key(&mut self, key: &str) -> Done<Vec<Change>> {
        let limit = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let before = Seq::new(self.high.as_u64() + 1);
        let mut changes = self.source.history(key, Some(before), limit).await?;
        self.high = match changes.last() {
            Some(oldest) if oldest.prev > Seq::ZERO => oldest.seq.previous(),
            _ => Seq::ZERO,
        };
        changes.retain(|change| change.seq > self.low);
        Ok(changes)
    }

    /// The next page of a key, the oldest changes first. The way back is gone once to find where the pages end, and
    /// each page is read again: no more than one of them is held.
    async fn of_key_forward(&mut self, key: &str) -> Done<Option<Vec<Change>>> {
        if self.ends.is_none() {
            let (newest, mut ends) = (self.high, Vec::new());
            while self.low < self.high {
                ends.push(self.high);
                self.of_key(key).await?;
            }
            (self.high, self.ends) = (newest, Some(ends));
        }
        let Some(end) = self.ends.as_mut().and_then(Vec::pop) else { return Ok(None) };
        let newest = std::mem::replace(&mut self.high, end);
        let changes = self.of_key(key).await;
        self.high = newest;
        let mut changes = changes?;
        changes.reverse();
        Ok(Some(changes))
    }

    /// All changes of the commits that have those after one position and up to another.
    async fn read(&self, after: Seq, to: Seq) -> Done<Vec<Change>> {
        let mut changes = Vec::new();
        let mut next = after;
        while next < to {
            let limit = usize::try_from(to.as_u64() - next.as_u64()).unwrap_or(usize::MAX);
            let commits = self.source.changes(next, limit).await?;
            let Some(last) = commits.last().map(|commit| commit.last) else { break };
            changes.extend(commits.into_iter().flat_map(|commit| commit.changes));
            next = last;
        }
        Ok(changes)
    }
}
