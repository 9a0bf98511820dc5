//! What the benches share: lanes that take turns, medians, and the table they end in.
//!
//! | variable | default | |
//! |---|---|---|
//! | `UNIVRS_BENCH_ROUNDS` | 5 | turns of each lane |
//! | `UNIVRS_BENCH_SCALE` | 1 | makes turns longer or shorter |
//! | `UNIVRS_BENCH_ONLY` | all | ratios to measure, with commas between |
//! | `UNIVRS_BENCH_DIR` | in `target/` | where the files are written |
//! | `UNIVRS_BENCH_SAMPLES` | no | prints a line `sample`, name, rate and processor time for each turn, with tabs between, for `tools/bench-diff` |
//!
//! Started by anything but `cargo bench`, a bench only shows that it works: one short round.

// Every bench is a crate of its own and uses a part of this.
#![allow(dead_code, clippy::cast_precision_loss)]

pub(crate) mod lanes;
pub(crate) mod ratio;
pub(crate) mod raw;
pub(crate) mod reads;
pub(crate) mod retain;
pub(crate) mod store;
pub(crate) mod verify;
pub(crate) mod watches;
pub(crate) mod writers;

use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) use lanes::Lanes;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use univrs_state::Meta;

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 128;
/// Bytes of metadata in the log.
pub(crate) const META_BYTES: usize = 147;

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

/// What a program says of the commit it makes for a request: each says something else, in
/// [`META_BYTES`] bytes.
pub(crate) fn meta(request: usize) -> Meta {
    Meta::new()
        .actor("scheduler@node-17")
        .reason("moved off a node that is drained")
        .correlation(format!("request-{request:016x}"))
        .label("ticket", "OPS-1182")
        .label("zone", "eu-central-1b")
}

/// How fast a turn went.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Operations per second.
    pub(crate) rate: f64,
    /// Seconds of processor time that an operation took, of all threads. It depends less than the
    /// rate on what else the machine does.
    pub(crate) cpu: f64,
}

impl Pace {
    /// That of operations by how long the median one took. `latencies` returns the seconds that
    /// each took.
    pub(crate) fn of_latency(latencies: impl FnOnce() -> Vec<f64>) -> Self {
        let mut seconds = Vec::new();
        let pace = pace(|| {
            seconds = latencies();
            seconds.len()
        });
        Self { rate: 1.0 / median(&seconds), ..pace }
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

/// Processor time of this process, threads that have ended included.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
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

/// By how many KiB the peak of memory grows with some work. It starts over at what is in use.
pub(crate) fn peak(work: impl FnOnce()) -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    work();
    status("VmHWM").saturating_sub(before)
}

/// A number of KiB from what the system says about this process.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
