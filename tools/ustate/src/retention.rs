//! What `ustate doctor` says of what leaves the log, and of who holds it back.

use univrs_state::{LocalStore, SqliteStore};

use crate::context::Context;
use crate::health::Check;
use crate::stop::Done;
use crate::value::counted;

/// A compaction that is not finished, and the consumers.
pub(crate) async fn retention(context: &Context, store: &SqliteStore) -> Done<Vec<Check>> {
    let mut checks = Vec::new();
    if let Some(floor) = store.stats().await?.unfinished_compaction {
        let advice = format!("unless somebody is at it, {} finishes it", context.hint("compact --resume"));
        checks.push(Check::warning("compaction", format!("the one to {floor} is not finished"), advice));
    }
    if let Some(at) = store.stats().await?.unfinished_thinning {
        let advice = format!("unless somebody is at it, {} finishes it", context.hint("thin --resume"));
        checks.push(Check::warning("thinning", format!("the one up to {at} is not finished"), advice));
    }
    let (consumers, floor) = (store.consumers().await?, LocalStore::floor(store).await?.seq);
    for lost in consumers.iter().filter(|consumer| consumer.cursor.seq() < floor) {
        let what = format!("{} is at {}, before the log begins", lost.name, lost.cursor.seq());
        let reset = context.hint(&format!("consumers reset {} --to {floor}", lost.name));
        checks.push(Check::warning("consumer", what, format!("what lies between is gone; {reset} goes on")));
    }
    if let Some(last) = consumers.iter().max_by_key(|consumer| consumer.lag) {
        let number = counted(consumers.len() as u64, "consumer");
        let what = format!("{number}; {} is {} behind", last.name, counted(last.lag, "change"));
        checks.push(Check::ok("consumers", what));
    }
    Ok(checks)
}
