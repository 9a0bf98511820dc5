//! The position of a change in the log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::StateError;

/// A position in the log. The first change has position 1; [`Seq::ZERO`] is before it. Positions have no
/// gap, and a position is never used twice.
///
/// ```
/// use univrs_state::Seq;
/// assert_eq!(Seq::new(41).next(), "42".parse().unwrap());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// The position before the first change.
    pub const ZERO: Self = Self(0);
    /// The largest position that the file format can hold.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The position with this number.
    pub const fn new(seq: u64) -> Self {
        Self(seq)
    }

    /// The position as a number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position before this one; [`Seq::ZERO`] for [`Seq::ZERO`] itself.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Seq {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(seq) if digits && seq <= Self::MAX.0 => Ok(Self(seq)),
            _ => Err(StateError::InvalidArgument(format!(
                "{text:?} is not a position; use a number like 4711"
            ))),
        }
    }
}

impl From<u64> for Seq {
    fn from(seq: u64) -> Self {
        Self(seq)
    }
}

impl From<Seq> for u64 {
    fn from(seq: Seq) -> Self {
        seq.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_within_the_format_parse() {
        assert_eq!("0".parse::<Seq>().unwrap(), Seq::ZERO);
        assert_eq!(Seq::MAX.to_string().parse::<Seq>().unwrap(), Seq::MAX);
        for bad in ["", "-1", "+1", " 1", "1.0", "0x1", "9223372036854775808", "99999999999999999999"] {
            assert!(bad.parse::<Seq>().is_err(), "{bad:?}");
        }
    }
}
