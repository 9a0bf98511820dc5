//! A page of a watch: changes of the log, and the states that they replaced.

use std::ops::ControlFlow;

use crate::backend::{Snapshot, missing};
use crate::error::Result;
use crate::failpoint::failpoint;
use crate::limits::Limits;
use crate::log::{Change, Cursor, Head};
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::store::feed::{Before, Matching, Old};
use crate::store::read::key_history::previous;
use crate::store::read::log::{Enough, check, follow_until, resolve};

/// How many changes a page passes over if few match. SQLite passes over them in some milliseconds.
const SPARSE_CHANGES: u64 = 50_000;

/// A page of a watch.
pub(crate) struct WatchPage {
    /// For each commit with matching changes, these changes and the head after the commit; none if the rest of the
    /// commit is not in the page.
    pub(crate) commits: Vec<(Vec<Matching>, Option<Head>)>,
    /// The head before the page.
    pub(crate) start: Head,
    /// The head at the end of the page: every matching change up to it is in `commits`.
    pub(crate) end: Head,
    /// Whether a commit ends there.
    pub(crate) whole: bool,
}

/// What a page is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) after: After,
    /// About how many bytes it has at most. It has at least one change.
    pub(crate) bytes: usize,
    /// Whether it has whole commits only. If not, a large commit takes several pages.
    pub(crate) whole: bool,
}

/// Where a page starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum After {
    /// After the last commit that ends at or before this.
    Named(Cursor),
    /// Where the page before ended, maybe within a commit.
    Page(Cursor),
}

impl After {
    pub(crate) fn seq(self) -> Seq {
        let (Self::Named(cursor) | Self::Page(cursor)) = self;
        cursor.seq()
    }

    fn head(self, snapshot: &dyn Snapshot) -> Result<Head> {
        match self {
            Self::Page(cursor) if let Some(head) = cursor.head() => {
                check(snapshot, cursor)?;
                Ok(head)
            }
            Self::Named(cursor) | Self::Page(cursor) => resolve(snapshot, cursor),
        }
    }
}

impl WatchPage {
    /// About how many bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.commits.iter().flat_map(|(changes, _)| changes).map(Matching::size).sum()
    }
}

/// The bytes of a page that are for its changes. As many are for the states that they replaced.
fn of_changes(bytes: usize) -> usize {
    (bytes / 2).min(Limits::PAGE_BYTES)
}

/// Whether a page has enough if another change like the last one, of this many bytes, would be too much.
fn is_enough(read: usize, last: usize, bytes: usize) -> bool {
    read + last > of_changes(bytes)
}

/// Reads a page of the log, with the changes that match the pattern.
///
/// The states that the changes replaced are read with them as far as they fit a page. The rest is read later
/// in slices, so that a commit that deletes large values takes no more memory than others.
pub(crate) fn watch(snapshot: &dyn Snapshot, pattern: &Pattern, wanted: Wanted) -> Result<WatchPage> {
    let start = wanted.after.head(snapshot)?;
    let mut commits: Vec<(Vec<Matching>, Option<Head>)> = Vec::new();
    let (mut open, mut read, mut whole, mut enough) = (Vec::new(), 0, true, Enough::NotYet);
    let end = follow_until(snapshot, start, Limits::PAGE_CHANGES, |change| {
        let head = change.closes_commit().then(|| change.head());
        whole = head.is_some();
        if pattern.matches(&change.key) {
            let size = change.size();
            read += size;
            open.push(Matching::alone(change));
            if is_enough(read, size, wanted.bytes) {
                enough = if wanted.whole { Enough::WithCommit } else { Enough::Here };
            }
        }
        if whole && !open.is_empty() {
            commits.push((std::mem::take(&mut open), head));
        }
        enough
    })?;
    if !open.is_empty() {
        commits.push((open, None));
    }
    read_old(snapshot, &mut commits, of_changes(wanted.bytes))?;
    Ok(WatchPage { commits, start, end, whole })
}

/// Reads a page of the log where few changes match. The storage passes over the others.
///
/// In a log of 200,000 changes, catching up with one of 10,000 keys takes 36 ms of processor time, and 260 ms if
/// every change is read and checked.
///
/// It checks less: each matching change against its hash and the hash of the change before it, and the start of
/// the page. The changes between them are not read. So this watch does not notice one that was altered, cut out
/// or inserted there, nor one whose key was altered so that it no longer matches. A verification finds them, and
/// so does a watch of all keys.
pub(crate) fn watch_few(snapshot: &dyn Snapshot, pattern: &Pattern, wanted: Wanted) -> Result<WatchPage> {
    let start = wanted.after.head(snapshot)?;
    let most = Seq::new(start.seq.as_u64() + SPARSE_CHANGES);
    let mut end = snapshot.commit_end(snapshot.head()?.seq.min(most))?;
    if end.seq <= start.seq {
        return watch(snapshot, pattern, wanted); // One commit that is larger than that.
    }
    let mut found: Vec<(Vec<Matching>, Seq)> = Vec::new();
    let (mut changes, mut read, mut full, mut whole) = (0, 0, false, true);
    snapshot.changes_below(pattern.prefix(), start.seq, end.seq, &mut |change| {
        if pattern.matches(&change.key) {
            changes += 1;
            read += change.size();
            let enough = changes > Limits::PAGE_CHANGES || read > of_changes(wanted.bytes);
            match found.last_mut() {
                Some((commit, seq)) if *seq == change.commit_seq && (wanted.whole || !enough) => {
                    commit.push(Matching::alone(change));
                }
                Some((_, seq)) if enough => (full, whole) = (true, *seq != change.commit_seq),
                _ => {
                    let commit = change.commit_seq;
                    found.push((vec![Matching::alone(change)], commit));
                }
            }
        }
        Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let mut commits = Vec::with_capacity(found.len());
    for (changes, seq) in found {
        let hash = snapshot.hash_at(seq)?.ok_or_else(|| missing(seq))?;
        commits.push((changes, Some(Head { seq, hash })));
    }
    if let (true, Some((changes, head))) = (full, commits.last_mut())
        && !failpoint("rest_of_sparse_page")
    {
        if !whole {
            *head = None;
        }
        end = head.or(changes.last().map(|last| last.change.head())).unwrap_or(end);
    }
    read_old(snapshot, &mut commits, of_changes(wanted.bytes))?;
    Ok(WatchPage { commits, start, end, whole })
}

/// Reads the states that the changes replaced, until these bytes are read.
fn read_old(
    snapshot: &dyn Snapshot,
    commits: &mut [(Vec<Matching>, Option<Head>)],
    most: usize,
) -> Result<()> {
    let mut bytes = 0;
    let due = commits.iter_mut().flat_map(|(changes, _)| changes).filter(|m| matches!(m.old, Old::Due));
    for matching in due {
        let before = previous(snapshot, &matching.change)?;
        bytes += before.as_ref().map_or(0, Change::size);
        matching.old = Old::Read(before.as_ref().map(Before::change));
        if bytes >= most {
            break;
        }
    }
    Ok(())
}

/// Reads, for each of these changes, the state that it replaced: at least one, until half the bytes of a page are read.
pub(crate) fn old_changes(
    snapshot: &dyn Snapshot,
    changes: &[Change],
    bytes_of_page: usize,
) -> Result<Vec<Option<Before>>> {
    let (mut old, mut bytes) = (Vec::new(), 0);
    for change in changes {
        let before = previous(snapshot, change)?;
        bytes += before.as_ref().map_or(0, Change::size);
        old.push(before.as_ref().map(Before::change));
        if bytes >= of_changes(bytes_of_page) {
            break;
        }
    }
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{LogView, Memory, View};
    use crate::log::StoreId;
    use crate::state::Batch;

    /// A log of these commits.
    fn log(commits: impl IntoIterator<Item = Batch>) -> Memory {
        Memory::of(StoreId::from_bytes([3; 16]), commits)
    }

    type Read = fn(&dyn Snapshot, &Pattern, Wanted) -> Result<WatchPage>;

    fn wanted(after: Cursor, bytes: usize) -> Wanted {
        Wanted { after: After::Named(after), bytes, whole: true }
    }

    fn seqs(page: &WatchPage) -> Vec<u64> {
        page.commits.iter().flat_map(|(changes, _)| changes).map(|m| m.change.seq.as_u64()).collect()
    }

    #[test]
    fn a_page_ends_when_its_bytes_are_full_and_the_next_one_goes_on_there() {
        const KIB: usize = 1 << 10;
        let log = log((0..10).map(|n| Batch::new().set(format!("/a/{n}"), vec![0; 10 * KIB])));
        let pattern: Pattern = "/a/*".parse().unwrap();
        for read in [watch as Read, watch_few] {
            let (mut all, mut after, mut pages) = (Vec::new(), Cursor::from(Seq::ZERO), 0);
            while all.len() < 10 {
                let page = read(&log, &pattern, wanted(after, 60 * KIB)).unwrap();
                let changes = seqs(&page).len();
                assert!(
                    (1..=4).contains(&changes),
                    "{changes} changes of 10 KiB in a page of 30 KiB for changes"
                );
                all.extend(seqs(&page));
                after = Cursor::new(log.store_id(), page.end);
                pages += 1;
            }
            assert_eq!(all, (1..=10).collect::<Vec<_>>());
            assert!(pages >= 3);
        }
    }

    #[test]
    fn a_page_of_few_passes_over_so_many_changes_and_the_next_one_goes_on_there() {
        let many = |from: u64| {
            (from..from + SPARSE_CHANGES / 5)
                .fold(Batch::new(), |batch, n| batch.set(format!("/many/{n}"), "x"))
        };
        let mut commits: Vec<Batch> = (0..6).map(|n| many(n * SPARSE_CHANGES / 5)).collect();
        commits.push(Batch::new().set("/rare", "1"));
        let (log, pattern) = (log(commits), "/rare".parse().unwrap());
        let page = watch_few(&log, &pattern, wanted(Seq::ZERO.into(), usize::MAX)).unwrap();
        assert_eq!((seqs(&page), page.end.seq), (Vec::new(), Seq::new(SPARSE_CHANGES)));
        let after = Cursor::new(log.store_id(), page.end);
        let page = watch_few(&log, &pattern, wanted(after, usize::MAX)).unwrap();
        let last = SPARSE_CHANGES / 5 * 6 + 1;
        assert_eq!((seqs(&page), page.end.seq), (vec![last], Seq::new(last)));
    }

    /// Keys whose changes all take the same room.
    fn key(n: u64) -> String {
        format!("/a/{n:04}")
    }

    fn changes_after(log: &Memory, after: Seq) -> Vec<Change> {
        let mut changes = Vec::new();
        let take = &mut |change| {
            changes.push(change);
            Ok(ControlFlow::Continue(()))
        };
        log.changes(after, take).unwrap();
        changes
    }

    fn size(log: &Memory) -> usize {
        changes_after(log, Seq::ZERO)[0].size()
    }

    #[test]
    fn a_page_has_as_many_changes_as_fit_in_half_of_its_bytes() {
        let log = log((0..10).map(|n| Batch::new().set(key(n), "x")));
        let pattern: Pattern = "/a/*".parse().unwrap();
        for read in [watch as Read, watch_few] {
            let page = read(&log, &pattern, wanted(Seq::ZERO.into(), 2 * 4 * size(&log))).unwrap();
            assert_eq!((seqs(&page), page.end.seq), (vec![1, 2, 3, 4], Seq::new(4)));
            let page = read(&log, &pattern, wanted(Seq::new(4).into(), 2 * 6 * size(&log))).unwrap();
            assert_eq!((seqs(&page), page.end.seq), ((5..=10).collect(), Seq::new(10)));
        }
    }

    #[test]
    fn a_page_has_so_many_changes_in_whole_commits() {
        let most = Limits::PAGE_CHANGES as u64;
        let pattern: Pattern = "/a/*".parse().unwrap();
        for (of, many, few) in [(1, most, most), (3, most.next_multiple_of(3), most.next_multiple_of(3))] {
            let commits = (0..2 * most / of)
                .map(|n| (0..of).fold(Batch::new(), |batch, m| batch.set(key(n * of + m), "x")));
            let log = log(commits);
            let page = watch(&log, &pattern, wanted(Seq::ZERO.into(), usize::MAX)).unwrap();
            assert_eq!((seqs(&page).len() as u64, page.end.seq), (many, Seq::new(many)));
            let page = watch_few(&log, &pattern, wanted(Seq::ZERO.into(), usize::MAX)).unwrap();
            assert_eq!((seqs(&page).len() as u64, page.end.seq), (few, Seq::new(few)));
        }
    }

    #[test]
    fn a_large_commit_takes_several_pages_where_pages_need_not_be_whole() {
        let log = log([(0..10).fold(Batch::new(), |batch, n| batch.set(key(n), "x"))]);
        let pattern: Pattern = "/a/*".parse().unwrap();
        let bytes = 2 * 4 * size(&log);
        for read in [watch as Read, watch_few] {
            let mut after = After::Named(Seq::ZERO.into());
            for (due, whole) in [(1..=4, false), (5..=8, false), (9..=10, true)] {
                let page = read(&log, &pattern, Wanted { after, bytes, whole: false }).unwrap();
                assert_eq!((seqs(&page), page.whole), (due.clone().collect(), whole));
                assert_eq!((page.start.seq, page.end.seq), (Seq::new(due.start() - 1), Seq::new(*due.end())));
                assert_eq!(page.commits[0].1, whole.then_some(page.end), "{due:?}");
                after = After::Page(Cursor::new(log.store_id(), page.end));
            }
            // Whoever comes back to a place within it gets all of it again.
            let after = After::Named(Cursor::new(log.store_id(), changes_after(&log, Seq::new(3))[0].head()));
            let page = read(&log, &pattern, Wanted { after, bytes, whole: true }).unwrap();
            assert_eq!((seqs(&page), page.start.seq), ((1..=10).collect(), Seq::ZERO));
        }
    }

    #[test]
    fn a_page_of_few_is_read_as_others_where_one_commit_is_larger_than_what_it_passes_over() {
        let many = (0..=SPARSE_CHANGES).fold(Batch::new(), |batch, n| batch.set(format!("/many/{n}"), "x"));
        let log = log([Batch::new().set("/rare", "1"), many.set("/rare", "2")]);
        let pattern = "/rare".parse().unwrap();
        let page = watch_few(&log, &pattern, wanted(Seq::new(1).into(), usize::MAX)).unwrap();
        let end = SPARSE_CHANGES + 3;
        assert_eq!((seqs(&page), page.end.seq, page.whole), (vec![end], Seq::new(end), true));
    }

    #[test]
    fn the_changes_of_a_page_take_half_of_its_bytes_and_no_more_than_a_page_of_the_log() {
        let most = Limits::PAGE_BYTES;
        assert_eq!(
            [0, 1, 7, 2 * most, 2 * most + 2, usize::MAX].map(of_changes),
            [0, 0, 3, most, most, most]
        );
        assert!(!is_enough(80, 20, 200) && is_enough(80, 21, 200) && is_enough(81, 20, 200));
    }

    // The rest is read later.
    #[test]
    fn as_many_replaced_states_are_read_as_fit_in_half_of_the_bytes_and_at_least_one() {
        let all = |value| (0..10).fold(Batch::new(), |batch, n| batch.set(key(n), value));
        let log = log([all("x"), all("y")]);
        let pattern: Pattern = "/a/*".parse().unwrap();
        let changes = changes_after(&log, Seq::new(10));
        for (bytes, fit) in [(2 * 4 * size(&log), 4), (2 * 4 * size(&log) + 2, 5), (0, 1), (usize::MAX, 10)] {
            for read in [watch as Read, watch_few] {
                let page = read(&log, &pattern, wanted(Seq::new(10).into(), bytes)).unwrap();
                let (matching, _) = &page.commits[0];
                let is_read = |m: &Matching| matches!(&m.old, Old::Read(Some(old)) if old.value.is_some());
                assert_eq!(matching.iter().map(is_read).collect::<Vec<_>>(), {
                    (0..10).map(|n| n < fit).collect::<Vec<_>>()
                });
            }
            let old = old_changes(&log, &changes, bytes).unwrap();
            assert_eq!(old.len(), fit);
            assert!(old.iter().all(|old| old.as_ref().unwrap().value.as_deref() == Some(b"x")));
        }
    }
}
