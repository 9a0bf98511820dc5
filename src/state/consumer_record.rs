//! What is recorded of a consumer: how far it is, and for how long that holds retention back.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Entry;
use crate::error::{Result, StateError};
use crate::key::CONSUMERS_PREFIX;
use crate::log::{Cursor, Timestamp};

/// The format of a record.
const FORMAT: u64 = 1;

/// What is recorded under the key of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerRecord {
    /// The keys that it reads.
    pub(crate) pattern: String,
    /// Up to here it is done with the log.
    pub(crate) cursor: Cursor,
    /// How often it was taken over since it was made.
    pub(crate) generation: u64,
    /// For how long this record keeps the changes after the cursor from being dropped.
    pub(crate) hold: Duration,
    /// What else the value says.
    more: Map<String, Value>,
}

impl ConsumerRecord {
    /// The record of a new consumer.
    pub(crate) fn new(pattern: &str, cursor: Cursor, hold: Duration) -> Self {
        Self { pattern: pattern.to_owned(), cursor, generation: 1, hold, more: Map::new() }
    }

    /// This record, at another position.
    pub(crate) fn moved_to(&self, cursor: Cursor) -> Self {
        Self { cursor, ..self.clone() }
    }

    /// This record, as somebody else goes on from it: whoever had it is fenced.
    pub(crate) fn taken_over(self) -> Self {
        Self { generation: self.generation.saturating_add(1), ..self }
    }

    /// Reads what is recorded under a key.
    pub(crate) fn decode(key: &str, value: &[u8]) -> Result<Self> {
        let corrupt = || StateError::Corrupted(format!("the value of {key} is no record of a consumer"));
        let mut more: Map<String, Value> = serde_json::from_slice(value).map_err(|_| corrupt())?;
        match more.remove("v").map(|v| v.as_u64()) {
            None | Some(Some(FORMAT)) => {}
            Some(Some(format)) if format > FORMAT => {
                return Err(StateError::UpgradeNeeded(format!(
                    "{key} is a consumer of the format {format}, but this version reads the format {FORMAT}"
                )));
            }
            _ => return Err(corrupt()),
        }
        let mut field = |name| more.remove(name).ok_or_else(corrupt);
        let (pattern, cursor) = (field("pattern")?, field("cursor")?);
        let (generation, hold) = (field("generation")?, field("hold")?);
        let cursor: Cursor = serde_json::from_value(cursor).map_err(|_| corrupt())?;
        cursor.head().ok_or_else(corrupt)?;
        Ok(Self {
            pattern: serde_json::from_value(pattern).map_err(|_| corrupt())?,
            cursor,
            generation: generation.as_u64().ok_or_else(corrupt)?,
            hold: hold.as_u64().map(Duration::from_micros).ok_or_else(corrupt)?,
            more,
        })
    }

    /// What is recorded under the key.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = self.more.clone();
        value.insert("v".into(), FORMAT.into());
        value.insert("pattern".into(), self.pattern.as_str().into());
        value.insert("cursor".into(), self.cursor.to_string().into());
        value.insert("generation".into(), self.generation.into());
        value.insert("hold".into(), u64::try_from(self.hold.as_micros()).unwrap_or(u64::MAX).into());
        Value::Object(value).to_string().into_bytes()
    }
}

/// What a consumer holds: the changes after its cursor, for some time after the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    /// The name of the consumer.
    pub(crate) name: String,
    pub(crate) record: ConsumerRecord,
    /// When the record was made.
    pub(crate) recorded: Timestamp,
}

impl Hold {
    /// What the consumer of this entry holds.
    pub(crate) fn of(entry: &Entry) -> Result<Self> {
        let record = ConsumerRecord::decode(&entry.key, &entry.value)?;
        let name = entry.key.strip_prefix(CONSUMERS_PREFIX).unwrap_or(&entry.key).to_owned();
        Ok(Self { name, record, recorded: entry.updated_at.into() })
    }

    /// Whether it still holds at a time. A clock that shows a time before the record proves nothing: then it does.
    pub(crate) fn lasts(&self, now: Timestamp) -> bool {
        now.since(self.recorded) <= self.record.hold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Head, StoreId};
    use crate::seq::Seq;

    const KEY: &str = "/.univrs/consumers/c";
    const DAY: Duration = Duration::from_secs(86_400);

    fn cursor() -> Cursor {
        let store = StoreId::from_bytes([7; 16]);
        Cursor::new(store, Head::genesis(store))
    }

    fn text(record: &ConsumerRecord) -> String {
        String::from_utf8(record.encode()).unwrap()
    }

    #[test]
    fn a_record_reads_as_it_was_written_and_keeps_what_it_does_not_know() {
        let record = ConsumerRecord::new("/jobs/*", cursor(), DAY);
        assert_eq!(ConsumerRecord::decode(KEY, &record.encode()), Ok(record.clone()));
        let cursor = cursor();
        let rest = r#""generation":1,"hold":86400000000,"pattern":"/jobs/*""#;
        assert_eq!(text(&record), format!(r#"{{"cursor":"{cursor}",{rest},"v":1}}"#));

        let more = format!(r#"{{"cursor":"{cursor}",{rest},"team":{{"of":[1,"x"]}}}}"#);
        let known = ConsumerRecord::decode(KEY, more.as_bytes()).unwrap();
        let taken = text(&known.moved_to(cursor).taken_over());
        assert!(
            taken.contains(r#""generation":2"#) && taken.contains(r#""team":{"of":[1,"x"]},"v":1"#),
            "{taken}"
        );
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number_and_what_is_no_record_by_its_key() {
        let newer = ConsumerRecord::decode(KEY, br#"{"v":2,"place":"elsewhere"}"#).unwrap_err();
        assert!(
            matches!(&newer, StateError::UpgradeNeeded(why) if why.contains("format 2") && why.contains(KEY))
        );
        let good = text(&ConsumerRecord::new("/a", cursor(), DAY));
        for bad in [
            String::new(),
            "7".into(),
            "{}".into(),
            good.replace(r#""v":1"#, r#""v":0"#),
            good.replace(r#""v":1"#, r#""v":"1""#),
            good.replace("86400000000", "-1"),
            good.replace("86400000000", "1.5"),
            good.replace(r#""generation":1"#, r#""generation":null"#),
            good.replace(r#""pattern":"/a""#, r#""pattern":7"#),
            good.replace(&cursor().to_string(), "12"),
            good.replace(":0:", ":x:"),
        ] {
            assert_ne!(bad, good);
            let error = ConsumerRecord::decode(KEY, bad.as_bytes()).unwrap_err();
            assert!(matches!(&error, StateError::Corrupted(why) if why.contains(KEY)), "{bad}: {error}");
        }
    }

    #[test]
    fn a_position_holds_until_its_time_is_over_and_longer_if_the_clock_went_back() {
        let recorded = Timestamp::from_micros(1_700_000_000_000_000);
        let entry = Entry {
            key: KEY.into(),
            value: ConsumerRecord::new("/a", cursor(), DAY).encode(),
            version: 1,
            created_at: recorded.into(),
            updated_at: recorded.into(),
            seq: Seq::new(9),
            until: None,
        };
        let hold = Hold::of(&entry).unwrap();
        assert_eq!((hold.name.as_str(), hold.recorded), ("c", recorded));
        let end = recorded.plus(DAY);
        for (now, lasts) in [
            (recorded, true),
            (end, true),
            (Timestamp::from_micros(end.as_micros() + 1), false),
            (Timestamp::EPOCH, true),
        ] {
            assert_eq!(hold.lasts(now), lasts, "{now}");
        }
        assert!(Hold::of(&Entry { value: b"{}".to_vec(), ..entry }).is_err());
    }
}
