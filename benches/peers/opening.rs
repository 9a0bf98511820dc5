//! Opening a large store that was closed: how soon it answers, how soon its resident projection is
//! loaded, and what memory that takes. Each opening has a process of its own.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rusqlite::Connection;
use tokio::runtime::Runtime;
use univrs_state::{LocalStore, StateStore};

use crate::measure::ratio::print_ratio;
use crate::measure::{self, Effort, VALUE_BYTES, key, reads, store};
use crate::process::memory_bytes;
use crate::size::bytes_in;

/// The argument by which a process is asked to open a store.
pub(crate) const CHILD: &str = "open";
/// What the first answer may take, in seconds.
const FIRST_ANSWER: f64 = 0.05;

pub(crate) fn run(effort: Effort) {
    let folder = measure::folder("opening", effort);
    let path = folder.path().join("store.db");
    let keys = effort.items(1_000_000).min(1_000_000);
    Runtime::new().unwrap().block_on(async {
        let store = store::open(&path).await;
        store::fill(&store, 0..keys).await;
        store.close().await.unwrap();
    });
    let conn = Connection::open(&path).unwrap();
    let bytes = bytes_in(&conn, "kv_store");
    println!("{keys} keys, {bytes} bytes of keys and values\n");

    let (mut first, mut load, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let scan = reads::raw_scan_all(&conn, keys);
        let opened = Opened::by_child(&path);
        println!("scanned in {scan:.4} s; {opened:?}");
        first.push(FIRST_ANSWER / opened.first);
        load.extend(opened.loaded.map(|loaded| scan / loaded));
        memory.extend(opened.loaded.map(|_| bytes / opened.memory));
    }
    println!();
    print_ratio("first_answer", "50 ms / from opening to the first answer", &first, Some(1.0));
    if !load.is_empty() {
        let what = "a scan of kv_store / from opening to the resident projection";
        print_ratio("load", what, &load, Some(0.17));
        let what = "bytes of keys and values / memory that the opening took";
        print_ratio("resident_memory", what, &memory, Some(0.4));
    }
}

/// Opens the store at a path and tells the parent process about it.
pub(crate) fn open(path: &Path) {
    let runtime = Runtime::new().unwrap();
    let (before, start) = (memory_bytes(), Instant::now());
    let store = runtime.block_on(store::open_with(path, usize::MAX));
    let entry = runtime.block_on(store.get(&key(0))).unwrap().unwrap();
    let first = start.elapsed().as_secs_f64();
    assert_eq!(entry.value.len(), VALUE_BYTES);
    let loaded = runtime.block_on(store::resident(&store)).then(|| start.elapsed().as_secs_f64());
    let opened = Opened { first, loaded, memory: memory_bytes() - before };
    println!("{}", opened.to_line());
}

/// What an opening took, in seconds and bytes.
#[derive(Debug)]
struct Opened {
    first: f64,
    loaded: Option<f64>,
    memory: f64,
}

impl Opened {
    /// Opens the store at a path in another process.
    fn by_child(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.arg(CHILD).arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::from_line(&String::from_utf8(output.stdout).unwrap())
    }

    fn to_line(&self) -> String {
        format!("{} {} {}", self.first, self.loaded.unwrap_or(f64::NAN), self.memory)
    }

    fn from_line(line: &str) -> Self {
        let numbers: Vec<f64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let [first, loaded, memory] = numbers[..] else { panic!("not what was asked for: {line}") };
        Self { first, loaded: (!loaded.is_nan()).then_some(loaded), memory }
    }
}
