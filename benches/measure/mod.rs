//! What the benches share: lanes that take turns, medians, and the table they end in.
//!
//! | variable | default | |
//! |---|---|---|
//! | `UNIVRS_BENCH_ROUNDS` | 5 | turns of each lane |
//! | `UNIVRS_BENCH_SCALE` | 1 | makes turns longer or shorter |
//! | `UNIVRS_BENCH_ONLY` | all | ratios to measure, with commas between |
//! | `UNIVRS_BENCH_DIR` | in `target/` | where the files are written |
//!
//! Started by anything but `cargo bench`, a bench only shows that it works: one short round.

// Every bench is a crate of its own and uses a part of this.
#![allow(dead_code)]

pub(crate) mod lanes;
pub(crate) mod ratio;
pub(crate) mod raw;
pub(crate) mod reads;
pub(crate) mod store;
pub(crate) mod verify;
pub(crate) mod watches;
pub(crate) mod writers;

use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) use lanes::Lanes;
use tempfile::TempDir;

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 128;

/// How long and how often to measure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    scale: f64,
}

impl Effort {
    /// As the environment asks for.
    pub(crate) fn from_env() -> Self {
        if !std::env::args().any(|arg| arg == "--bench") {
            return Self { rounds: 1, scale: 0.02 };
        }
        let scale = variable("UNIVRS_BENCH_SCALE").unwrap_or(1.0);
        let rounds = variable("UNIVRS_BENCH_ROUNDS").unwrap_or(5);
        assert!(scale > 0.0 && rounds > 0, "rounds and scale must be above zero");
        Self { rounds, scale }
    }

    /// How long a turn of so many milliseconds takes at this scale.
    pub(crate) fn turn(self, milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds).mul_f64(self.scale)
    }

    /// So many items at this scale, but 100 at least.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn items(self, count: u32) -> usize {
        (f64::from(count) * self.scale).max(100.0) as usize
    }
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// A folder for the files of a bench; says where it is.
pub(crate) fn folder(bench: &str, effort: Effort) -> TempDir {
    let base = std::env::var("UNIVRS_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").into());
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(base).unwrap();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{bench}: {} rounds, {cores} cores, {} on {}", effort.rounds, folder.path().display(), {
        device(folder.path()).unwrap_or_else(|| "an unknown device".into())
    });
    folder
}

/// The file system and device that hold a path.
fn device(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        path.starts_with(point).then(|| (point.len(), format!("{kind}, {device}")))
    });
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, device)| device)
}

/// Random numbers that are the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below a bound.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A value of [`VALUE_BYTES`] that no other is equal to.
    pub(crate) fn value(&mut self) -> Vec<u8> {
        self.bytes(VALUE_BYTES)
    }

    /// So many bytes; a multiple of eight.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }

    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The key of an index; keys sort as their indices do, if those are below 400,000.
pub(crate) fn key(index: usize) -> String {
    format!("/bench/{:03}/{:04}", index / 400, index % 400)
}

/// How fast a turn went.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Operations per second.
    pub(crate) rate: f64,
    /// Seconds of processor time that an operation took, of all threads; not a number where that
    /// is unknown. It depends less than the rate on what else the machine does.
    pub(crate) cpu: f64,
}

impl Pace {
    /// That of operations which take so many seconds each.
    pub(crate) fn of_latency(seconds: f64) -> Self {
        Self { rate: 1.0 / seconds, cpu: f64::NAN }
    }
}

/// The pace of some work that says how many operations it did.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn pace(work: impl FnOnce() -> usize) -> Pace {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let done = work();
    assert!(done > 0, "nothing was done");
    let rate = done as f64 / start.elapsed().as_secs_f64();
    Pace { rate, cpu: (cpu_seconds() - cpu) / done as f64 }
}

/// Processor time of this process, threads that have ended included, in hundredths of a second.
#[allow(clippy::cast_precision_loss)]
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may have spaces; the times are the 12th and 13th field behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let times: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    if times.len() == 2 { times.iter().sum::<u64>() as f64 / 100.0 } else { f64::NAN }
}

/// Repeats `work`, which says how many operations it did, until `turn` is over.
pub(crate) fn repeat(turn: Duration, mut work: impl FnMut() -> usize) -> Pace {
    pace(|| {
        let (start, mut done) = (Instant::now(), 0);
        while done == 0 || start.elapsed() < turn {
            done += work();
        }
        done
    })
}

/// The middle one; of an even number the mean of the middle two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(low, high)
}
