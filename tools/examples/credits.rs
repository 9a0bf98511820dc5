//! Peers send each other credits, all at once. None are created, none are lost.
//!
//! ```text
//! cargo run --example credits
//! ```
//!
//! A transfer changes two keys in one commit, and insists on the versions that it has read. Many
//! tasks fight over few peers; whoever was overtaken reads again. An auditor reads along the whole
//! time, and at the end the log is played through, commit by commit: the sum never moves.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use univrs_state::Scan;
use univrs_state::log::Change;
use univrs_state::prelude::*;

const PEERS: [&str; 6] = ["ada", "ben", "cleo", "dora", "emil", "finn"];
const START: u64 = 100;
const TOTAL: u64 = START * PEERS.len() as u64;
const TASKS: u64 = 24;
const TRANSFERS_OF_A_TASK: u64 = 12;

#[derive(Serialize, Deserialize)]
struct Account {
    credits: u64,
}

/// What became of the transfers.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    done: u64,
    /// The sender had too little.
    refused: u64,
    /// Times that a transfer was overtaken and read again.
    overtaken: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(folder.path().join("credits.db")).await?;

    let mint = PEERS.iter().try_fold(Batch::new(), |batch, peer| {
        let account = serde_json::to_vec(&Account { credits: START })?;
        Ok::<_, StateError>(batch.expect_absent(key(peer)).set(key(peer), account))
    })?;
    store.commit(mint.meta(Meta::new().actor("mint").reason("the start"))).await?;
    println!("{} peers with {START} credits each; {TASKS} tasks transfer at once\n", PEERS.len());

    let over = Arc::new(AtomicBool::new(false));
    let auditor = tokio::spawn(audit_along(store.clone(), over.clone()));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        tasks.spawn(transfers(store.clone(), task));
    }
    let mut tally = Tally::default();
    while let Some(of_task) = tasks.join_next().await {
        let of_task = of_task??;
        tally.done += of_task.done;
        tally.refused += of_task.refused;
        tally.overtaken += of_task.overtaken;
    }
    over.store(true, Ordering::Relaxed);
    let looks = auditor.await??;

    assert_eq!(tally.done + tally.refused, TASKS * TRANSFERS_OF_A_TASK, "each transfer has one outcome");
    println!("  done       {:>5}", tally.done);
    println!("  refused    {:>5}  the sender had too little", tally.refused);
    println!("  overtaken  {:>5}  times; nothing was written, read again", tally.overtaken);

    let recorded = play_through(&store).await?;
    assert_eq!(recorded, tally.done, "every transfer that was done is a commit, and nothing else is");
    let report = store.verify().await?;
    assert!(report.is_intact(), "{:?}", report.findings);
    println!(
        "\n  {TOTAL} credits at each of {} commits, and each of {looks} times the auditor looked",
        recorded + 1
    );
    println!("  verified {} changes, head {}", report.changes, report.head);

    trail(&store, PEERS[0]).await?;
    store.close().await?;
    Ok(())
}

fn key(peer: &str) -> String {
    format!("/credits/{peer}")
}

/// One task: transfers between peers and of amounts that differ from task to task.
async fn transfers(store: SqliteStore, task: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    for i in 0..TRANSFERS_OF_A_TASK {
        // One of the six, and one of the five others.
        let mut peers = PEERS.iter().cycle().skip(((task * 31 + i * 17) % 6) as usize);
        let (Some(from), Some(to)) = (peers.next(), peers.nth((task * i % 5) as usize)) else { continue };
        let amount = 1 + (task * 13 + i * 29) % 50;
        let meta = Meta::new().actor(format!("task-{task:02}")).reason(format!("{from} pays {to} {amount}"));
        transfer(&store, from, to, amount, meta, &mut tally).await?;
    }
    Ok(tally)
}

/// Moves credits in one commit, if the sender has them.
async fn transfer(
    store: &SqliteStore,
    from: &str,
    to: &str,
    amount: u64,
    meta: Meta,
    tally: &mut Tally,
) -> Result<()> {
    loop {
        // Both accounts in one state.
        let page = store.get_many(&[&key(from), &key(to)]).await?;
        let [sender, receiver] = &page.entries[..] else {
            return Err(StateError::KeyNotFound(format!("{} or {}", key(from), key(to))));
        };
        let (has, gets) =
            (sender.value_json::<Account>()?.credits, receiver.value_json::<Account>()?.credits);
        let Some(left) = has.checked_sub(amount) else {
            tally.refused += 1;
            return Ok(());
        };
        let batch = Batch::new()
            .expect(&sender.key, sender.version)
            .expect(&receiver.key, receiver.version)
            .set(&sender.key, serde_json::to_vec(&Account { credits: left })?)
            .set(&receiver.key, serde_json::to_vec(&Account { credits: gets + amount })?)
            .meta(meta.clone());
        match store.commit(batch).await {
            Ok(_) => {
                tally.done += 1;
                return Ok(());
            }
            Err(StateError::Rejected(_)) => tally.overtaken += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Sums up the accounts again and again while they change; returns how often.
async fn audit_along(store: SqliteStore, over: Arc<AtomicBool>) -> Result<u64> {
    let mut looks = 0;
    loop {
        let last = over.load(Ordering::Relaxed);
        let page = store.scan(Scan::prefix("/credits/")).await?;
        let mut sum = 0;
        for entry in &page.entries {
            sum += entry.value_json::<Account>()?.credits;
        }
        assert_eq!(sum, TOTAL, "credits at {}", page.cursor.seq());
        looks += 1;
        if last {
            return Ok(looks);
        }
    }
}

/// Folds the log by hand; returns the number of transfers in it.
async fn play_through(store: &SqliteStore) -> Result<u64> {
    let mut accounts = BTreeMap::new();
    let (mut commits, mut after) = (0, Seq::ZERO);
    loop {
        let page = store.changes(after, 100).await?;
        let Some(last) = page.last() else { return Ok(commits - 1) };
        after = last.last;
        for commit in &page {
            for change in &commit.changes {
                accounts.insert(change.key.clone(), credits(change)?);
            }
            assert_eq!(accounts.values().sum::<u64>(), TOTAL, "credits after commit {}", commit.last);
            commits += 1;
        }
    }
}

fn credits(change: &Change) -> Result<u64> {
    let account: Account = serde_json::from_slice(change.value.as_deref().unwrap_or_default())?;
    Ok(account.credits)
}

/// The newest changes of a peer's account: who did what and why, hashed, so that it stays so.
async fn trail(store: &SqliteStore, peer: &str) -> Result<()> {
    let history = store.history(&key(peer), None, 7).await?;
    println!("\n  the audit trail of {peer}, newest first");
    for pair in history.windows(2) {
        let [change, before] = pair else { continue };
        let meta = change.meta.as_deref().cloned().unwrap_or_default();
        println!(
            "  {:>5}  version {:<3} {:>3} → {:<3}  by {}: {}",
            change.seq,
            change.version,
            credits(before)?,
            credits(change)?,
            meta.actor.unwrap_or_default(),
            meta.reason.unwrap_or_default()
        );
    }
    Ok(())
}
