//! `ustate restore --in-slices`

use univrs_state::history::{Past, Restore};
use univrs_state::log::{Change, ChangeKind};
use univrs_state::{Meta, Seq, SqliteStore, StateStore};

use super::restore::{ends, told_of_ends};
use crate::confirm::{confirm, some_of};
use crate::context::{Context, quoted_text};
use crate::json::Object;
use crate::slices::{SLICE, Slices};
use crate::source::Source;
use crate::stop::{Done, Exit, Failure, fail};
use crate::value::{counted, were};
use crate::written::{Outcome, Written, written};

/// The most bytes of the values of a slice, but for one that is larger alone.
const BYTES: usize = 4 << 20;

/// A restore that is too much for one commit.
pub(super) struct InSlices {
    /// What the keys start with.
    pub(super) prefix: Option<String>,
    /// Keys that were changed after this position stay; by default after the look at them.
    pub(super) until: Option<Seq>,
    pub(super) yes: bool,
    pub(super) dry_run: bool,
    pub(super) meta: Meta,
}

/// A key that is not what it was. Its value is read again for its commit.
struct Due {
    key: String,
    kind: ChangeKind,
    bytes: usize,
    ends: bool,
}

impl InSlices {
    pub(super) async fn run(self, context: &mut Context, source: Source, past: &Past) -> Done {
        let (due, at) = self.find(&source, past).await?;
        if due.is_empty() {
            context.note(&format!("nothing differs from what was at {}", past.seq()));
            return Ok(());
        }
        let restore = |slice: &[Due]| {
            let keys = slice.iter().map(|due| due.key.as_str());
            Restore::keys(keys, past.cursor()).expect_unchanged_since(at).meta(self.meta.clone())
        };
        told_of_ends(context, due.iter().filter(|due| due.ends).count());
        let keys = due.len() as u64;
        let slices = cut(due);
        let begun = |context: &Context| {
            Slices::begin(context, (keys, slices.len() as u64), "restored", self.again(context, past, at))
        };
        // None begins before all were judged.
        for slice in &slices {
            let batch = source.local().batch_of(restore(slice)).await?;
            source.local().rehearse(batch).await?;
        }
        if self.dry_run {
            begun(context);
            for slice in &slices {
                let rows: Vec<_> = slice.iter().map(Due::row).collect();
                Outcome { rows: &rows, receipt: None, dry_run: true }.report(context, object(past), "")?;
            }
            return Ok(());
        }
        if !self.yes {
            let all = slices.iter().flatten().map(|due| due.key.as_str()).take(4).collect::<Vec<_>>();
            confirm(
                &format!(
                    "restore {} to what {} at {} ({})",
                    counted(keys, "key"),
                    were(keys),
                    past.seq(),
                    some_of(all.into_iter())
                ),
                "--yes restores without asking, --dry-run says what would be done",
                "restored",
            )?;
        }
        // Before its file is looked at again: that would drop the locks of what is open.
        source.close().await?;
        let store = context.open_to_write(&self.meta).await?;
        let mut so_far = begun(context);
        for slice in slices {
            let attempt = async |slice: &[Due]| store.restore(restore(slice)).await;
            if let Some(receipt) = so_far.commit(context, slice, |due| &due.key, attempt).await? {
                report(context, &store, &receipt, past).await?;
            }
        }
        context.close(&store).await;
        so_far.end(context)
    }

    /// What is not what it was, and the position of the state that was compared. No value is kept.
    async fn find(&self, source: &Source, past: &Past) -> Done<(Vec<Due>, Seq)> {
        let all = Restore::prefix(self.prefix.as_deref().unwrap_or("/"), past.cursor());
        let (mut due, mut at, mut next) = (Vec::new(), None, Some(all.diff()));
        while let Some(diff) = next {
            let page = source.diff(diff).await?;
            let at = *at.get_or_insert(self.until.unwrap_or(page.from.seq()));
            for difference in page.differences.iter().filter(|difference| !difference.is_same_value()) {
                let key = &difference.key;
                if difference.after.as_ref().is_some_and(Change::is_erased) {
                    let what = format!("the value that {key} had then is gone; its hash remains");
                    return fail(
                        Failure::new(Exit::HistoryGone, "erased", what).fact("nothing was recorded"),
                    );
                }
                if difference.before.as_ref().is_some_and(|before| before.seq > at) {
                    continue;
                }
                let value = difference.after.as_ref().and_then(|after| after.value.as_deref());
                let bytes = value.map_or(0, <[u8]>::len);
                due.push(Due { key: key.clone(), kind: difference.kind(), bytes, ends: ends(difference) });
            }
            next = page.next;
        }
        Ok((due, at.or(self.until).unwrap_or_default()))
    }

    /// The command that goes on.
    fn again(&self, context: &Context, past: &Past, at: Seq) -> String {
        let what = match &self.prefix {
            Some(prefix) => format!("--prefix {}", quoted_text(prefix)),
            None => "--all".to_owned(),
        };
        context.hint(&format!("restore {what} --to {} --in-slices --until {at}", past.seq()))
    }
}

impl Due {
    fn row(&self) -> Written<'_> {
        Written { seq: String::new(), kind: self.kind, key: &self.key, value: None }
    }
}

/// Cuts what is due into slices.
fn cut(due: Vec<Due>) -> Vec<Vec<Due>> {
    let (mut slices, mut slice, mut bytes) = (Vec::new(), Vec::new(), 0);
    for one in due {
        if slice.len() == SLICE || (bytes + one.bytes > BYTES && !slice.is_empty()) {
            slices.push(std::mem::take(&mut slice));
            bytes = 0;
        }
        bytes += one.bytes;
        slice.push(one);
    }
    slices.extend((!slice.is_empty()).then_some(slice));
    slices
}

fn object(past: &Past) -> Object {
    Object::of_type("receipt").number("restored_from", past.seq().as_u64())
}

async fn report(
    context: &mut Context,
    store: &SqliteStore,
    receipt: &univrs_state::Receipt,
    past: &Past,
) -> Done {
    let changes = written(store, receipt).await?;
    let rows: Vec<_> = changes.iter().map(Written::of_change).collect();
    Outcome { rows: &rows, receipt: Some(receipt), dry_run: false }.report(context, object(past), "")
}
