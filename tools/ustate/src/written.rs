//! What a command that writes many keys at once says of them.

use univrs_state::history::Difference;
use univrs_state::log::{Change, ChangeKind};
use univrs_state::{Receipt, SqliteStore, StateStore};

use crate::context::Context;
use crate::escape::{escape_field, escape_key};
use crate::json::Object;
use crate::output::Format;
use crate::rows::VALUE_ROOM;
use crate::stop::Done;
use crate::time::rfc3339;
use crate::value::brief;

/// A key that was written, or would be.
pub(crate) struct Written<'a> {
    /// Empty in a rehearsal.
    pub(crate) seq: String,
    pub(crate) kind: ChangeKind,
    pub(crate) key: &'a str,
    pub(crate) value: Option<&'a [u8]>,
}

/// The changes of a receipt.
pub(crate) async fn written(store: &SqliteStore, receipt: &Receipt) -> Done<Vec<Change>> {
    if receipt.is_empty() {
        return Ok(Vec::new());
    }
    let commit = store.changes(receipt.first.previous(), 1).await?.into_iter().next();
    Ok(commit.map(|commit| commit.changes).unwrap_or_default())
}

impl<'a> Written<'a> {
    pub(crate) fn of_change(change: &'a Change) -> Self {
        let (kind, value) = (change.kind, change.value.as_deref());
        Self { seq: change.seq.to_string(), kind, key: &change.key, value }
    }

    pub(crate) fn of_difference(difference: &'a Difference) -> Self {
        let value = difference.after.as_ref().and_then(|after| after.value.as_deref());
        Self { seq: String::new(), kind: difference.kind(), key: &difference.key, value }
    }

    /// `5 set /config/rate  7`, or what would be done.
    fn line(&self) -> String {
        let verb = match (self.kind, self.seq.is_empty()) {
            (ChangeKind::Deleted, false) => "deleted",
            (ChangeKind::Deleted, true) => "would delete",
            (_, false) => "set",
            (_, true) => "would set",
        };
        let value = self.value.map(|value| format!("  {}", brief(value, VALUE_ROOM))).unwrap_or_default();
        format!("{} {verb} {}{value}", self.seq, escape_key(self.key)).trim_start().to_owned()
    }
}

/// What came of it.
pub(crate) struct Outcome<'a> {
    pub(crate) rows: &'a [Written<'a>],
    /// None where nothing was written.
    pub(crate) receipt: Option<&'a Receipt>,
    pub(crate) dry_run: bool,
}

impl Outcome<'_> {
    /// Says it; `object` begins what machines get, and `nothing` is the note where there is nothing.
    pub(crate) fn report(&self, context: &mut Context, object: Object, nothing: &str) -> Done {
        match context.format {
            Format::Human => {
                // What goes is always said.
                let is_said = |row: &&Written<'_>| !context.quiet || row.kind == ChangeKind::Deleted;
                for row in self.rows.iter().filter(is_said) {
                    context.out.line(&row.line())?;
                }
                context.out.flush()?;
                if self.rows.is_empty() {
                    context.note(nothing);
                }
                Ok(())
            }
            Format::Tsv => {
                let mut rows = self.rows.iter();
                rows.try_for_each(|row| {
                    context.out.fields([&row.seq, &row.kind.to_string(), &escape_field(row.key)])
                })
            }
            _ => context.out.line(&self.object(object)),
        }
    }

    fn object(&self, object: Object) -> String {
        let changes = self
            .rows
            .iter()
            .map(|row| Object::nested().text("kind", &row.kind.to_string()).text("key", row.key).finish());
        let object = match self.receipt {
            Some(receipt) => object
                .number("first", receipt.first.as_u64())
                .number("last", receipt.last.as_u64())
                .text("at", &rfc3339(receipt.at))
                .text("head", &receipt.head.to_string()),
            None if self.dry_run => object.flag("dry_run", true),
            None => object,
        };
        object.list("changes", changes).finish()
    }
}
