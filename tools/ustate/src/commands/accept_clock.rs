//! `ustate doctor --accept-clock`

use univrs_state::history::Point;
use univrs_state::log::Timestamp;
use univrs_state::{LocalStore, Meta, WithMeta};

use crate::context::{Context, may_write};
use crate::escape::escape_field;
use crate::json::Object;
use crate::output::Format;
use crate::rows::origin;
use crate::stop::Done;
use crate::time::rfc3339;

/// Takes the clock for right, if the newest commit is ahead of it, or only says so.
pub(super) async fn accept_clock(context: &mut Context, meta: &Meta, dry_run: bool) -> Done {
    may_write()?;
    let (source, store);
    let local: &dyn LocalStore = if dry_run {
        source = context.open_to_rehearse(meta).await?;
        source.local()
    } else {
        store = context.open_to_accept(meta).await?;
        &store
    };
    let newest = local.at(Point::Head).await?.at();
    let accepted = if local.stats().await?.ahead_of_clock.is_zero() {
        context.note("the newest commit is not ahead of the clock, so nothing is recorded");
        None
    } else if dry_run {
        Some(None)
    } else {
        Some(Some(WithMeta::new(local, meta.clone()).accept_clock().await?))
    };
    local.close().await?;
    let Some(receipt) = accepted else { return Ok(()) };
    let shown = |at: Option<Timestamp>| at.map(rfc3339).unwrap_or_default();
    let (newest, at) = (shown(newest), shown(receipt.as_ref().map(|receipt| receipt.at)));
    let seq = receipt.map(|receipt| receipt.head.seq);
    match context.format {
        Format::Human => {
            let by = origin(Some(meta)).replace("  ", " ");
            context.out.line(&match seq {
                Some(seq) => {
                    format!("{seq} accepted the clock{by}: times go on from {at}, and not from {newest}")
                }
                None => {
                    format!("would accept the clock{by}: times would go on from it, and not from {newest}")
                }
            })
        }
        Format::Tsv => {
            let seq = seq.map(|seq| seq.to_string()).unwrap_or_default();
            let said = [&meta.actor, &meta.reason];
            let [actor, reason] = said.map(|said| escape_field(said.as_deref().unwrap_or_default()));
            context.out.fields([&*seq, &*at, &*newest, &*actor, &*reason])
        }
        _ => {
            let object = Object::of_type("clock").flag("accepted", seq.is_some()).flag("dry_run", dry_run);
            let object = object.text("before", &newest).maybe("at", seq.map(|_| &*at));
            context.out.line(&object.meta(Some(meta)).finish())
        }
    }
}
