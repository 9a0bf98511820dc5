//! Anchors: heads that are kept outside of the store.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Cursor, Hash, Head, StoreId};
use crate::error::StateError;
use crate::seq::Seq;

/// A head of a store's log, with the store's id, to be kept outside of the store. A log that was rewritten
/// or cut off before the anchor no longer leads to its hash, so a verification with the anchor finds it.
///
/// Prints and parses as a line of JSON, so that anchors can be appended to a file.
///
/// ```
/// use univrs_state::log::Anchor;
/// use univrs_state::verify::Verify;
/// use univrs_state::{MemoryStore, LocalStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// let store = MemoryStore::new();
/// store.set("/a", b"1".to_vec()).await?;
/// let line = store.anchor().await?.to_string(); // append it to a file elsewhere
/// assert!(line.starts_with(r#"{"v":1,"type":"anchor","store":""#));
///
/// let anchor: Anchor = line.parse()?;
/// let report = store.verify_with(Verify::full().anchors([anchor])).await?;
/// assert!(report.is_intact());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Anchor {
    /// The id of the store.
    pub store: StoreId,
    /// The position and the chain hash there.
    pub head: Head,
}

/// The fields of the line of JSON.
#[derive(Serialize, Deserialize)]
struct Line {
    v: u64,
    r#type: String,
    store: StoreId,
    seq: Seq,
    hash: Hash,
}

impl Anchor {
    /// The anchor of a head of a store.
    pub fn new(store: StoreId, head: Head) -> Self {
        Self { store, head }
    }
}

impl From<Anchor> for Cursor {
    fn from(anchor: Anchor) -> Self {
        Self::new(anchor.store, anchor.head)
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, head: Head { seq, hash } } = self;
        write!(f, r#"{{"v":1,"type":"anchor","store":"{store}","seq":{seq},"hash":"{hash}"}}"#)
    }
}

impl FromStr for Anchor {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        let line: Option<Line> = serde_json::from_str(text.trim_end()).ok();
        let line = line.filter(|line| line.v == 1 && line.r#type == "anchor" && line.seq <= Seq::MAX);
        let Line { store, seq, hash, .. } = line.ok_or_else(|| {
            StateError::InvalidArgument(
                "an anchor is a line like {\"v\":1,\"type\":\"anchor\",\"store\":…,\"seq\":4711,\"hash\":…}"
                    .into(),
            )
        })?;
        Ok(Self::new(store, Head { seq, hash }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_survives_printing_and_nothing_else_is_one() {
        let store = StoreId::from_bytes([7; 16]);
        let anchor = Anchor::new(store, Head::genesis(store));
        let line = anchor.to_string();
        assert_eq!(line.parse::<Anchor>().unwrap(), anchor);
        assert_eq!(format!("{line}\n").parse::<Anchor>().unwrap(), anchor);
        for bad in [
            "",
            "{}",
            "4711",
            &line[1..],
            &line.replace("\"v\":1", "\"v\":2"),
            &line.replace("anchor", "change"),
            &line.replace(":0,", ":-1,"),
            &line.replace(":0,", ":9223372036854775808,"),
            &line.replace("0707", "07"),
            &format!("{line}{line}"),
        ] {
            assert!(matches!(bad.parse::<Anchor>(), Err(StateError::InvalidArgument(_))), "{bad}");
        }
    }
}
