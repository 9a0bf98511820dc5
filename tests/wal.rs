//! The write-ahead log has a cap: writers that are faster than its checkpoints are slowed down, a reader that keeps it
//! is named and slows nobody down, and when the reader is gone, or the store idle, the log gives its space back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use univrs_state::archive::Export;
use univrs_state::stats::About;
use univrs_state::{Batch, LocalStore, SqliteStore, StateStore};

use crate::support::child::Child;
use crate::support::{Local, Subject, buffered, value};

const MIB: u64 = 1 << 20;
const CAP: u64 = 2 * MIB;
/// What an idle store may keep.
const KEPT: u64 = MIB;

async fn capped() -> (Subject, SqliteStore, PathBuf) {
    let subject = Subject::disk_with(buffered().wal_cap(CAP)).await;
    let Local::Sqlite(store) = &subject.local else { panic!("a store on disk") };
    let (store, log) = (store.clone(), subject.path.as_ref().unwrap().with_file_name("state.db-wal"));
    (subject, store, log)
}

fn bytes(log: &Path) -> u64 {
    log.metadata().map_or(0, |found| found.len())
}

async fn write(store: &SqliteStore) {
    let batch = (0..16).fold(Batch::new(), |batch, n| batch.set(format!("/{n}"), vec![1; 16 << 10]));
    store.commit(batch).await.unwrap();
}

/// Writes until something is so; fails after so much that it will never be.
async fn write_until(store: &SqliteStore, what: &str, is: impl AsyncFn() -> bool) {
    for _ in 0..2_000 {
        if is().await {
            return;
        }
        write(store).await;
    }
    panic!("{what} never comes");
}

/// Waits until the file of the log has shrunk.
async fn shrunk(log: &Path, to: u64) {
    let shrinks = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while bytes(log) > to {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), shrinks).await.expect("the log gives its space back");
}

// 200 writers of large batches made a log of 726 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_are_faster_than_the_checkpoints_are_slowed_down_at_the_cap() {
    let (subject, store, log) = capped().await;
    let tasks: Vec<_> = (0..200)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..8 {
                    let batch = (0..2).fold(Batch::new(), |batch, key| {
                        batch.set(format!("/{task}/{key}"), vec![n; 64 << 10])
                    });
                    store.commit(batch).await.unwrap();
                }
            })
        })
        .collect();
    let mut most = 0;
    for task in tasks {
        task.await.unwrap();
        most = most.max(bytes(&log));
    }
    // A group may have 16 MiB, and a busy machine is late. How near to the cap it stays, the tests of the pace say.
    assert!(most < 128 * MIB, "of 200 MiB the log kept {most} bytes");
    assert_eq!(store.stats().await.unwrap().failed_checkpoints, 0);
    write_until(&store, "a log below its cap", async || bytes(&log) <= CAP).await;
    subject.audit().await;
    shrunk(&log, KEPT).await;
    store.close().await.unwrap();
}

/// A writer of an export that holds it until it is told to go on.
struct Held(mpsc::Receiver<()>);

impl io::Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes until the log is far above its cap.
async fn grown(store: &SqliteStore, log: &Path) {
    write_until(store, "a log above its cap", async || bytes(log) > 4 * CAP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_stays_is_named_and_when_it_ends_the_log_shrinks() {
    let (subject, store, log) = capped().await;
    for n in 0..40 {
        store.set(&format!("/large/{n}"), vec![1; 64 << 10]).await.unwrap();
    }
    let (release, held) = mpsc::channel();
    let exporting = store.clone();
    let export = tokio::spawn(async move { exporting.export(Export::new(), Held(held)).await });
    let named = async || store.stats().await.unwrap().wal_readers.iter().any(|own| own.what.is_some());
    write_until(&store, "the name of the export", named).await;
    grown(&store, &log).await;
    let stats = store.stats().await.unwrap();
    let reader = &stats.wal_readers[0];
    assert_eq!((reader.process, reader.what.as_deref()), (std::process::id(), Some("export")));
    assert!(reader.time.is_some() && reader.held_bytes > CAP, "{reader:?}");
    assert!(stats.wal_file_bytes >= stats.wal_bytes && stats.wal_bytes > CAP, "{stats:?}");
    let [warning] = stats.warnings.as_slice() else { panic!("one warning: {:?}", stats.warnings) };
    assert_eq!(warning.about, About::WriteAheadLog);
    assert!(
        warning.to_string().contains("more than its cap of 2 MiB, because an export of this store"),
        "{warning}"
    );
    drop(release);
    export.await.unwrap().unwrap();
    write_until(&store, "a log below its cap", async || bytes(&log) <= CAP).await;
    let stats = store.stats().await.unwrap();
    assert!(stats.warnings.is_empty(), "{:?}", stats.warnings);
    subject.audit().await;
    shrunk(&log, KEPT).await;
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_that_reads_one_state_is_named_to_all_who_ask_and_when_it_is_gone_the_log_shrinks() {
    let (subject, store, log) = capped().await;
    let path = subject.path.as_ref().unwrap().to_str().unwrap();
    write(&store).await;
    let mut other = Child::start();
    let process = other.ask(&format!("hold\t{path}")).unwrap();
    write(&store).await;
    grown(&store, &log).await;
    let stats = store.stats().await.unwrap();
    let reader = stats.wal_readers.iter().find(|reader| reader.process.to_string() == process).unwrap();
    assert!(reader.what.is_none() && !reader.program.is_empty() && reader.held_bytes > CAP, "{reader:?}");
    let named = format!("because process {process} (");
    assert!(
        stats.warnings.iter().any(|warning| warning.to_string().contains(&named)),
        "{:?}",
        stats.warnings
    );
    let mut opener = Child::start();
    opener.ask(&format!("open buffered capped\t{path}")).unwrap();
    let warned = opener.ask("warnings").unwrap();
    assert!(warned.contains(&named), "whoever opens it is told: {warned}");
    opener.ask("close").unwrap();
    // It is killed: no order of anybody.
    other.kill();
    // Without a commit: the thread looks for itself.
    shrunk(&log, KEPT).await;
    assert!(store.stats().await.unwrap().warnings.is_empty());
    store.set("/after", value(1)).await.unwrap();
    subject.audit().await;
    store.close().await.unwrap();
}
