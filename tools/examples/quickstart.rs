//! The first five minutes with a store: write, watch, come back, and miss nothing.
//!
//! ```text
//! cargo run --example quickstart [-- PATH]
//! ```
//!
//! The store is `./state.db`, and the place of its watch is kept in `./state.db.cursor`. Run it
//! twice: the second run begins with what happened while nobody watched.

use std::error::Error;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use univrs_state::prelude::*;

#[derive(Serialize, Deserialize)]
struct Workload {
    image: String,
    replicas: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "state.db".into()));
    let cursor_file = beside(&path, "cursor");

    let store = SqliteStore::open(&path).await?;
    let at_start = store.head().await?;
    println!("The store  {}", path.display());
    println!("  id      {}", short(store.store_id()));
    println!("  head    {}", short(at_start));
    println!("          Seq : hash. Every change has a Seq, its number in the log: 1, 2, 3, no gaps.");
    println!("          The Head is the last one, with the hash of the whole log up to it.");

    // A Cursor says where a reader stands. Without one, this reader begins at the beginning.
    let cursor = load_cursor(&cursor_file)?;
    match cursor {
        Some(cursor) => println!("  cursor  {}: the watch resumes there", short(cursor)),
        None => println!("  cursor  none yet: the watch starts at the beginning"),
    }
    let cursor = cursor.unwrap_or(Seq::ZERO.into());

    let written = write(&store).await?;
    let (first, cursor) = match follow(&store, cursor, at_start.seq, written).await {
        Err(StateError::CursorDiverged(why)) => {
            // A program would read the state anew with `scan`, and follow from the page's cursor.
            println!("  the cursor is no position in this log: {why}");
            follow(&store, Seq::ZERO.into(), at_start.seq, written).await?
        }
        followed => followed?,
    };
    // Saved after the work is done: a crash before this line repeats changes, but loses none.
    // The example `reconciler` shows how to have neither.
    save_cursor(&cursor_file, cursor)?;
    println!("  cursor  {}  → {}", short(cursor), cursor_file.display());
    println!("          Store : Seq : hash. Resuming checks all three, so a watch that comes back");
    println!("          to another store, or to one that was rolled back, says so.");

    println!("\nWrite while nobody watches");
    store.delete("/workloads/web").await?;
    println!("  delete           /workloads/web    gone, but its history stays in the log");

    check(&store, first, written).await?;
    store.close().await?;
    println!("\nRun it again: the watch goes on after {written}, and shows what it missed.");
    Ok(())
}

/// Writes in all four ways; returns the position of the last change.
async fn write(store: &SqliteStore) -> Result<Seq, Box<dyn Error>> {
    println!("\nWrite");
    let one_more = |runs: Option<u64>| Ok(Update::Set(runs.unwrap_or(0) + 1));
    let run = store.update_json("/quickstart/runs", one_more).await?;
    println!("  update           /quickstart/runs  version {run}: read, change, write, again if it raced");

    // Every write of a key counts its version up, and the version is what a writer can insist on.
    let key = "/workloads/api";
    let first = store.set_json(key, &Workload { image: "api:1.0".into(), replicas: 3 }).await?;
    println!("  set              {key}    version {first}");
    let five = Workload { image: "api:1.0".into(), replicas: 5 };
    let second = store.compare_and_set_json(key, first, &five).await?;
    println!("  compare and set  {key}    version {second}: it was at {first}, as expected");
    match store.compare_and_set_json(key, first, &five).await {
        Err(refused @ StateError::VersionConflict { .. }) => {
            println!("  compare and set  {key}    refused, leaves no trace: {refused}");
        }
        other => return Err(format!("a stale version must be refused, not {other:?}").into()),
    }

    // A batch is recorded whole or not at all, with who and why.
    let receipt = store
        .commit(
            Batch::new()
                .expect(key, second)
                .set("/workloads/web", r#"{"image":"web:2.1","replicas":1}"#)
                .set("/nodes/n1", r#"{"runs":["api","web"]}"#)
                .meta(Meta::new().actor("quickstart").reason("place web on n1")),
        )
        .await?;
    println!(
        "  transaction      /workloads/web, /nodes/n1    seq {} and {}: both or none",
        receipt.first, receipt.last
    );

    let api: Option<Workload> = store.get_json(key).await?;
    assert_eq!(api.map(|api| api.replicas), Some(5), "what was written is read");
    Ok(receipt.last)
}

/// Watches everything after a cursor up to this run's last change; returns the first position
/// that it saw, and where to resume.
async fn follow(store: &SqliteStore, after: Cursor, at_start: Seq, written: Seq) -> Result<(Seq, Cursor)> {
    println!("\nWatch \"/*\" after {}", after.seq());
    let mut watch = store.watch_after("/*", after)?;
    let first = after.seq().next();
    let mut expected = first;
    while let Some(event) = watch.try_next().await? {
        assert_eq!(event.seq, expected, "a watch of everything sees every change once, in order");
        if event.seq == first && first <= at_start {
            println!("    --  missed since the cursor was saved");
        }
        if event.seq == at_start.next() {
            println!("    --  this run");
        }
        show(&event);
        if event.seq == written {
            break;
        }
        expected = event.seq.next();
    }
    Ok((first, watch.cursor()))
}

fn show(event: &WatchEvent) {
    let text = |value: &Option<Vec<u8>>| {
        value.as_ref().map_or_else(|| "(none)".into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let what = match event.event_type {
        EventType::Created => text(&event.new_value),
        EventType::Updated => format!("{} → {}", text(&event.old_value), text(&event.new_value)),
        EventType::Deleted => format!("was {}", text(&event.old_value)),
    };
    println!("  {:>4}  {}  {:<17} {what}", event.seq, event.event_type, event.key);
    if let Some(meta) = &event.meta
        && event.seq == event.commit_seq
    {
        let said = [&meta.actor, &meta.reason].map(|part| part.as_deref().unwrap_or("nobody"));
        println!("        by {}: {}", said[0], said[1]);
    }
}

/// Proves what this program claims.
async fn check(store: &SqliteStore, first: Seq, written: Seq) -> Result<(), Box<dyn Error>> {
    let report = store.verify().await?;
    println!("\nCheck");
    println!("  watched  every change from {first} to {written}, each once, in order");
    if !report.is_intact() {
        return Err(format!("the store is damaged: {:?}", report.findings).into());
    }
    println!(
        "  verified {} changes against their hashes, {} keys against the log",
        report.changes, report.keys
    );
    println!("  head     {}", report.head);
    println!("           Keep this line elsewhere: whoever rewrites the log cannot keep its hash.");
    Ok(())
}

fn load_cursor(file: &Path) -> Result<Option<Cursor>, Box<dyn Error>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim_end().parse()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes the cursor aside, makes it durable and renames it: a crash leaves the old or the new one.
fn save_cursor(file: &Path, cursor: Cursor) -> io::Result<()> {
    let aside = beside(file, "new");
    let mut new = File::create(&aside)?;
    writeln!(new, "{cursor}")?;
    new.sync_all()?;
    fs::rename(&aside, file)
}

/// The path with one more extension.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// Hashes cut to what the eye can compare.
fn short(text: impl Display) -> String {
    let cut = |part: &str| if part.len() > 20 { format!("{}…", &part[..8]) } else { part.to_owned() };
    text.to_string().split(':').map(cut).collect::<Vec<_>>().join(":")
}
