//! Writing a log file, or lines of JSON.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::log_item::{self, Start};
use crate::log::{ChangeView, Hash, Head, Meta};

/// The format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// A log file: a sequence of CBOR items, described in `schema/change.cddl`. It can be imported.
    #[default]
    Cbor,
    /// Lines of JSON, one object each, for people and scripts. It cannot be imported.
    Ndjson,
}

/// Writes the items of an export, in order.
pub(crate) struct LogWriter<W> {
    write: W,
    form: Form,
}

impl<W: Write> LogWriter<W> {
    pub(crate) fn new(mut write: W, form: Form, start: &Start) -> io::Result<Self> {
        match form {
            Form::Cbor => write.write_all(&log_item::start(start))?,
            Form::Ndjson => {
                let Start { store, floor, floor_at, base } = start;
                let mut shown = json!({ "store": store, "floor": floor.seq, "hash": floor.hash });
                if let Some(fields) = shown.as_object_mut() {
                    fields.extend(floor_at.map(|at| ("at".to_owned(), json!(at))));
                    fields.extend(base.map(|count| ("base".to_owned(), json!(count))));
                }
                line(&mut write, "log", &shown)?;
            }
        }
        Ok(Self { write, form })
    }

    /// Writes a change, given with its encoded header.
    pub(crate) fn change(&mut self, change: &ChangeView<'_>, header: &[u8]) -> io::Result<()> {
        match self.form {
            Form::Cbor => self.item(None, change, header),
            Form::Ndjson => line(&mut self.write, "change", &shown(change)),
        }
    }

    /// Writes a change of the base, given with the chain before it and with its encoded header.
    pub(crate) fn base(&mut self, before: Hash, change: &ChangeView<'_>, header: &[u8]) -> io::Result<()> {
        match self.form {
            Form::Cbor => self.item(Some(before), change, header),
            Form::Ndjson => {
                let mut shown = shown(change);
                if let Some(fields) = shown.as_object_mut() {
                    fields.insert("before".into(), json!(before));
                }
                line(&mut self.write, "base", &shown)
            }
        }
    }

    /// Writes a change of the base that is withheld: the chain before it, and the hash of its header.
    pub(crate) fn withheld_base(&mut self, before: Hash, header: Hash) -> io::Result<()> {
        match self.form {
            Form::Cbor => self.write.write_all(&log_item::withheld_base(before, header)),
            Form::Ndjson => {
                let shown = json!({ "before": before, "header_hash": header });
                line(&mut self.write, "withheld_base", &shown)
            }
        }
    }

    fn item(&mut self, before: Option<Hash>, change: &ChangeView<'_>, header: &[u8]) -> io::Result<()> {
        let value = change.salt.as_ref().zip(change.value);
        let length = value.map(|(salt, value)| (salt, value.len()));
        self.write.write_all(&log_item::change(before, header, length))?;
        self.write.write_all(value.map_or(&[], |(_, value)| value))
    }

    /// Writes a withheld change: the hash of its header. `head` is the head after it.
    pub(crate) fn withheld(&mut self, header: Hash, head: Head) -> io::Result<()> {
        match self.form {
            Form::Cbor => self.write.write_all(&log_item::withheld(header)),
            Form::Ndjson => {
                let shown = json!({ "seq": head.seq, "header_hash": header, "hash": head.hash });
                line(&mut self.write, "withheld", &shown)
            }
        }
    }

    pub(crate) fn end(mut self, count: u64, head: Head) -> io::Result<W> {
        match self.form {
            Form::Cbor => self.write.write_all(&log_item::end(count, head))?,
            Form::Ndjson => {
                let shown = json!({ "count": count, "seq": head.seq, "hash": head.hash });
                line(&mut self.write, "end", &shown)?;
            }
        }
        self.write.flush()?;
        Ok(self.write)
    }
}

/// Writes an object as a line of JSON. The version of the format and the type come first.
fn line(write: &mut impl Write, kind: &str, fields: &Value) -> io::Result<()> {
    let fields = fields.to_string();
    let rest = fields.strip_prefix('{').unwrap_or(&fields);
    writeln!(write, "{{\"v\":1,\"type\":\"{kind}\",{rest}")
}

fn shown(change: &ChangeView<'_>) -> Value {
    let mut shown = json!({
        "seq": change.seq, "commit_seq": change.commit_seq, "at": change.at, "kind": change.kind.to_string(),
        "key": change.key, "version": change.version, "created_at": change.created_at, "prev": change.prev,
        "hash": change.hash,
    });
    if let Some(fields) = shown.as_object_mut() {
        if let Some(value) = change.value {
            let (encoding, value) = match std::str::from_utf8(value) {
                Ok(text) => ("text", text.to_owned()),
                Err(_) => ("base64", base64(value)),
            };
            fields.insert("value".into(), value.into());
            fields.insert("encoding".into(), encoding.into());
        }
        if let Some(salt) = change.salt {
            fields.insert("salt".into(), base64(&salt).into());
        }
        if let Some(until) = change.until {
            fields.insert("until".into(), json!(until));
        }
        if let Some(hash) = change.value_hash {
            fields.insert("value_hash".into(), hash.to_string().into());
        }
        if change.is_erased() {
            fields.insert("erased".into(), true.into());
        }
        if let Some(meta) = change.meta.and_then(Meta::decode) {
            fields.insert("meta".into(), json!(meta));
        }
    }
    shown
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET
                .get((group >> (18 - 6 * place)) as usize & 63)
                .map_or('=', |digit| char::from(*digit));
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let cases = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, expected) in cases.into_iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..length]), expected);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}
