//! When an entry ends by itself.

use std::fmt;
use std::num::NonZeroI64;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::error::StateError;
use crate::seq::Seq;

/// When an entry ends by itself: at a moment, or with a lease. The change that set the value records it.
///
/// It is one number: a positive one is a moment in microseconds since the Unix epoch, a negative one is minus the
/// position of the change that granted the lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Until(NonZeroI64);

impl Until {
    /// The end with this number; `None` if the number is no end: zero, or a moment after the year 9999.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        let number = NonZeroI64::new(number).filter(|number| number.get() != i64::MIN)?;
        (number.get() <= Timestamp::MAX_CLOCK.as_micros()).then_some(Self(number))
    }

    /// The number, as headers and tables hold it.
    pub(crate) fn number(self) -> i64 {
        self.0.get()
    }

    /// The moment at which the entry ends; `None` if it ends with a lease.
    pub fn deadline(self) -> Option<Timestamp> {
        (self.0.get() > 0).then(|| Timestamp::from_micros(self.0.get()))
    }

    /// The position of the change that granted the lease; `None` if the entry ends at a moment.
    pub fn lease(self) -> Option<Seq> {
        (self.0.get() < 0).then(|| Seq::new(self.0.get().unsigned_abs()))
    }

    /// Whether a change at this position can have this end: a lease is granted before it is used.
    pub(crate) fn fits(self, seq: Seq) -> bool {
        self.lease().is_none_or(|lease| lease < seq)
    }
}

impl From<Until> for i64 {
    fn from(until: Until) -> Self {
        until.number()
    }
}

impl TryFrom<i64> for Until {
    type Error = StateError;

    fn try_from(number: i64) -> Result<Self, StateError> {
        Self::from_number(number).ok_or_else(|| {
            StateError::InvalidArgument(format!(
                "{number} is no end: it is a moment in microseconds up to the year 9999, or minus the position of a lease"
            ))
        })
    }
}

impl fmt::Debug for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As a moment, or as `lease 4711`.
impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lease() {
            Some(lease) => write!(f, "lease {lease}"),
            None => Timestamp::from_micros(self.0.get()).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_moment_or_a_lease_and_nothing_else() {
        let last = Timestamp::MAX_CLOCK.as_micros();
        for number in [1, last] {
            let until = Until::from_number(number).unwrap();
            assert_eq!((until.deadline(), until.lease()), (Some(Timestamp::from_micros(number)), None));
            assert_eq!(until.number(), number);
            assert!(until.fits(Seq::new(1)));
        }
        for (number, seq) in [(-1, Seq::new(1)), (-i64::MAX, Seq::MAX)] {
            let until = Until::from_number(number).unwrap();
            assert_eq!((until.deadline(), until.lease(), until.number()), (None, Some(seq), number));
            assert!(!until.fits(seq), "granted by the change itself");
        }
        assert!(Until::from_number(-7).unwrap().fits(Seq::new(8)));
        for number in [0, last + 1, i64::MAX, i64::MIN] {
            assert_eq!(Until::from_number(number), None, "{number}");
        }
    }

    #[test]
    fn an_end_is_its_number_in_json_and_other_numbers_are_refused() {
        for number in [1, Timestamp::MAX_CLOCK.as_micros(), -1, -i64::MAX] {
            let until = Until::try_from(number).unwrap();
            assert_eq!(serde_json::to_string(&until).unwrap(), number.to_string());
            assert_eq!(serde_json::from_str::<Until>(&number.to_string()).unwrap(), until);
        }
        for number in [0, Timestamp::MAX_CLOCK.as_micros() + 1, i64::MIN] {
            let refused = Until::try_from(number).unwrap_err();
            assert!(refused.to_string().contains(&format!("{number} is no end")), "{refused}");
            assert!(serde_json::from_str::<Until>(&number.to_string()).is_err(), "{number}");
        }
    }

    #[test]
    fn an_end_prints_as_a_moment_or_as_a_lease() {
        let shown = |number| Until::from_number(number).unwrap().to_string();
        assert_eq!(shown(1), "1970-01-01T00:00:00.000001Z");
        assert_eq!(shown(-4711), "lease 4711");
    }
}
