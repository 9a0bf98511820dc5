//! Consumers of one name in processes that are killed, at random moments.
//!
//! Two processes at a time work for one consumer, take it over from each other, and are killed and replaced, while a
//! third one writes. In the end each commit has had its effect once and in order, or was delivered by each process
//! without a gap.
//!
//! `UNIVRS_KILLS` sets how many kills, a tenth of which are made here.

use std::path::Path;
use std::time::Duration;

use univrs_state::consumer::Consumer;
use univrs_state::{Batch, Cursor, LocalStore, Options, Result, SqliteStore, StateError, StateStore};

use crate::consumer::{KEY, due, noted, noting};
use crate::support::child::{Child, say};
use crate::support::{Local, PATIENCE, Seeded, audit, folder, seed, seq, value};

fn kills() -> u64 {
    let given = std::env::var("UNIVRS_KILLS").ok().and_then(|kills| kills.parse().ok());
    given.unwrap_or(1_000_u64).div_ceil(10)
}

fn options() -> Options {
    Options::new().busy_timeout(PATIENCE)
}

async fn opened(store: &SqliteStore) -> Result<Consumer> {
    store.consumer("c").pattern("/in/*").open().await
}

/// In the child: works for the consumer until it is killed, and opens it again when somebody else took it over.
pub(crate) async fn consume(path: &str, way: &str, seed: u64) -> Result<()> {
    let random = Seeded::from(seed);
    loop {
        let store = options().open(path).await?;
        let mut consumer = opened(&store).await?;
        say(&format!("@ok opened {}", consumer.cursor().seq()));
        let worked = match way {
            "process" => process(&mut consumer, &random).await,
            _ => acknowledge(consumer, &random).await,
        };
        match worked {
            Err(StateError::Fenced(_)) => tokio::time::sleep(Duration::from_millis(random.below(20))).await,
            worked => worked?,
        }
        if random.below(2) == 0 {
            store.close().await?;
        }
    }
}

async fn process(consumer: &mut Consumer, random: &Seeded) -> Result<()> {
    for _ in 0..=random.below(60) {
        if let Some(processed) = consumer.process(noting).await? {
            say(&format!("@ok processed {}", processed.cursor.seq()));
        }
    }
    Ok(())
}

async fn acknowledge(mut consumer: Consumer, random: &Seeded) -> Result<()> {
    for _ in 0..=random.below(60) {
        if let Some(commit) = consumer.next().await? {
            say(&format!("@ok delivered {}", commit.cursor.seq()));
            if random.below(3) > 0 {
                consumer.ack(&commit).await?;
                say(&format!("@ok acknowledged {}", commit.cursor.seq()));
            }
        }
    }
    consumer.close().await
}

/// Runs processes of a consumer and kills them; returns what each of them said.
async fn churn(path: &Path, way: &str, random: &Seeded) -> Vec<Vec<String>> {
    let store = options().open(path).await.unwrap();
    let start = |random: &Seeded| {
        let mut child = Child::start();
        child.tell(&format!("consume\t{}\t{way}\t{}", path.display(), random.next()));
        child
    };
    let (mut children, mut said) = (vec![start(random), start(random)], Vec::new());
    for n in 0..kills() {
        // One that has begun is killed at work; one in four while it comes up.
        let first = (random.below(4) > 0).then(|| children[0].answer().expect("it died by itself").unwrap());
        for _ in 0..random.below(12) {
            let batch = Batch::new().set("/in/a", value(n)).set("/other", "");
            store.commit(if random.below(3) == 0 { batch.set("/in/b", "") } else { batch }).await.unwrap();
        }
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        let heard = children.remove(0).kill_and_hear().into_iter().map(|answer| answer.unwrap());
        said.push(first.into_iter().chain(heard).collect());
        children.push(start(random));
    }
    said.extend(
        children.into_iter().map(|child| child.kill_and_hear().into_iter().map(|a| a.unwrap()).collect()),
    );
    store.close().await.unwrap();
    said
}

/// The positions that were said with a word.
fn told(said: &[String], word: &str) -> Vec<u64> {
    said.iter().filter_map(|answer| answer.strip_prefix(word)?.trim().parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_commit_is_processed_once_and_in_order_whoever_is_killed_and_takes_over() {
    let (folder, random) = (folder(), Seeded::from(seed()));
    let path = folder.path().join("state.db");
    let said = churn(&path, "process", &random).await;
    let store = options().open(&path).await.unwrap();
    let last =
        store.set("/in/a", value("last")).await.map(|_| store.clone()).unwrap().head().await.unwrap().seq;
    let mut consumer = opened(&store).await.unwrap();
    while consumer.process(noting).await.unwrap().unwrap().cursor.seq() < last {}
    let log = audit(&Local::Sqlite(store)).await;
    assert_eq!(noted(&log), due(&log));
    let processed: Vec<u64> = said.iter().flat_map(|said| told(said, "processed")).collect();
    println!(
        "consumers: {} kills, {} commits, {} told to be processed",
        kills(),
        due(&log).len(),
        processed.len()
    );
    assert!(processed.len() as u64 > kills(), "the processes were killed before they did anything");
    let mut sorted = processed.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), processed.len(), "none was told twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_is_delivered_until_it_is_acknowledged_and_no_position_goes_back() {
    let (folder, random) = (folder(), Seeded::from(seed()));
    let path = folder.path().join("state.db");
    let said = churn(&path, "acknowledge", &random).await;
    let log = audit(&Local::Sqlite(options().open(&path).await.unwrap())).await;
    let due = due(&log);
    let mut delivered = 0;
    for said in &said {
        // Each opening goes on behind its position, without a gap.
        let begins: Vec<usize> = (0..said.len()).filter(|n| said[*n].starts_with("opened")).collect();
        for (n, begin) in begins.iter().enumerate() {
            let told_now = &said[*begin..begins.get(n + 1).copied().unwrap_or(said.len())];
            let position = told(told_now, "opened")[0];
            let got = told(told_now, "delivered");
            let expected: Vec<u64> =
                due.iter().copied().filter(|end| *end > position).take(got.len()).collect();
            assert_eq!(got, expected, "after {position}");
            delivered += got.len() as u64;
        }
    }
    assert!(delivered > kills(), "the processes were killed before they did anything");
    // What was recorded was acknowledged by somebody, and never goes back.
    let records = log.iter().filter(|change| &*change.key == KEY);
    let mut positions = records.map(|change| {
        let record: serde_json::Value = serde_json::from_slice(change.value.as_ref().unwrap()).unwrap();
        record["cursor"].as_str().unwrap().parse::<Cursor>().unwrap().seq()
    });
    assert!(positions.clone().is_sorted());
    let last = positions.next_back().unwrap();
    let acknowledged: Vec<u64> = said.iter().flat_map(|said| told(said, "acknowledged")).collect();
    let unacknowledged = due.iter().find(|end| seq(**end) <= last && !covered(&acknowledged, **end));
    assert_eq!(unacknowledged, None, "recorded up to {last}, and nobody was told that");
}

/// Whether somebody acknowledged a position or a later one.
fn covered(acknowledged: &[u64], end: u64) -> bool {
    acknowledged.iter().any(|to| *to >= end)
}
