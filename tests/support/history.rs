//! Random histories.

use std::collections::BTreeMap;
use std::sync::Arc;

use univrs_state::log::Change;
use univrs_state::{Batch, Entry, Meta, Seq, StateStore};

use super::Seeded;
use super::audit::{fold, log_of};

const KEYS: [&str; 9] = ["/a", "/a/1", "/a/2", "/ab", "/b/x/1", "/b/x/2", "/c", "/secret/1", "/secret/2"];

/// A seed: that of the environment, or another one each run. Printed, so that a run can be repeated.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("UNIVRS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("UNIVRS_SEED={seed}");
    seed
}

/// Commits of one to five random writes each, some with metadata or a commit id; one key changes
/// more often than others.
pub(crate) async fn write(store: &impl StateStore, random: &Seeded, commits: u64) {
    for n in 0..commits {
        let mut batch = Batch::new();
        for _ in 0..=random.below(5) {
            let place = if random.below(3) == 0 { 0 } else { random.below(KEYS.len() as u64) };
            let key = KEYS[usize::try_from(place).unwrap()];
            let length = if random.below(40) == 0 { 3_000 } else { random.below(40) };
            batch = match random.below(4) {
                0 => batch.delete(key),
                _ => batch
                    .set(key, (0..length).map(|i| (random.next() ^ i).to_le_bytes()[0]).collect::<Vec<_>>()),
            };
        }
        batch = match random.below(4) {
            0 => batch.meta(Meta::new().actor("tester").reason("because").label("n", n.to_string())),
            1 => batch.commit_id(format!("id {n}")),
            _ => batch,
        };
        store.commit(batch).await.unwrap();
    }
}

/// The state after the whole commits up to a position, made by folding the log.
pub(crate) fn state_at(log: &[Change], at: Seq) -> BTreeMap<Arc<str>, Entry> {
    fold(&log[..usize::try_from(commit_end(log, at).as_u64()).unwrap()])
}

/// The end of the last whole commit up to a position.
pub(crate) fn commit_end(log: &[Change], at: Seq) -> Seq {
    let whole =
        log.iter().filter(|change| change.seq <= at && change.closes_commit()).map(|change| change.seq);
    whole.max().unwrap_or(Seq::ZERO)
}

/// A random history in a store, and its log.
pub(crate) async fn random_log(store: &impl StateStore, commits: u64) -> Vec<Change> {
    write(store, &Seeded::from(seed()), commits).await;
    log_of(store).await
}
