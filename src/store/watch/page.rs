//! A page of a watch: whole commits of the log, and the states that their changes replaced.

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
use crate::store::read::log::{follow_until, resolve};

/// How many changes a page passes over if few match. SQLite passes over them in some milliseconds.
const SPARSE_CHANGES: u64 = 50_000;

/// A page of a watch.
pub(crate) struct WatchPage {
    /// For each commit with matching changes, these changes and the head after the commit.
    pub(crate) commits: Vec<(Vec<Matching>, Head)>,
    /// The head at the end of the page: every matching change up to it is in `commits`.
    pub(crate) end: Head,
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

/// Reads a page of the commits after a cursor, with the changes that match the pattern: about this many bytes, but at
/// least a commit.
///
/// The states that the changes replaced are read with them as far as they fit a page. The rest is read later
/// in slices, so that a commit that deletes large values takes no more memory than others.
pub(crate) fn watch(
    snapshot: &dyn Snapshot,
    pattern: &Pattern,
    after: Cursor,
    bytes: usize,
) -> Result<WatchPage> {
    let after = resolve(snapshot, after)?;
    let mut commits: Vec<(Vec<Matching>, Head)> = Vec::new();
    let (mut open, mut read) = (Vec::new(), 0);
    let end = follow_until(snapshot, after, Limits::PAGE_CHANGES, |change| {
        let head = change.closes_commit().then(|| change.head());
        if pattern.matches(&change.key) {
            read += change.size();
            open.push(Matching::alone(change));
        }
        if let Some(head) = head
            && !open.is_empty()
        {
            commits.push((std::mem::take(&mut open), head));
        }
        read >= of_changes(bytes)
    })?;
    read_old(snapshot, &mut commits, of_changes(bytes))?;
    Ok(WatchPage { commits, end })
}

/// Reads a page of the commits after a cursor where few changes match. The storage passes over the others.
///
/// In a log of 200,000 changes, catching up with one of 10,000 keys takes 36 ms of processor time, and 260 ms if
/// every change is read and checked.
///
/// It checks less: each matching change against its hash and the hash of the change before it, and the start of
/// the page. The changes between them are not read. So this watch does not notice one that was altered, cut out
/// or inserted there, nor one whose key was altered so that it no longer matches. A verification finds them, and
/// so does a watch of all keys.
pub(crate) fn watch_few(
    snapshot: &dyn Snapshot,
    pattern: &Pattern,
    after: Cursor,
    bytes: usize,
) -> Result<WatchPage> {
    let from = resolve(snapshot, after)?;
    let most = Seq::new(from.seq.as_u64() + SPARSE_CHANGES);
    let mut end = snapshot.commit_end(snapshot.head()?.seq.min(most))?;
    if end.seq <= from.seq {
        return watch(snapshot, pattern, after, bytes); // One commit that is larger than that.
    }
    let mut found: Vec<(Vec<Matching>, Seq)> = Vec::new();
    let (mut changes, mut read, mut full) = (0, 0, false);
    snapshot.changes_below(pattern.prefix(), from.seq, end.seq, &mut |change| {
        if pattern.matches(&change.key) {
            changes += 1;
            read += change.size();
            match found.last_mut() {
                Some((commit, seq)) if *seq == change.commit_seq => commit.push(Matching::alone(change)),
                Some(_) if changes > Limits::PAGE_CHANGES || read > of_changes(bytes) => full = true,
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
        commits.push((changes, Head { seq, hash }));
    }
    if let (true, Some((_, head))) = (full, commits.last())
        && !failpoint("rest_of_sparse_page")
    {
        end = *head;
    }
    read_old(snapshot, &mut commits, of_changes(bytes))?;
    Ok(WatchPage { commits, end })
}

/// Reads the states that the changes replaced, until these bytes are read.
fn read_old(snapshot: &dyn Snapshot, commits: &mut [(Vec<Matching>, Head)], most: usize) -> Result<()> {
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
    use crate::log::{StoreId, Timestamp, Tip, seal};
    use crate::state::{Batch, decide};

    /// A log of these commits.
    fn log(commits: impl IntoIterator<Item = Batch>) -> Memory {
        let store = StoreId::from_bytes([3; 16]);
        let (mut memory, mut tip) = (Memory::new(store), Tip::genesis(store));
        for batch in commits {
            let decision = decide(&batch, tip.head.seq, &memory.folded().projection).unwrap();
            let (changes, next) = seal(decision.drafts, None, tip, Timestamp::EPOCH, || [1; 16]);
            for change in changes {
                memory.push(change);
            }
            tip = next;
        }
        memory
    }

    type Read = fn(&dyn Snapshot, &Pattern, Cursor, usize) -> Result<WatchPage>;

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
                let page = read(&log, &pattern, after, 60 * KIB).unwrap();
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
        let page = watch_few(&log, &pattern, Seq::ZERO.into(), usize::MAX).unwrap();
        assert_eq!((seqs(&page), page.end.seq), (Vec::new(), Seq::new(SPARSE_CHANGES)));
        let page = watch_few(&log, &pattern, Cursor::new(log.store_id(), page.end), usize::MAX).unwrap();
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
            let page = read(&log, &pattern, Seq::ZERO.into(), 2 * 4 * size(&log)).unwrap();
            assert_eq!((seqs(&page), page.end.seq), (vec![1, 2, 3, 4], Seq::new(4)));
            let page = read(&log, &pattern, Seq::new(4).into(), 2 * 6 * size(&log)).unwrap();
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
            let page = watch(&log, &pattern, Seq::ZERO.into(), usize::MAX).unwrap();
            assert_eq!((seqs(&page).len() as u64, page.end.seq), (many, Seq::new(many)));
            let page = watch_few(&log, &pattern, Seq::ZERO.into(), usize::MAX).unwrap();
            assert_eq!((seqs(&page).len() as u64, page.end.seq), (few, Seq::new(few)));
        }
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
                let page = read(&log, &pattern, Seq::new(10).into(), bytes).unwrap();
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
