//! What a store keeps: the value of the key `/.univrs/retention`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Result, StateError};
use crate::key::{RESERVED_PREFIX, RETENTION_KEY};
use crate::pattern::Pattern;

/// The format of the record.
const FORMAT: u64 = 1;
/// The most rules for values, and the most patterns to keep.
const MOST: usize = 100;
/// The youngest that anything may leave: open scans, and retries by commit id, may go back so far.
pub(crate) const YOUNG: Duration = Duration::from_secs(600);
/// The longest age, of about 290 years.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// What a store keeps, and what leaves its log. It is a part of the store: every program that opens the store has the same
/// one. Set by [`Retention::set_policy`](crate::retain::Retention::set_policy), and applied by
/// [`Retention::retain`](crate::retain::Retention::retain), or on a schedule by
/// [`Options::retain_every`](crate::Options::retain_every).
///
/// The default keeps everything.
///
/// ```
/// use std::time::Duration;
/// use univrs_state::retain::Policy;
/// # fn main() -> univrs_state::Result<()> {
/// const DAY: Duration = Duration::from_secs(86_400);
/// let policy = Policy::new()
///     .age(90 * DAY) // what was superseded 90 days ago leaves the log,
///     .keep("/credits/*".parse()?) // but for the history of these keys;
///     .forget() // keys that were deleted 90 days ago are forgotten;
///     .values("/metrics/*".parse()?, 7 * DAY, 1); // and old values of these go after a week
/// assert_eq!(policy.values[0].keep, 1);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Policy {
    /// How old a change must be to leave the log, once it is superseded; `None` keeps all.
    pub age: Option<Duration>,
    /// Keys whose whole history stays.
    pub keep: Vec<Pattern>,
    /// Whether deleted keys are forgotten.
    pub forget: bool,
    /// Whether marks keep what they name.
    pub spare_marks: bool,
    /// Values that leave before their changes do.
    pub values: Vec<ValueRule>,
}

/// Which values leave the log, and when, although their changes stay.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValueRule {
    /// Of which keys.
    pub pattern: Pattern,
    /// How long ago a value must have been superseded.
    pub age: Duration,
    /// How many versions of each key keep their values in any case, counted from the newest one of that time.
    pub keep: u64,
}

impl Policy {
    /// Keeps everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Compacts the log up to the newest commit of this age: what was superseded then leaves it. At least ten minutes.
    #[must_use]
    pub fn age(self, age: Duration) -> Self {
        Self { age: Some(age), ..self }
    }

    /// Keeps all changes of the keys that match the pattern, besides those of earlier patterns.
    #[must_use]
    pub fn keep(mut self, pattern: Pattern) -> Self {
        self.keep.push(pattern);
        self
    }

    /// Forgets keys that were deleted and have the [`age`](Self::age), as
    /// [`Compact::forget`](crate::retain::Compact::forget) does.
    #[must_use]
    pub fn forget(self) -> Self {
        Self { forget: true, ..self }
    }

    /// Has marks hold back what leaves the log: nothing before the earliest one does.
    #[must_use]
    pub fn spare_marks(self) -> Self {
        Self { spare_marks: true, ..self }
    }

    /// Drops the values of the keys that match the pattern, once they were superseded this long ago, but for the newest
    /// `keep` versions of each key. Their changes stay until they have the [`age`](Self::age).
    #[must_use]
    pub fn values(mut self, pattern: Pattern, age: Duration, keep: u64) -> Self {
        self.values.push(ValueRule { pattern, age, keep });
        self
    }

    /// Refuses a policy that nobody can mean.
    fn check(&self) -> Result<()> {
        let refused = |why: String| Err(StateError::InvalidArgument(why));
        for age in self.age.iter().chain(self.values.iter().map(|rule| &rule.age)) {
            if *age < YOUNG || *age > LONGEST {
                return refused(format!(
                    "a policy has an age of {} seconds: it must have {} at least, because open scans and retries may go back \
                     so far, and 100 years at most",
                    age.as_secs(),
                    YOUNG.as_secs()
                ));
            }
        }
        if self.age.is_none() && (self.forget || self.spare_marks || !self.keep.is_empty()) {
            return refused(
                "a policy says what to keep or to forget, but not from which age on: set an age".into(),
            );
        }
        for (count, what) in [(self.keep.len(), "patterns to keep"), (self.values.len(), "rules for values")]
        {
            if count > MOST {
                return refused(format!("a policy has {count} {what}: at most {MOST} are allowed"));
            }
        }
        let reserved = self.values.iter().find(|rule| rule.pattern.as_str().starts_with(RESERVED_PREFIX));
        reserved.map_or(Ok(()), |rule| {
            let pattern = rule.pattern.as_str();
            refused(format!(
                "the pattern {pattern:?} is of keys of the store itself, which keep their values"
            ))
        })
    }
}

/// What is recorded of a policy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PolicyRecord {
    pub(crate) policy: Policy,
    /// Whether somebody has asked for the first run of it.
    pub(crate) has_begun: bool,
    /// What else the value says.
    more: Map<String, Value>,
}

/// The record as JSON. Ages are in microseconds.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(default = "first_format")]
    v: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    age: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keep: Vec<String>,
    #[serde(default)]
    forget: bool,
    #[serde(default)]
    spare_marks: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<Rule>,
    #[serde(default)]
    begun: bool,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Rule {
    pattern: String,
    age: u64,
    keep: u64,
}

fn first_format() -> u64 {
    FORMAT
}

impl PolicyRecord {
    /// The record of a policy that did not run yet.
    ///
    /// # Errors
    /// Nobody can mean the policy.
    pub(crate) fn new(policy: Policy) -> Result<Self> {
        policy.check()?;
        Ok(Self { policy, has_begun: false, more: Map::new() })
    }

    /// The record once somebody has asked for a run.
    pub(crate) fn begun(self) -> Self {
        Self { has_begun: true, ..self }
    }

    /// The value of the key.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let Policy { age, keep, forget, spare_marks, values } = &self.policy;
        let micros = |age: Duration| u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let rule = |rule: &ValueRule| Rule {
            pattern: rule.pattern.as_str().to_owned(),
            age: micros(rule.age),
            keep: rule.keep,
        };
        Ok(serde_json::to_vec(&Record {
            v: FORMAT,
            age: age.map(micros),
            keep: keep.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
            forget: *forget,
            spare_marks: *spare_marks,
            values: values.iter().map(rule).collect(),
            begun: self.has_begun,
            more: self.more.clone(),
        })?)
    }

    /// Reads the value of the key.
    pub(crate) fn decode(value: &[u8]) -> Result<Self> {
        let corrupt = || StateError::Corrupted(format!("the value of {RETENTION_KEY} is no policy"));
        let any: Map<String, Value> = serde_json::from_slice(value).map_err(|_| corrupt())?;
        if let Some(format) = any.get("v").and_then(Value::as_u64).filter(|format| *format > FORMAT) {
            return Err(StateError::UpgradeNeeded(format!(
                "{RETENTION_KEY} has the format {format}, and this version reads the format {FORMAT}"
            )));
        }
        let record: Record = serde_json::from_value(Value::Object(any)).map_err(|_| corrupt())?;
        let pattern = |text: &str| text.parse::<Pattern>().map_err(|_| corrupt());
        let rule = |rule: &Rule| {
            let (pattern, age) = (pattern(&rule.pattern)?, Duration::from_micros(rule.age));
            Ok(ValueRule { pattern, age, keep: rule.keep })
        };
        let policy = Policy {
            age: record.age.map(Duration::from_micros),
            keep: record.keep.iter().map(|text| pattern(text)).collect::<Result<_>>()?,
            forget: record.forget,
            spare_marks: record.spare_marks,
            values: record.values.iter().map(rule).collect::<Result<_>>()?,
        };
        if record.v != FORMAT || policy.check().is_err() {
            return Err(corrupt());
        }
        Ok(Self { policy, has_begun: record.begun, more: record.more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    fn all() -> Policy {
        Policy::new().age(2 * HOUR).keep(pattern("/a/*")).forget().spare_marks().values(
            pattern("/b"),
            HOUR,
            3,
        )
    }

    #[test]
    fn a_policy_is_read_as_it_was_written_with_what_a_later_version_says() {
        for policy in [Policy::new(), Policy::new().age(HOUR), all()] {
            let record = PolicyRecord::new(policy).unwrap();
            assert_eq!(PolicyRecord::decode(&record.encode().unwrap()), Ok(record.clone()));
            let begun = record.begun();
            assert_eq!(PolicyRecord::decode(&begun.encode().unwrap()), Ok(begun));
        }
        let text = String::from_utf8(PolicyRecord::new(all()).unwrap().encode().unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"age":7200000000,"keep":["/a/*"],"forget":true,"spare_marks":true,"values":[{"pattern":"/b","age":3600000000,"keep":3}],"begun":false}"#
        );
        let later = text.replace("\"begun\"", "\"later\":[1],\"begun\"");
        let read = PolicyRecord::decode(later.as_bytes()).unwrap();
        assert!(String::from_utf8(read.encode().unwrap()).unwrap().contains("\"later\":[1]"));
        for (from, to) in [
            ("\"v\":1", "\"v\":0"),
            ("/a/*", "a"),
            ("7200000000", "7"),
            ("/b", "/.univrs/b"),
            ("true", "1"),
            ("}", ""),
        ] {
            let altered = text.replacen(from, to, 1);
            assert!(altered != text, "{from}");
            assert!(
                matches!(PolicyRecord::decode(altered.as_bytes()), Err(StateError::Corrupted(_))),
                "{altered}"
            );
        }
        let newer = PolicyRecord::decode(text.replace("\"v\":1", "\"v\":2").as_bytes());
        assert!(matches!(newer, Err(StateError::UpgradeNeeded(_))));
    }

    #[test]
    fn a_policy_that_nobody_can_mean_is_refused_by_what_is_wrong_with_it() {
        let many = (0..=MOST).fold(Policy::new().age(HOUR), |policy, _| policy.keep(pattern("/a")));
        for (policy, says) in [
            (Policy::new().age(Duration::ZERO), "0 seconds"),
            (Policy::new().age(Duration::from_secs(599)), "599 seconds"),
            (Policy::new().age(LONGEST + HOUR), "100 years"),
            (Policy::new().values(pattern("/a"), Duration::from_secs(1), 1), "1 seconds"),
            (Policy::new().values(pattern("/.univrs/marks/*"), HOUR, 1), "/.univrs/marks/*"),
            (Policy::new().forget(), "set an age"),
            (Policy::new().keep(pattern("/a")), "set an age"),
            (many, "101 patterns"),
        ] {
            match PolicyRecord::new(policy) {
                Err(StateError::InvalidArgument(why)) => assert!(why.contains(says), "{why}"),
                other => panic!("{other:?}"),
            }
        }
        PolicyRecord::new(Policy::new().age(YOUNG)).unwrap();
    }
}
