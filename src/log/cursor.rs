//! How far a reader has read a log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Hash, Head, StoreId};
use crate::error::StateError;
use crate::seq::Seq;

/// How far a reader has read the log of a store: every change up to `seq`, and none after it.
///
/// A cursor carries the store id and the chain hash at `seq`. Resuming checks both, so that a reader
/// never goes on in the log of another store, or after a position that an older copy of the file does
/// not have: that is [`StateError::CursorDiverged`]. Prints and parses as `STORE:4711:9f2c…`.
///
/// A [`Seq`] converts into a cursor without store and hash, which prints as the bare number. Resuming
/// from it checks only that the log reaches that position.
///
/// ```
/// use univrs_state::{Cursor, MemoryStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// let printed = store.watch("/*")?.cursor().to_string();
/// store.set("/a", b"2".to_vec()).await?;
///
/// let mut resumed = store.watch_after("/*", printed.parse::<Cursor>()?)?;
/// assert_eq!(resumed.try_next().await?.unwrap().new_version, 2);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    seq: Seq,
    checked: Option<(StoreId, Hash)>,
}

impl Cursor {
    /// The cursor of a reader that has read the log of `store` up to `head`.
    pub fn new(store: StoreId, head: Head) -> Self {
        Self { seq: head.seq, checked: Some((store, head.hash)) }
    }

    /// The position up to which the log has been read.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The store whose log this is a position of; `None` if the cursor was made of a [`Seq`].
    pub fn store_id(&self) -> Option<StoreId> {
        self.checked.map(|(store, _)| store)
    }

    /// The position and the chain hash there; `None` if the cursor was made of a [`Seq`].
    pub fn head(&self) -> Option<Head> {
        self.checked.map(|(_, hash)| Head { seq: self.seq, hash })
    }

    /// An error if this is a cursor of another store.
    pub(crate) fn belongs_to(&self, store: StoreId) -> Result<(), StateError> {
        match self.store_id() {
            Some(other) if other != store => Err(StateError::CursorDiverged(format!(
                "the cursor is of store {other}, but this is store {store}"
            ))),
            _ => Ok(()),
        }
    }
}

impl From<Seq> for Cursor {
    fn from(seq: Seq) -> Self {
        Self { seq, checked: None }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.checked {
            Some((store, hash)) => write!(f, "{store}:{}:{hash}", self.seq),
            None => self.seq.fmt(f),
        }
    }
}

impl FromStr for Cursor {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        let wrong = || {
            StateError::InvalidArgument(
                "a cursor looks like STORE:4711:HASH with 32 and 64 hexadecimal digits, or is a number"
                    .into(),
            )
        };
        let Some((store, head)) = text.split_once(':') else {
            return text.parse::<Seq>().map(Self::from).map_err(|_| wrong());
        };
        let store = store.parse().map_err(|_| wrong())?;
        Ok(Self::new(store, head.parse().map_err(|_| wrong())?))
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_and_a_head_survive_printing() {
        let store = StoreId::from_bytes(*b"0123456789abcdef");
        let cursor = Cursor::new(store, Head::genesis(store));
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        assert_eq!(cursor.head().unwrap().to_string().parse::<Head>().unwrap(), Head::genesis(store));
        let bare = Cursor::from(Seq::new(7));
        assert_eq!((bare.to_string().as_str(), "7".parse::<Cursor>().unwrap()), ("7", bare));
    }

    #[test]
    fn what_is_no_cursor_is_an_error_and_never_a_position() {
        let store = StoreId::from_bytes([7; 16]);
        let good = Cursor::new(store, Head::genesis(store)).to_string();
        assert!(good.parse::<Cursor>().is_ok());
        for bad in [
            "",
            ":",
            "::",
            "x",
            "-1",
            "1:2",
            "1:2:3",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}0"),
            &format!(" {good}"),
            &format!("{good}\n"),
            &good.replace(":0:", ":+0:"),
            &good.replace(":0:", ":18446744073709551615:"),
            &good.replace('0', "é"),
        ] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad:?}");
        }
    }
}
