//! What reads of a snapshot mean: pure functions over one state.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Page, Scan, chain};
use crate::backend::{Folded, Row, Snapshot, View, missing};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::limits::{Exceeded, Limits};
use crate::log::{Change, ChangeKind, Commit, Cursor, Follow, Head};
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::state::{Entry, Latest};

/// The most changes of one page of the log, but for those that finish its last commit.
pub(super) const PAGE_CHANGES: usize = 1_000;

/// How far a page reaches where few changes match: what SQLite passes over in some milliseconds.
const SPARSE_CHANGES: u64 = 50_000;

/// The entries of these keys, in the order asked.
pub(super) fn get_many(view: &(impl View + ?Sized), keys: &[impl AsRef<str>]) -> Result<Page> {
    let cursor = Cursor::new(view.store_id(), view.head()?);
    let entries =
        keys.iter().filter_map(|key| view.entry(key.as_ref()).transpose()).collect::<Result<_>>()?;
    Ok(Page { entries, ..Page::at(cursor) })
}

/// One page of a scan.
pub(super) fn scan(snapshot: &dyn Snapshot, limits: &Limits, scan: &Scan) -> Result<Page> {
    let head = snapshot.head()?;
    let as_of = scan.as_of.map_or(Ok(head), |cursor| resolve(snapshot, cursor))?;
    let older = as_of.seq < head.seq;
    scan_page(snapshot, limits, scan, as_of, older, |row| entry_as_of(snapshot, row, as_of.seq))
}

/// One page of a scan of the state in memory; none if the scan is of another state.
pub(super) fn scan_folded(folded: &Folded, limits: &Limits, scan: &Scan) -> Result<Option<Page>> {
    if scan.as_of.is_some_and(|cursor| cursor.head() != Some(folded.head)) {
        return Ok(None);
    }
    scan_page(folded, limits, scan, folded.head, false, Row::entry).map(Some)
}

/// One page of a scan as of a position, of the rows and what the keys were there.
fn scan_page(
    view: &(impl View + ?Sized),
    limits: &Limits,
    scan: &Scan,
    as_of: Head,
    deleted: bool,
    entry: impl Fn(Row) -> Result<Option<Entry>>,
) -> Result<Page> {
    let limit = scan.limit.unwrap_or(limits.page_entries);
    if limit == 0 {
        return Err(StateError::InvalidArgument("a scan's limit is 0; it must be at least 1".into()));
    }
    Exceeded::check(limit, limits.page_entries, "entries", || "the page of a scan".into())?;
    let range = KeyRange::prefix(&scan.prefix);
    let mut page = Page::at(Cursor::new(view.store_id(), as_of));
    let mut bytes = 0;
    view.rows(&range, scan.after.as_deref(), deleted, &mut |row| {
        let (key, _) = row.place()?;
        if !range.shows(key) {
            return Ok(ControlFlow::Continue(()));
        }
        let key = key.to_owned();
        let entry = match entry(row) {
            Ok(None) => return Ok(ControlFlow::Continue(())),
            Err(StateError::Erased(_)) if scan.skip_erased => None,
            entry => entry?,
        };
        bytes += key.len() + entry.as_ref().map_or(0, |entry| entry.value.len());
        if let Some(last) = page.last_key()
            && (page.entries.len() + page.erased.len() == limit || bytes > Limits::PAGE_BYTES)
        {
            let after = Some(last.to_owned());
            page.next = Some(Scan { after, as_of: Some(page.cursor), ..scan.clone() });
            return Ok(ControlFlow::Break(()));
        }
        match entry {
            Some(entry) => page.entries.push(entry),
            None => page.erased.push(key),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(page)
}

/// What a key was at a position: its row, or an older change of it.
fn entry_as_of(snapshot: &dyn Snapshot, row: Row, as_of: Seq) -> Result<Option<Entry>> {
    let (key, seq) = row.place()?;
    if seq <= as_of {
        return row.entry();
    }
    let change = chain::back_to(snapshot, key, seq, as_of)?;
    change.as_ref().map_or(Ok(None), Entry::left_by)
}

/// The change at a position that the log must have.
pub(super) fn recorded(snapshot: &dyn Snapshot, seq: Seq) -> Result<Change> {
    let change = snapshot.change(seq)?;
    change.ok_or_else(|| missing(seq))
}

/// The change before `change` of the same key; none if it is the first.
pub(super) fn previous(snapshot: &dyn Snapshot, change: &Change) -> Result<Option<Change>> {
    if change.prev == Seq::ZERO {
        return Ok(None);
    }
    let previous = recorded(snapshot, change.prev)?;
    if previous.key != change.key || Some(previous.version) != change.version.checked_sub(1) {
        let Change { seq, prev, .. } = change;
        return Err(StateError::Corrupted(format!("change {seq} does not follow change {prev} of its key")));
    }
    Ok(Some(previous))
}

/// The keys that exist with this prefix.
pub(super) fn list(view: &(impl View + ?Sized), prefix: &str) -> Result<Vec<String>> {
    let range = KeyRange::prefix(prefix);
    let mut keys: Vec<String> = Vec::new();
    view.keys(&range, &mut |key| {
        if range.shows(key) {
            keys.push(key.to_owned());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(keys)
}

/// The changes of a key before a position, newest first.
pub(super) fn history(
    snapshot: &dyn Snapshot,
    key: &str,
    before: Option<Seq>,
    limit: usize,
) -> Result<Vec<Change>> {
    let mut history = Vec::new();
    if limit == 0 {
        return Ok(history);
    }
    let (mut next, mut bytes) = (chain::last_at(snapshot, key, before.map_or(Seq::MAX, Seq::previous))?, 0);
    while let Some(change) = next {
        bytes += change.size();
        let full = history.len() + 1 == limit || bytes >= Limits::PAGE_BYTES;
        next = if full { None } else { previous(snapshot, &change)? };
        history.push(change);
    }
    Ok(history)
}

/// Where a cursor stands: checked against the log, and rounded down to the end of a commit.
pub(super) fn resolve(snapshot: &dyn Snapshot, cursor: Cursor) -> Result<Head> {
    cursor.belongs_to(snapshot.store_id())?;
    let (seq, end) = (cursor.seq(), snapshot.tip()?.head.seq);
    if seq > end {
        return Err(StateError::CursorDiverged(format!(
            "position {seq} lies beyond the end of the log at {end}; an older copy of the store may have been restored"
        )));
    }
    let floor = snapshot.floor().seq;
    if seq < floor {
        return Err(StateError::Compacted { requested: seq, oldest: floor });
    }
    if let Some(head) = cursor.head()
        && snapshot.hash_at(seq)? != Some(head.hash)
    {
        return Err(StateError::CursorDiverged(format!(
            "the log has another hash at position {seq}; the store went on from an older copy"
        )));
    }
    snapshot.commit_end(seq)
}

/// Whole commits after a position, checked against the chain: at most `limit` changes and
/// [`Limits::PAGE_BYTES`], but for those that finish the last commit.
pub(super) fn follow(
    snapshot: &dyn Snapshot,
    after: Head,
    limit: usize,
    mut visit: impl FnMut(Change),
) -> Result<Head> {
    let mut follow = Follow::after(after);
    let (mut changes, mut bytes, mut full) = (0, 0, false);
    snapshot.changes(after.seq, &mut |change| {
        pass_withheld(snapshot, &mut follow, change.seq);
        follow.check(&change).map_err(|error| StateError::Corrupted(error.to_string()))?;
        changes += 1;
        bytes += change.size();
        full = change.closes_commit() && (changes >= limit || bytes >= Limits::PAGE_BYTES);
        visit(change);
        Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if !full {
        pass_withheld(snapshot, &mut follow, Seq::MAX);
    }
    if follow.is_whole() {
        Ok(follow.head())
    } else {
        Err(StateError::Corrupted(format!("the commit of change {} is cut off", follow.head().seq)))
    }
}

/// Goes on over the changes that are withheld, up to one that is not.
pub(super) fn pass_withheld(snapshot: &dyn Snapshot, follow: &mut Follow, to: Seq) {
    while follow.head().seq.next() < to
        && let Some(header) = snapshot.withheld(follow.head().seq.next())
    {
        follow.pass(header);
    }
}

/// Whole commits after a position.
pub(super) fn changes(snapshot: &dyn Snapshot, after: Seq, limit: usize) -> Result<Vec<Commit>> {
    let after = resolve(snapshot, after.into())?;
    let mut changes = Vec::new();
    if limit > 0 {
        follow(snapshot, after, limit, |change| changes.push(change))?;
    }
    Ok(Commit::group(changes))
}

/// A page of a watch.
pub(super) struct WatchPage {
    /// The matching changes of each commit that has any, and the head at its end.
    pub(super) commits: Vec<(Vec<Matching>, Head)>,
    /// Where the page ends: everything up to here was delivered or passed over.
    pub(super) end: Head,
}

/// A change that a watch delivers.
#[derive(Debug, Clone)]
pub(super) struct Matching {
    pub(super) change: Change,
    pub(super) old: Old,
}

/// What the key was before.
#[derive(Debug, Clone)]
pub(super) enum Old {
    /// It is at hand, or there was nothing.
    Read(Option<Before>),
    /// It is still to be read.
    Due,
}

/// What a change replaced. `Debug` does not show the value.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) value: Option<Arc<[u8]>>,
    pub(super) erased: bool,
}

impl Before {
    pub(super) fn of(change: &Change) -> Self {
        Self { value: change.value.clone(), erased: change.is_erased() }
    }

    pub(super) fn last(last: &Latest) -> Self {
        Self { value: last.value.clone(), erased: last.slot.is_live() && last.value.is_none() }
    }
}

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.value.as_ref().map(|value| value.len());
        f.debug_struct("Before").field("value_bytes", &bytes).field("erased", &self.erased).finish()
    }
}

impl Matching {
    /// A change of which nothing else is at hand.
    fn alone(change: Change) -> Self {
        let old = if change.kind == ChangeKind::Created { Old::Read(None) } else { Old::Due };
        Self { change, old }
    }

    /// About the bytes that it takes in memory.
    pub(super) fn size(&self) -> usize {
        let old = match &self.old {
            Old::Read(Some(Before { value: Some(value), .. })) => value.len(),
            _ => 0,
        };
        self.change.size() + old
    }
}

/// The commits after a cursor, as a watch of the pattern sees them. Of the changes before, those
/// that fit a page come along; what is left is read in slices of its own, so that a commit that
/// deletes much takes no more memory than others.
pub(super) fn watch(snapshot: &dyn Snapshot, pattern: &Pattern, after: Cursor) -> Result<WatchPage> {
    let after = resolve_whole(snapshot, after)?;
    let mut commits: Vec<(Vec<Matching>, Head)> = Vec::new();
    let mut open = Vec::new();
    let end = follow(snapshot, after, PAGE_CHANGES, |change| {
        let head = change.closes_commit().then_some(Head { seq: change.seq, hash: change.hash });
        if pattern.matches(&change.key) {
            open.push(Matching::alone(change));
        }
        if let Some(head) = head
            && !open.is_empty()
        {
            commits.push((std::mem::take(&mut open), head));
        }
    })?;
    read_old(snapshot, &mut commits)?;
    Ok(WatchPage { commits, end })
}

/// Where a watch goes on. It promises every change, which a part of a log cannot.
fn resolve_whole(snapshot: &dyn Snapshot, after: Cursor) -> Result<Head> {
    if !snapshot.is_whole() {
        return Err(StateError::Erased("a part of a log cannot be watched; read its changes".into()));
    }
    resolve(snapshot, after)
}

/// The same where few changes match: the storage passes over the others, which are not checked then.
pub(super) fn watch_few(snapshot: &dyn Snapshot, pattern: &Pattern, after: Cursor) -> Result<WatchPage> {
    let from = resolve_whole(snapshot, after)?;
    let mut end = snapshot.head()?;
    if end.seq.as_u64() - from.seq.as_u64() > SPARSE_CHANGES {
        end = snapshot.commit_end(Seq::new(from.seq.as_u64() + SPARSE_CHANGES))?;
    }
    if end.seq <= from.seq {
        return watch(snapshot, pattern, after); // One commit that is larger than that.
    }
    let mut found: Vec<(Vec<Matching>, Seq)> = Vec::new();
    let (mut changes, mut bytes, mut full) = (0, 0, false);
    snapshot.changes_below(pattern.prefix(), from.seq, end.seq, &mut |change| {
        if pattern.matches(&change.key) {
            changes += 1;
            bytes += change.size();
            match found.last_mut() {
                Some((commit, seq)) if *seq == change.commit_seq => commit.push(Matching::alone(change)),
                Some(_) if changes > PAGE_CHANGES || bytes > Limits::PAGE_BYTES => full = true,
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
    if let (true, Some((_, head))) = (full, commits.last()) {
        end = *head;
    }
    read_old(snapshot, &mut commits)?;
    Ok(WatchPage { commits, end })
}

/// Reads what the changes replaced, as much of it as fits a page.
fn read_old(snapshot: &dyn Snapshot, commits: &mut [(Vec<Matching>, Head)]) -> Result<()> {
    let mut bytes = 0;
    let due = commits.iter_mut().flat_map(|(changes, _)| changes).filter(|m| matches!(m.old, Old::Due));
    for matching in due {
        let before = previous(snapshot, &matching.change)?;
        bytes += before.as_ref().map_or(0, Change::size);
        matching.old = Old::Read(before.as_ref().map(Before::of));
        if bytes >= Limits::PAGE_BYTES {
            break;
        }
    }
    Ok(())
}

/// The changes before these ones of their keys, one at least, until [`Limits::PAGE_BYTES`] are read.
pub(super) fn old_changes(snapshot: &dyn Snapshot, changes: &[Change]) -> Result<Vec<Option<Before>>> {
    let (mut old, mut bytes) = (Vec::new(), 0);
    for change in changes {
        let before = previous(snapshot, change)?;
        bytes += before.as_ref().map_or(0, Change::size);
        old.push(before.as_ref().map(Before::of));
        if bytes >= Limits::PAGE_BYTES {
            break;
        }
    }
    Ok(old)
}
