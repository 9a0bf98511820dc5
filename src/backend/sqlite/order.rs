//! The order of the keys that an index returns.

use crate::error::{Result, StateError};
use crate::key::KeyRange;

/// Checks that keys lie in a range and ascend. The checksum of a row protects the row, but not its place in
/// the index: a damaged index may return a row twice, or hide one.
pub(super) struct InOrder<'a> {
    range: &'a KeyRange,
    last: String,
}

impl<'a> InOrder<'a> {
    /// Checks the keys of a range that are greater than `after`.
    pub(super) fn in_range(range: &'a KeyRange, after: Option<&str>) -> Self {
        Self { range, last: after.unwrap_or_default().to_owned() }
    }

    /// Checks the next key.
    pub(super) fn check_next(&mut self, key: &str) -> Result<()> {
        let inside = key >= self.range.start() && self.range.end().is_none_or(|end| key < end);
        if !inside || key <= self.last.as_str() {
            return Err(StateError::Corrupted(
                "the index of kv_store returns keys that are out of order".into(),
            ));
        }
        self.last.clear();
        self.last.push_str(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ascend_within_their_range() {
        let range = KeyRange::prefix("/b");
        let takes = |after: Option<&str>, keys: &[&str]| {
            let mut order = InOrder::in_range(&range, after);
            keys.iter().try_for_each(|key| order.check_next(key))
        };
        assert_eq!(takes(None, &["/b", "/b/1", "/b/2"]), Ok(()));
        assert_eq!(takes(Some("/b/1"), &["/b/2"]), Ok(()));
        for (after, keys) in [
            (None, &["/b/1", "/b/1"][..]),
            (None, &["/b/2", "/b/1"]),
            (Some("/b/1"), &["/b/1"]),
            (None, &["/a/9"]),
            (None, &["/b/1", "/c"]),
        ] {
            assert!(matches!(takes(after, keys), Err(StateError::Corrupted(_))), "{after:?} {keys:?}");
        }
    }
}
