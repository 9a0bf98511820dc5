//! Going through a whole log: verifying it where it lies, exporting it, and replaying it into memory,
//! against a scan of the same rows by plain rusqlite; importing it against plain inserts of as many.
//! `UNIVRS_BENCH_MEMORY=1` says instead how much memory each takes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod measure;

use std::fs::File;
use std::path::Path;

use measure::raw::Raw;
use measure::store;
use measure::verify::verify;
use measure::{Effort, Lanes, Random, pace, peak, raw};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use univrs_state::archive::Export;
use univrs_state::log::Change;
use univrs_state::verify::{Level, Verify};
use univrs_state::{LocalStore, MemoryStore, Seq, SqliteStore, StateStore};

fn main() {
    let effort = Effort::from_env();
    let folder = measure::folder("replay", effort);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let count = effort.items(200_000);
    println!("{count} changes, of each key four");
    let path = folder.path().join("log.db");
    let store = runtime.block_on(store::open(&path));
    // In random order.
    let mut random = Random::new(11);
    let keys = (0..count).map(|_| random.below(count.div_ceil(4)));
    runtime.block_on(store::fill(&store, keys));
    let conn = Connection::open(&path).unwrap();
    let log = runtime.block_on(log(&store));
    assert_eq!(log.len(), count);
    let head = runtime.block_on(store.head()).unwrap();

    let exported = folder.path().join("log.export");
    runtime.block_on(store.export_to(Export::new(), &exported)).unwrap();
    if std::env::var_os("UNIVRS_BENCH_MEMORY").is_some() {
        drop(log);
        return memory(&runtime, &store, folder.path());
    }

    let mut lanes = Lanes::new();
    lanes.lane("raw scan", || pace(|| raw::scan_changes(&conn, 0, count)));
    lanes.lane("verify", || verify(&runtime, &store, count));
    lanes.lane("verify the chain", || {
        pace(|| {
            let verify = Verify::level(Level::Chain);
            let report = runtime.block_on(store.verify_with(verify)).unwrap();
            assert!(report.is_intact() && report.changes == count as u64);
            count
        })
    });
    lanes.lane("export", || {
        let file = folder.path().join("again.export");
        let pace = pace(|| {
            let exported = runtime.block_on(store.export_to(Export::new(), &file)).unwrap();
            assert!(exported.head == head && exported.changes == count as u64);
            count
        });
        std::fs::remove_file(file).unwrap();
        pace
    });
    lanes.lane("raw inserts, 1000 rows a transaction", || {
        let folder = tempfile::tempdir_in(folder.path()).unwrap();
        pace(|| {
            let mut raw = Raw::create(&folder.path().join("raw.db"), "OFF");
            raw.fill(count.div_ceil(4));
            (count.div_ceil(4)..count)
                .step_by(1000)
                .for_each(|start| assert!(raw.batch(1000.min(count - start)) > 0));
            count
        })
    });
    lanes.lane("import", || {
        let folder = tempfile::tempdir_in(folder.path()).unwrap();
        let mut copy = None;
        let pace = pace(|| {
            let file = File::open(&exported).unwrap();
            let into = folder.path().join("copy.db");
            // The state is loaded after the import, beside what follows.
            let options = SqliteStore::options().resident_bytes(0);
            copy = Some(runtime.block_on(options.import(file, into)).unwrap());
            count
        });
        let copy = copy.unwrap();
        assert_eq!(runtime.block_on(copy.head()).unwrap(), head);
        runtime.block_on(copy.close()).unwrap();
        pace
    });
    lanes.lane("changes", || pace(|| runtime.block_on(read(&store))));
    lanes.lane("MemoryStore::replay", || {
        let log = log.clone();
        let mut copy = None;
        let pace = pace(|| {
            copy = Some(MemoryStore::replay(store.store_id(), log).unwrap());
            count
        });
        assert_eq!(runtime.block_on(copy.unwrap().head()).unwrap(), head);
        pace
    });
    lanes.ratio("verify", "verify", "raw scan", 0.5);
    lanes.ratio("verify_chain", "verify the chain", "raw scan", 0.5);
    lanes.ratio("export", "export", "raw scan", 0.4);
    lanes.ratio("import", "import", "raw inserts, 1000 rows a transaction", 0.5);
    lanes.ratio("changes", "changes", "raw scan", 0.4);
    lanes.ratio("replay", "MemoryStore::replay", "raw scan", 0.4);
    lanes.run(effort);
}

/// Prints by how much the peak of memory grows with each kind of work.
fn memory(runtime: &Runtime, store: &SqliteStore, folder: &Path) {
    let grew = |what: &str, work: &dyn Fn()| {
        println!("{what}: {} KiB more at the peak", peak(work));
    };
    grew("verify", &|| drop(runtime.block_on(store.verify()).unwrap()));
    let again = folder.join("again.export");
    grew("export", &|| {
        assert!(runtime.block_on(store.export_to(Export::new(), &again)).unwrap().changes > 0);
    });
    grew("import", &|| {
        let file = File::open(folder.join("log.export")).unwrap();
        let options = SqliteStore::options().resident_bytes(0);
        drop(runtime.block_on(options.import(file, folder.join("copy.db"))).unwrap());
    });
}

/// Reads the log a page at a time; returns how many changes it has.
async fn read(store: &SqliteStore) -> usize {
    let (mut after, mut count) = (Seq::ZERO, 0);
    loop {
        let page = store.changes(after, 1000).await.unwrap();
        let Some(last) = page.last() else { return count };
        after = last.last;
        count += page.iter().map(|commit| commit.changes.len()).sum::<usize>();
    }
}

/// The whole log.
async fn log(store: &SqliteStore) -> Vec<Change> {
    let commits = store.changes(Seq::ZERO, 1000).await.unwrap();
    let mut log: Vec<Change> = commits.into_iter().flat_map(|commit| commit.changes).collect();
    loop {
        let after = log.last().map_or(Seq::ZERO, |change| change.seq);
        let page = store.changes(after, 1000).await.unwrap();
        if page.is_empty() {
            return log;
        }
        log.extend(page.into_iter().flat_map(|commit| commit.changes));
    }
}
