//! Watches: many streams of all kinds of patterns, read eagerly or slowly, dropped and resumed, over
//! restarts of their store and of their process, beside the writes of other handles and processes.
//! What each showed must be ordered, unique, gapless, atomic, resumable, bookmarkable and filtered,
//! of the right kind and with the right value before (`streams/checker.rs`).
//!
//! `UNIVRS_STREAMS` sets how many stores to watch, `UNIVRS_SEED` the one to begin with.

use std::time::Instant;

use crate::histories::world::Focus;
use crate::histories::{Totals, number, try_all};

pub(crate) mod checker;
mod matching;
pub(crate) mod plan;
pub(crate) mod recording;
pub(crate) mod stage;
mod violations;

/// Stores that are watched in a run that is not told otherwise.
const STORES: u64 = 120;

#[test]
fn every_watch_shows_every_matching_change_once_in_order_and_whole() {
    let (runs, start) = (number("UNIVRS_STREAMS").unwrap_or(STORES), Instant::now());
    let (totals, violation) = try_all("streams", runs, Focus::Streams);
    let Totals { histories, processes, killed, streams, watched, .. } = totals;
    println!(
        "streams: {streams}, violations {} ({histories} stores, {processes} with processes, {killed} kills, {watched:?}, {:.0?})",
        u8::from(violation.is_some()),
        start.elapsed()
    );
    assert_eq!(violation, None);
    assert!(watched.events > streams && watched.resumed > runs, "hardly anything was watched");
}
