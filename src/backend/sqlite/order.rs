//! Keys as an index gives them.

use crate::error::{Result, StateError};
use crate::key::KeyRange;

/// Checks that keys lie in a range and ascend. A row vouches for itself, but not for its place: an
/// index that is damaged may give one twice, or in the place of another, which it hides.
pub(super) struct InOrder<'a> {
    range: &'a KeyRange,
    last: String,
}

impl<'a> InOrder<'a> {
    /// The keys of a range after one.
    pub(super) fn in_range(range: &'a KeyRange, after: Option<&str>) -> Self {
        Self { range, last: after.unwrap_or_default().to_owned() }
    }

    /// Takes the next key.
    pub(super) fn check_next(&mut self, key: &str) -> Result<()> {
        let inside = key >= self.range.start() && self.range.end().is_none_or(|end| key < end);
        if !inside || key <= self.last.as_str() {
            return Err(StateError::Corrupted("the index of keys is not in order".into()));
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
