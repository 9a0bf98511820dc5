//! Futures of long operations that are dropped: the operation ends soon after, and leaves nothing.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;
use univrs_state::archive::Export;
use univrs_state::verify::Verify;
use univrs_state::{Batch, LocalStore, SqliteStore, StateStore};

use crate::support::{Local, Subject, audit, folder, value};

/// Code of the program within an operation: it tells that it was called for the first time, waits until it may go on,
/// counts its calls, and tells when it is dropped.
struct Within {
    called: Option<oneshot::Sender<()>>,
    may_go: mpsc::Receiver<()>,
    calls: Arc<AtomicUsize>,
    _ended: oneshot::Sender<()>,
}

/// The other side of it.
struct Outside {
    called: Option<oneshot::Receiver<()>>,
    go: mpsc::Sender<()>,
    calls: Arc<AtomicUsize>,
    ended: oneshot::Receiver<()>,
}

fn pair() -> (Within, Outside) {
    let ((tell, called), (go, may_go), (end, ended)) =
        (oneshot::channel(), mpsc::channel(), oneshot::channel());
    let calls = Arc::new(AtomicUsize::new(0));
    let within = Within { called: Some(tell), may_go, calls: calls.clone(), _ended: end };
    (within, Outside { called: Some(called), go, calls, ended })
}

impl Within {
    fn call(&mut self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(called) = self.called.take() {
            called.send(()).unwrap();
            self.may_go.recv().unwrap();
        }
    }

    fn progress(self) -> impl Fn(univrs_state::archive::Progress) + Send + Sync + 'static {
        let within = std::sync::Mutex::new(self);
        move |_| within.lock().unwrap().call()
    }
}

impl Outside {
    /// Drops the future while the code of the program runs, and waits until that code is dropped, too. Returns how
    /// often it was called after that.
    async fn drop_future(mut self, operation: impl Future) -> usize {
        let called = self.called.take().unwrap();
        tokio::select! {
            biased;
            _ = operation => panic!("it ended, though code of the program within it did not return"),
            called = called => called.unwrap(),
        }
        let before = self.calls.load(Ordering::SeqCst);
        self.go.send(()).unwrap();
        let _ = self.ended.await;
        self.calls.load(Ordering::SeqCst) - before
    }
}

/// Waits until the thread has removed what it had begun.
async fn becomes_empty(folder: &Path) {
    let names =
        || -> Vec<_> { std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name()).collect() };
    for _ in 0..1_000_000 {
        if names().is_empty() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("this is left: {:?}", names());
}

/// Stores whose long operations run in other threads. A `MemoryStore` works on the thread of its caller.
async fn in_other_threads() -> [Subject; 2] {
    [Subject::disk().await, Subject::sqlite_memory().await]
}

async fn filled(subject: &Subject) {
    let store = subject.shared();
    for commit in 0..4 {
        let batch = (0..2_000).fold(Batch::new(), |batch, n| batch.set(format!("/k/{n}"), value(commit)));
        store.commit(batch).await.unwrap();
    }
}

#[tokio::test]
async fn an_export_whose_future_was_dropped_ends_and_leaves_no_file() {
    for subject in in_other_threads().await {
        filled(&subject).await;
        let folder = folder();
        let (within, outside) = pair();
        let export = Export::new().progress(within.progress());
        let path = folder.path().join("state.log");
        let more = outside.drop_future(subject.local.export_to(export, &path)).await;
        assert_eq!(more, 0, "it went on");
        becomes_empty(folder.path()).await;
        subject.audit().await;
    }
}

#[tokio::test]
async fn a_verification_whose_future_was_dropped_ends() {
    for subject in in_other_threads().await {
        filled(&subject).await;
        let (within, outside) = pair();
        let verify = Verify::full().progress(within.progress());
        let more = match &subject.local {
            Local::Memory(store) => outside.drop_future(store.verify_with(verify)).await,
            Local::Sqlite(store) => outside.drop_future(store.verify_with(verify)).await,
        };
        assert_eq!(more, 0, "it went on");
        subject.audit().await;
    }
}

/// An export that is read in small parts.
struct Slow(io::Cursor<Vec<u8>>, Within);

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.call();
        let part = buffer.len().min(4_096);
        self.0.read(&mut buffer[..part])
    }
}

#[tokio::test]
async fn an_import_whose_future_was_dropped_ends_and_leaves_no_file() {
    let subject = Subject::memory();
    filled(&subject).await;
    let bytes = subject.local.export(Export::new()).await.unwrap();
    let folder = folder();
    let path = folder.path().join("state.db");
    let (within, outside) = pair();
    let slow = Slow(io::Cursor::new(bytes.clone()), within);
    outside.drop_future(SqliteStore::import(slow, path.clone())).await;
    becomes_empty(folder.path()).await;
    // The place is free.
    let store = SqliteStore::import(io::Cursor::new(bytes), path).await.unwrap();
    audit(&Local::Sqlite(store)).await;
}
