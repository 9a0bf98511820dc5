//! Reading and checking rows of the tables.

use std::sync::Arc;

use rusqlite::types::{Type, ValueRef};

use super::checksum::{ERASED_ROW, KV_STORE_ROW, Numbers, TOMBSTONES_ROW, checksum};
use super::fault;
use crate::backend::{self, Link};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Change, ChangeKind, ChangeView, Flaw, Hash, LastMeta, Meta, StoreId, Timestamp, Until};
use crate::seq::Seq;
use crate::state::{Entry, KeyState, KeyVersion, Life, RowView};

/// Begins a query of `changes` with the columns that [`change`] reads.
macro_rules! select_changes {
    ($($rest:literal),+) => {
        concat!(
            "SELECT seq, commit_seq, at, kind, key, version, created_at, prev, value, salt, value_hash, meta, hash, \
             until, before",
            $($rest),+
        )
    };
}
pub(super) use select_changes;

/// The first column behind those of [`select_changes`].
pub(super) const BEHIND: usize = 15;

/// The columns of `kv_store`.
macro_rules! columns_of_kv_store {
    () => {
        "key, value, version, created_at, updated_at, seq, checksum, until"
    };
}
pub(super) use columns_of_kv_store;

/// Begins a query of `kv_store` with the columns that [`checked`] reads.
macro_rules! select_live {
    ($rest:literal) => {
        concat!("SELECT ", $crate::backend::sqlite::row::columns_of_kv_store!(), $rest)
    };
}
pub(super) use select_live;

/// The first column behind those of [`select_live`] and [`select_deleted`].
pub(super) const BEHIND_PROJECTION: usize = 8;

/// Begins a query of `tombstones` with the same columns; a deleted key has neither value nor times.
macro_rules! select_deleted {
    ($rest:literal) => {
        concat!("SELECT key, NULL, version, NULL, NULL, seq, checksum, NULL", $rest)
    };
}
pub(super) use select_deleted;

/// Reads a number that must not be negative.
pub(super) fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| wrong(column, Type::Integer))
}

pub(super) fn seq(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Seq> {
    unsigned(row, column).map(Seq::new)
}

fn timestamp(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_micros)
}

/// Reads when something ends, or null.
fn until(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Until>> {
    let number: Option<i64> = row.get(column)?;
    number.map(|number| Until::from_number(number).ok_or_else(|| wrong(column, Type::Integer))).transpose()
}

pub(super) fn text<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> rusqlite::Result<&'a str> {
    row.get_ref(column)?.as_str().map_err(|_| wrong(column, Type::Text))
}

/// Reads a blob, or null.
fn blob<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<&'a [u8]>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) => Ok(Some(bytes)),
        _ => Err(wrong(column, Type::Blob)),
    }
}

/// Reads a blob of `N` bytes, or null.
fn array<const N: usize>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<[u8; N]>> {
    let bytes = blob(row, column)?;
    bytes.map(|bytes| bytes.try_into().map_err(|_| wrong(column, Type::Blob))).transpose()
}

/// Reads a hash, or null.
pub(super) fn hash_or_null(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Hash>> {
    Ok(array(row, column)?.map(Hash::from_bytes))
}

pub(super) fn hash(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Hash> {
    array(row, column)?.map(Hash::from_bytes).ok_or_else(|| wrong(column, Type::Blob))
}

fn wrong(column: usize, expected: Type) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, String::new(), expected)
}

/// Borrows a change from its row; `last` is the metadata of the row before.
pub(super) fn view<'a>(row: &'a rusqlite::Row<'_>, last: &mut LastMeta) -> rusqlite::Result<ChangeView<'a>> {
    let view = columns(row)?;
    decoded(&view, last)?;
    Ok(view)
}

/// Decodes the metadata of a change.
fn decoded(view: &ChangeView<'_>, last: &mut LastMeta) -> rusqlite::Result<Option<Arc<Meta>>> {
    let decoded = view.meta.map(|meta| last.decode(meta)).transpose();
    decoded.map_err(|flaw| match flaw {
        Flaw::Newer(what) => fault::newer(what),
        Flaw::Cut | Flaw::Malformed(_) => wrong(11, Type::Blob),
    })
}

/// Reads the columns of a change that has the change before it. The metadata is not decoded.
fn columns<'a>(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<ChangeView<'a>> {
    // The chain before a row stands beside it only where the row before is gone.
    if blob(row, 14)?.is_some() {
        return Err(wrong(14, Type::Null));
    }
    any_columns(row)
}

/// Reads the columns of a change. The metadata is not decoded, nor the chain before.
fn any_columns<'a>(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<ChangeView<'a>> {
    Ok(ChangeView {
        seq: seq(row, 0)?,
        commit_seq: seq(row, 1)?,
        at: timestamp(row, 2)?,
        kind: ChangeKind::from_code(row.get(3)?).ok_or_else(|| wrong(3, Type::Integer))?,
        key: text(row, 4)?,
        version: unsigned(row, 5)?,
        created_at: timestamp(row, 6)?,
        prev: seq(row, 7)?,
        until: until(row, 13)?,
        value: blob(row, 8)?,
        salt: array(row, 9)?,
        value_hash: array(row, 10)?.map(Hash::from_bytes),
        meta: blob(row, 11)?,
        hash: hash(row, 12)?,
    })
}

/// Reads a change that has the change before it; `last` is the metadata of the row before.
pub(super) fn change(row: &rusqlite::Row<'_>, last: &mut LastMeta) -> rusqlite::Result<Change> {
    owned(columns(row)?, last)
}

/// Reads a change, and the chain before it where the change before is gone.
pub(super) fn linked(
    row: &rusqlite::Row<'_>,
    last: &mut LastMeta,
) -> rusqlite::Result<(Change, Option<Hash>)> {
    Ok((owned(any_columns(row)?, last)?, array(row, 14)?.map(Hash::from_bytes)))
}

fn owned(view: ChangeView<'_>, last: &mut LastMeta) -> rusqlite::Result<Change> {
    let meta = decoded(&view, last)?;
    let ChangeView {
        seq,
        commit_seq,
        at,
        kind,
        version,
        created_at,
        prev,
        until,
        salt,
        value_hash,
        hash,
        ..
    } = view;
    let (key, value) = (view.key.into(), view.value.map(Arc::from));
    Ok(Change {
        seq,
        commit_seq,
        at,
        kind,
        key,
        version,
        created_at,
        prev,
        until,
        value,
        salt,
        value_hash,
        meta,
        hash,
    })
}

/// The columns that [`link`] reads.
pub(super) const LINK: &str = "SELECT seq, at, key, version, prev, jump FROM changes WHERE seq = ?1";

/// Reads the links of a change, unchecked.
pub(super) fn link(row: &rusqlite::Row<'_>) -> rusqlite::Result<Link> {
    Ok(Link {
        seq: seq(row, 0)?,
        at: timestamp(row, 1)?,
        key: text(row, 2)?.into(),
        version: unsigned(row, 3)?,
        prev: seq(row, 4)?,
        // The change that it names is checked where the link is followed.
        jump: seq(row, 5).unwrap_or_default(),
    })
}

/// The row of a key in `kv_store`, for [`entry`] and [`key_version`].
pub(super) const LIVE: &str = select_live!(" FROM kv_store WHERE key = ?1");

/// The row of a key in `tombstones`, in the same columns.
pub(super) const DELETED: &str = select_deleted!(" FROM tombstones WHERE key = ?1");

/// A row of `kv_store`, or of `tombstones` in the same columns without a value. Its checksum is checked.
struct Checked<'a> {
    key: &'a str,
    /// `None` in `tombstones`.
    value: Option<&'a [u8]>,
    /// Whether the key exists, but its value was erased.
    erased: bool,
    numbers: Numbers,
}

fn checked<'a>(store: StoreId, row: &'a rusqlite::Row<'_>) -> Result<Checked<'a>> {
    let read = || -> rusqlite::Result<_> {
        let (key, value) = (text(row, 0)?, blob(row, 1)?);
        let (created_at, updated_at) = match value {
            Some(_) => (timestamp(row, 3)?, timestamp(row, 4)?),
            None => (Timestamp::EPOCH, Timestamp::EPOCH),
        };
        let (version, seq, until) = (unsigned(row, 2)?, unsigned(row, 5)?, until(row, 7)?);
        let numbers = Numbers { version, created_at, updated_at, seq, until };
        Ok((Checked { key, value, erased: false, numbers }, array::<16>(row, 6)?))
    };
    let (mut found, recorded) = read().map_err(fault::storage)?;
    let (domain, table) = match found.value {
        Some(_) => (&KV_STORE_ROW, "kv_store"),
        None => (&TOMBSTONES_ROW, "tombstones"),
    };
    let expected = checksum(domain, store, found.key, found.numbers, found.value.unwrap_or_default());
    if recorded != Some(expected) && found.value.is_some_and(<[u8]>::is_empty) {
        found.erased = recorded == Some(checksum(&ERASED_ROW, store, found.key, found.numbers, &[]));
    }
    if recorded != Some(expected) && !found.erased && !failpoint("unverified_read") {
        let key = found.key;
        return Err(StateError::Corrupted(format!(
            "the row of {key:?} in {table} does not match its checksum"
        )));
    }
    Ok(found)
}

/// A row of `kv_store`, or of `tombstones` in the same columns without a value. Its checksum is checked.
pub(super) fn row(store: StoreId, row: &rusqlite::Row<'_>) -> Result<backend::Row> {
    let Checked { key, value, erased, numbers } = checked(store, row)?;
    let Numbers { version, created_at, updated_at, seq, until } = numbers;
    let (key, seq) = (key.to_owned(), Seq::new(seq));
    Ok(match value {
        None => backend::Row::Deleted { key, version, seq },
        Some(_) if erased => backend::Row::Erased { key, version, created_at, updated_at, seq, until },
        Some(value) => backend::Row::Live(Entry {
            key,
            value: value.to_vec(),
            version,
            created_at: created_at.into(),
            updated_at: updated_at.into(),
            seq,
            until,
        }),
    })
}

/// Borrows a row of `kv_store` or `tombstones`. Its checksum is checked.
pub(super) fn row_view<'a>(store: StoreId, row: &'a rusqlite::Row<'_>) -> Result<RowView<'a>> {
    let Checked { key, value, erased, numbers } = checked(store, row)?;
    let Numbers { version, created_at, updated_at, seq, until } = numbers;
    let times = value.map(|_| (created_at, updated_at));
    Ok(RowView { key, version, seq: Seq::new(seq), times, until, value: value.filter(|_| !erased) })
}

/// Reads a row of `kv_store` or `tombstones`. A row with a wrong checksum is returned as damaged, not as an
/// error.
pub(super) fn any(store: StoreId, found: &rusqlite::Row<'_>) -> Result<backend::Row> {
    match row(store, found) {
        Err(StateError::Corrupted(what)) => {
            let key = text(found, 0).unwrap_or_default().to_owned();
            Ok(backend::Row::Damaged { key, what })
        }
        row => row,
    }
}

/// Reads an entry. Its checksum is checked.
pub(super) fn entry(store: StoreId, row: &rusqlite::Row<'_>) -> Result<Entry> {
    match self::row(store, row)? {
        backend::Row::Live(entry) => Ok(entry),
        backend::Row::Erased { key, seq, .. } => Err(Entry::erased(&key, seq)),
        _ => Err(fault::storage(wrong(1, Type::Blob))),
    }
}

/// Reads a row that was looked up by a key, and checks that it has this key. The checksum protects the row,
/// but a damaged index may lead to the row of another key.
pub(super) fn of_key<T>(
    key: &str,
    row: &rusqlite::Row<'_>,
    read: impl FnOnce(&rusqlite::Row<'_>) -> Result<T>,
) -> Result<T> {
    if text(row, 0).map_err(fault::storage)? == key {
        read(row)
    } else {
        Err(StateError::Corrupted(format!(
            "the index of kv_store leads from {key} to the row of another key"
        )))
    }
}

/// Reads the key of a row of `kv_store` or `tombstones`.
pub(super) fn key(row: &rusqlite::Row<'_>) -> Result<String> {
    text(row, 0).map(str::to_owned).map_err(fault::storage)
}

/// Reads a row of `kv_store` or `tombstones` as the last change of its key. Its checksum is checked.
pub(super) fn latest(store: StoreId, row: &rusqlite::Row<'_>) -> Result<KeyState> {
    let Checked { key, value, erased, numbers } = checked(store, row)?;
    let Numbers { version, created_at, updated_at: at, seq, until } = numbers;
    let life = if value.is_some() { Life::Live { created_at } } else { Life::Deleted };
    let key_version = KeyVersion { version, seq: Seq::new(seq), life };
    let value = value.filter(|_| !erased).map(Arc::from);
    Ok(KeyState { key: key.into(), key_version, at, until, value })
}

/// Reads the version of a key from its row, without copying the value. Its checksum is checked.
pub(super) fn key_version(store: StoreId, row: &rusqlite::Row<'_>) -> Result<KeyVersion> {
    let Checked { value, numbers: Numbers { version, created_at, seq, .. }, .. } = checked(store, row)?;
    let life = if value.is_some() { Life::Live { created_at } } else { Life::Deleted };
    Ok(KeyVersion { version, seq: Seq::new(seq), life })
}

/// A number as SQLite stores it, which is signed. Positions and versions stay far below the bound.
pub(super) fn signed(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| StateError::Storage("a number is too large for the file format".into()))
}
