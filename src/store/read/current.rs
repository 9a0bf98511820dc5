//! Reads of the entries and keys of one state.

use std::ops::ControlFlow;

use super::key_history;
use super::log::resolve;
use super::page::{Page, Scan};
use crate::backend::{FoldedState, Row, Snapshot, View};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::limits::{Exceeded, Limits};
use crate::log::{Cursor, Head};
use crate::seq::Seq;
use crate::state::Entry;

/// The entries of these keys, in their order.
pub(crate) fn get_many(view: &(impl View + ?Sized), keys: &[impl AsRef<str>]) -> Result<Page> {
    let cursor = Cursor::new(view.store_id(), view.head()?);
    let entries =
        keys.iter().filter_map(|key| view.entry(key.as_ref()).transpose()).collect::<Result<_>>()?;
    Ok(Page { entries, ..Page::at(cursor) })
}

/// One page of a scan.
pub(crate) fn scan(snapshot: &dyn Snapshot, limits: &Limits, scan: &Scan) -> Result<Page> {
    let head = snapshot.head()?;
    let as_of = scan.as_of.map_or(Ok(head), |cursor| resolve(snapshot, cursor))?;
    let older = as_of.seq < head.seq;
    scan_page(snapshot, limits, scan, as_of, older, |row| entry_as_of(snapshot, row, as_of.seq))
}

/// One page of a scan of the state in memory; `None` if the scan is of another state.
pub(crate) fn scan_folded(folded: &FoldedState, limits: &Limits, scan: &Scan) -> Result<Option<Page>> {
    if scan.as_of.is_some_and(|cursor| cursor.head() != Some(folded.head)) {
        return Ok(None);
    }
    scan_page(folded, limits, scan, folded.head, false, Row::entry).map(Some)
}

/// One page of a scan as of a position. It goes through the current rows; `entry_as_of` finds what each key was
/// at the position.
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
    Exceeded::check_limit(limit, limits.page_entries, "entries", || "the page of a scan".into())?;
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
            && (page.entries.len() + page.erased.len() == limit || bytes > scan.bytes)
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

/// The entry of a key at a position: of its row, or of an older change.
fn entry_as_of(snapshot: &dyn Snapshot, row: Row, as_of: Seq) -> Result<Option<Entry>> {
    let (key, seq) = row.place()?;
    if seq <= as_of {
        return row.entry();
    }
    let change = key_history::back_to(snapshot, key, seq, as_of)?;
    change.as_ref().map_or(Ok(None), Entry::left_by)
}

/// The keys that exist with this prefix.
pub(crate) fn list(view: &(impl View + ?Sized), prefix: &str) -> Result<Vec<String>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Memory;
    use crate::log::StoreId;
    use crate::state::Batch;

    #[test]
    fn a_page_takes_its_bytes_of_keys_and_values_to_the_last_one() {
        let store = StoreId::from_bytes([3; 16]);
        let batch = (0..4).fold(Batch::new(), |batch, n| batch.set(format!("/{n}"), vec![0; 98]));
        let log = Memory::of(store, [batch]);
        for (bytes, fit) in [(0, 1), (199, 1), (200, 2), (299, 2), (300, 3), (400, 4)] {
            let page = scan(&log, &Limits::default(), &Scan { bytes, ..Scan::prefix("/") }).unwrap();
            assert_eq!((page.entries.len(), page.next.is_none()), (fit, fit == 4), "{bytes}");
        }
    }
}
