//! Code that a program gives to the store, and that panics: its call fails and says whose code it was,
//! nothing of it is recorded, and the store goes on.

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use univrs_state::archive::{Archive, Export, Exported};
use univrs_state::log::Timestamp;
use univrs_state::options::{Clock, Entropy};
use univrs_state::verify::{Level, Verify, VerifyReport};
use univrs_state::{
    Batch, ErrorKind, LocalStore, MemoryStore, Options, Result, Seq, SqliteStore, StateError, StateStore,
};

use crate::support::child::Child;
use crate::support::{Local, Store, Subject, folder, on_every_backend, options, value};

on_every_backend!(
    a_progress_function_that_panics_fails_its_call_alone,
    a_writer_that_panics_fails_its_export_alone,
    a_writer_that_says_too_much_fails_its_export_alone,
    a_writer_that_panics_when_it_is_dropped_harms_nothing,
);

/// Panics while it is armed.
struct Bomb(AtomicBool);

impl Bomb {
    fn armed(&self, armed: bool) {
        self.0.store(armed, Ordering::SeqCst);
    }

    fn pass(&self) {
        assert!(!self.0.load(Ordering::SeqCst), "planted");
    }
}

impl Clock for &'static Bomb {
    fn now(&self) -> Timestamp {
        self.pass();
        Timestamp::EPOCH
    }
}

impl Entropy for &'static Bomb {
    fn fill(&self, buffer: &mut [u8]) -> bool {
        self.pass();
        buffer.fill(7);
        true
    }
}

/// What a panic is called; it is the program that is to be corrected.
fn check(error: &StateError, whose: &'static str) {
    assert_eq!(error, &StateError::Panicked(whose));
    assert!(error.kind() == ErrorKind::InvalidInput && !error.is_retryable());
    assert!(error.to_string().contains(whose), "{error}");
}

async fn goes_on_after(bomb: &'static Bomb, subject: Subject, whose: &'static str) {
    let store = subject.shared();
    let mut watch = store.watch("/*").unwrap();
    bomb.armed(true);
    // Many at once, which a store on disk takes as a group.
    let together = (0..8).map(|n| {
        let store = store.clone();
        tokio::spawn(
            async move { store.commit(Batch::new().set(format!("/{n}"), "1").commit_id("id")).await },
        )
    });
    for refused in together.collect::<Vec<_>>() {
        check(&refused.await.unwrap().unwrap_err(), whose);
    }
    assert_eq!(store.head().await.unwrap().seq, Seq::ZERO);
    bomb.armed(false);
    assert_eq!(store.commit(Batch::new().set("/a", "2").commit_id("id")).await.unwrap().last, Seq::new(1));
    assert_eq!(watch.try_next().await.unwrap().unwrap().new_value.unwrap(), b"2");
    subject.audit().await;
}

#[tokio::test]
async fn a_clock_that_panics_fails_its_batches_and_the_store_goes_on() {
    static BOMB: Bomb = Bomb(AtomicBool::new(false));
    for subject in Subject::each_with(|| options().clock(&BOMB)).await {
        goes_on_after(&BOMB, subject, "the clock").await;
    }
}

#[tokio::test]
async fn a_source_of_randomness_that_panics_fails_its_batches_and_the_store_goes_on() {
    static BOMB: Bomb = Bomb(AtomicBool::new(false));
    for subject in Subject::each_with(|| options().entropy(&BOMB)).await {
        goes_on_after(&BOMB, subject, "the source of randomness").await;
    }
    BOMB.armed(true);
    let options = Options::new().entropy(&BOMB);
    check(&options.clone().memory().unwrap_err(), "the source of randomness");
    check(&options.in_memory().await.unwrap_err(), "the source of randomness");
}

async fn verify_with(store: &Local, verify: Verify) -> Result<VerifyReport> {
    match store {
        Local::Memory(store) => store.verify_with(verify).await,
        Local::Sqlite(store) => store.verify_with(verify).await,
    }
}

async fn a_progress_function_that_panics_fails_its_call_alone<S: Store>(store: S, subject: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    let whose = "the progress function";
    for level in [Level::Chain, Level::Full] {
        let verify = Verify::level(level).progress(|_| panic!("planted"));
        check(&verify_with(&subject.local, verify).await.unwrap_err(), whose);
    }
    let export = || Export::new().progress(|_| panic!("planted"));
    check(&subject.local.export(export()).await.unwrap_err(), whose);
    let folder = folder();
    let error = subject.local.export_to(export(), &folder.path().join("state.log")).await.unwrap_err();
    check(&error, whose);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something is left behind");
    assert_eq!(store.set("/a", value(2)).await, Ok(2));
}

/// Reads or writes nothing.
struct Broken;

impl io::Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        panic!("planted")
    }

    fn flush(&mut self) -> io::Result<()> {
        panic!("planted")
    }
}

impl io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("planted")
    }
}

async fn export_into(store: &Local, write: impl io::Write + Send + 'static) -> Result<Exported> {
    match store {
        Local::Memory(store) => store.export(Export::new(), write).await,
        Local::Sqlite(store) => store.export(Export::new(), write).await,
    }
}

async fn a_writer_that_panics_fails_its_export_alone<S: Store>(store: S, subject: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    check(&export_into(&subject.local, Broken).await.unwrap_err(), "the writer");
    assert_eq!(store.set("/a", value(2)).await, Ok(2));
}

/// Says that it wrote or read more than it was given.
struct Boasting;

impl io::Write for Boasting {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len() + 1)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Read for Boasting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(buffer.len() + 1)
    }
}

/// What is said of a number that cannot be.
fn check_boast(error: &StateError, whose: &str) {
    let says = error.to_string();
    assert!(says.contains(whose) && says.contains("bytes of a buffer of"), "{says}");
}

async fn a_writer_that_says_too_much_fails_its_export_alone<S: Store>(store: S, subject: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    check_boast(&export_into(&subject.local, Boasting).await.unwrap_err(), "the writer");
    assert_eq!(store.set("/a", value(2)).await, Ok(2));
}

#[tokio::test]
async fn a_reader_that_says_too_much_fails_its_import_and_leaves_nothing() {
    let folder = folder();
    let path = folder.path().join("state.db");
    check_boast(&MemoryStore::import(Boasting).unwrap_err(), "the reader");
    check_boast(&Archive::read(Boasting).unwrap_err(), "the reader");
    check_boast(&SqliteStore::import(Boasting, &path).await.unwrap_err(), "the reader");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something is left behind");
}

/// Panics when it is dropped, after it took everything.
struct Parting;

impl io::Write for Parting {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Parting {
    fn drop(&mut self) {
        panic!("planted");
    }
}

async fn a_writer_that_panics_when_it_is_dropped_harms_nothing<S: Store>(store: S, subject: &Subject) {
    store.set("/a", value(1)).await.unwrap();
    assert_eq!(export_into(&subject.local, Parting).await.map(|exported| exported.changes), Ok(1));
    assert_eq!(store.set("/a", value(2)).await, Ok(2));
}

#[tokio::test]
async fn a_reader_that_panics_fails_its_import_and_leaves_nothing() {
    let folder = folder();
    let path = folder.path().join("state.db");
    check(&MemoryStore::import(Broken).unwrap_err(), "the reader");
    check(&Archive::read(Broken).unwrap_err(), "the reader");
    check(&SqliteStore::import(Broken, &path).await.unwrap_err(), "the reader");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something is left behind");
}

/// In a child of the test, whose memory is limited so that no thread can be started: what a
/// verification and an export say, and whether the store goes on.
pub(crate) async fn without_threads(store: &SqliteStore) -> String {
    store.set("/a", value(1)).await.unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find(|line| line.starts_with("VmSize:")).unwrap();
    let size: u64 = size.split_whitespace().nth(1).unwrap().parse().unwrap();
    // Less than the stack of a thread.
    let limit = format!("--as={}:", (size + 1_000) << 10);
    let pid = std::process::id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    let told = [
        store.verify().await.unwrap_err(),
        store.export(Export::new(), io::sink()).await.unwrap_err(),
        SqliteStore::in_memory().await.unwrap_err(),
    ];
    let told = told.map(|error| {
        let cause = std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<io::Error>);
        (error.code(), error.to_string().contains("no thread can be started"), cause)
    });
    format!("{told:?} {:?}", store.set("/a", value(2)).await)
}

#[tokio::test]
async fn a_process_without_another_thread_is_told_and_the_store_goes_on() {
    let folder = folder();
    let path = folder.path().join("state.db");
    let mut child = Child::start();
    child.ask(&format!("open\t{}", path.display())).unwrap();
    let expected = format!("{:?} Ok(2)", [("unavailable", true, true); 3]);
    assert_eq!(child.ask("without threads"), Ok(expected));
    child.kill();
    Subject::open(Options::new().busy_timeout(Duration::from_secs(60)), &path).await.audit().await;
}
