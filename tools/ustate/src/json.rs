//! JSON objects, a line each.

use univrs_state::log::{Change, Until};
use univrs_state::{Cursor, Meta, WatchEvent};

use crate::escape::escape_json;
use crate::time::rfc3339;
use crate::value::Encoded;

/// A JSON object under construction; its fields stand in the order in which they were added.
pub(crate) struct Object(String);

impl Object {
    /// An object of the output: it says its version and its type.
    pub(crate) fn of_type(name: &str) -> Self {
        Self::nested().number("v", 1).text("type", name)
    }

    /// An object within another.
    pub(crate) fn nested() -> Self {
        Self("{".into())
    }

    pub(crate) fn text(self, name: &str, text: &str) -> Self {
        let json = quote(text);
        self.raw(name, &json)
    }

    pub(crate) fn maybe(self, name: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    pub(crate) fn number(self, name: &str, number: u64) -> Self {
        self.raw(name, &number.to_string())
    }

    pub(crate) fn flag(self, name: &str, flag: bool) -> Self {
        self.raw(name, if flag { "true" } else { "false" })
    }

    pub(crate) fn list(self, name: &str, json: impl IntoIterator<Item = String>) -> Self {
        let items: Vec<String> = json.into_iter().collect();
        self.raw(name, &format!("[{}]", items.join(",")))
    }

    /// The size, the encoding and the value.
    pub(crate) fn value(self, bytes: &[u8]) -> Self {
        let encoded = Encoded::of(bytes);
        let object = self.number("bytes", bytes.len() as u64).text("encoding", encoded.name());
        match encoded {
            Encoded::Json(json) => object.raw("value", &escape_json(&json)),
            Encoded::Text(text) | Encoded::Base64(text) => object.text("value", &text),
        }
    }

    /// When the entry ends by itself, if it does: `until` a moment, or with the `lease` of a position.
    pub(crate) fn until(self, until: Option<Until>) -> Self {
        match (until.and_then(Until::deadline), until.and_then(Until::lease)) {
            (Some(deadline), _) => self.text("until", &rfc3339(deadline)),
            (_, Some(lease)) => self.number("lease", lease.as_u64()),
            _ => self,
        }
    }

    pub(crate) fn meta(self, meta: Option<&Meta>) -> Self {
        let Some(meta) = meta else { return self };
        let object = self
            .maybe("actor", meta.actor.as_deref())
            .maybe("reason", meta.reason.as_deref())
            .maybe("correlation", meta.correlation.as_deref())
            .maybe("commit_id", meta.commit_id())
            .maybe("cause", meta.cause());
        if meta.labels.is_empty() {
            return object;
        }
        let labels =
            meta.labels.iter().fold(Self::nested(), |labels, (name, value)| labels.text(name, value));
        object.raw("labels", &labels.finish())
    }

    /// A field whose value is JSON already.
    pub(crate) fn raw(mut self, name: &str, json: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quote(name));
        self.0.push(':');
        self.0.push_str(json);
        self
    }

    pub(crate) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A JSON string.
pub(crate) fn quote(text: &str) -> String {
    escape_json(&serde_json::Value::from(text).to_string()).into_owned()
}

/// A value as JSON where its encoding is not said: text that is not embedded as JSON is a string, other bytes
/// are an object.
pub(crate) fn plain(bytes: &[u8]) -> String {
    match Encoded::of(bytes) {
        Encoded::Json(json) => escape_json(&json).into_owned(),
        Encoded::Text(text) => quote(&text),
        Encoded::Base64(text) => Object::nested().text("base64", &text).finish(),
    }
}

/// A change of the log.
pub(crate) fn change(change: &Change) -> String {
    change_object(change).finish()
}

/// A change of the log as an object that can take more fields.
pub(crate) fn change_object(change: &Change) -> Object {
    let object = Object::of_type("change")
        .number("seq", change.seq.as_u64())
        .number("commit_seq", change.commit_seq.as_u64())
        .text("at", &rfc3339(change.at))
        .text("kind", &change.kind.to_string())
        .text("key", &change.key)
        .number("version", change.version)
        .number("prev", change.prev.as_u64())
        .until(change.until);
    let object = match &change.value {
        Some(value) => object.value(value),
        None if change.is_erased() => object.flag("erased", true),
        None => object,
    };
    object.meta(change.meta.as_deref()).text("hash", &change.hash.to_string())
}

/// An event of a watch, and where to resume after it. Its version is that after the change: 0
/// where the key was deleted.
pub(crate) fn event(event: &WatchEvent, cursor: &Cursor) -> String {
    let mut object = Object::of_type("event")
        .number("seq", event.seq.as_u64())
        .number("commit_seq", event.commit_seq.as_u64())
        .text("at", &rfc3339(event.at))
        .text("kind", &event.event_type.to_string())
        .text("key", &event.key)
        .number("version", event.version);
    if let Some(value) = &event.new_value {
        object = object.value(value);
    }
    if let Some(old) = &event.old_value {
        object = object.raw("old", &Object::nested().value(old).finish());
    }
    if event.erased {
        object = object.flag("erased", true);
    }
    object.meta(event.meta.as_deref()).text("cursor", &cursor.to_string()).finish()
}
