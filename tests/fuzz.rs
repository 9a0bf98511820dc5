//! Any bytes: parsers, the database file, the write-ahead log, metadata and operations. Replays the
//! corpus in `tests/fuzz/corpus`, which keeps what once failed and some of what libFuzzer found to
//! reach far, and changes seeds at random.
//! `UNIVRS_FUZZ_RUNS` makes it longer, `UNIVRS_SEED` repeats a run. libFuzzer goes on from there, see
//! `tests/fuzz/Cargo.toml`; `UNIVRS_FUZZ_SEEDS` names a folder in which to leave the seeds for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use targets::{TARGETS, seed_files};

#[path = "fuzz/targets.rs"]
mod targets;

/// Xorshift: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let hash = "0f".repeat(32);
    let [database, log] = seed_files();
    match target {
        "places" => {
            texts(&["4711", &format!("4711:{hash}"), &format!("{}:4711:{hash}", "0f".repeat(16)), &hash])
        }
        "patterns" => {
            texts(&["/a/*/c\n/a/b/c", "/a/**/c*\n/a/b/c/d", "/**\n/a", "/a*\n/ab/c", "/**/x/**/y\n/x/x/y"])
        }
        "metadata" => vec![b"\xa1\x65actor\x61a".to_vec(), b"\xa1\x66labels\xa1\x61l\x61v".to_vec()],
        "database" => vec![database],
        "log" => vec![log],
        "import" => targets::exports(),
        _ => texts(&["set and delete some keys, then again", "\u{0}1\u{1}2\u{2}3\u{3}4"]),
    }
}

/// Flips, overwrites, cuts, repeats or inserts a few bytes.
fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let length = random.below(64).min(bytes.len() - at.min(bytes.len()));
        let noise = u8::try_from(random.below(256)).unwrap();
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = noise,
            2 => bytes.truncate(at),
            3 => bytes.splice(at..at, vec![noise; length]).for_each(drop),
            4 => drop(bytes.drain(at..at + length)),
            _ => {
                let copied = bytes[at..at + length].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copied).for_each(drop);
            }
        }
    }
}

#[test]
fn any_bytes_are_read_or_refused() {
    let seed = variable("UNIVRS_SEED").unwrap_or_else(|| u64::from(std::process::id()) + 1);
    let runs = variable("UNIVRS_FUZZ_RUNS").unwrap_or(300);
    println!("UNIVRS_SEED={seed}");
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut executions = 0_u64;
    for (name, target) in TARGETS {
        let mut random = Random(seed);
        let run = |bytes: &[u8], what: &dyn Fn() -> String| {
            if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
                let file = std::env::temp_dir().join(format!("univrs-fuzz-{name}-{seed}"));
                std::fs::write(&file, bytes).unwrap();
                panic!("target {name} failed on {}; the bytes are in {}", what(), file.display());
            }
        };
        if let Ok(files) = std::fs::read_dir(corpus.join(name)) {
            for file in files.map(|file| file.unwrap().path()) {
                run(&std::fs::read(&file).unwrap(), &|| file.display().to_string());
                executions += 1;
            }
        }
        // The targets that only parse are a thousand times as fast as those with files.
        let runs = if matches!(name, "places" | "patterns") { runs * 100 } else { runs };
        let seeds = seeds(name);
        if let Some(folder) = std::env::var_os("UNIVRS_FUZZ_SEEDS") {
            let folder = Path::new(&folder).join(name);
            std::fs::create_dir_all(&folder).unwrap();
            for (number, seed) in seeds.iter().enumerate() {
                std::fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
            }
        }
        for (number, seed) in seeds.iter().enumerate() {
            run(seed, &|| format!("seed {number}"));
            executions += 1;
        }
        for turn in 0..runs {
            let mut bytes = seeds[random.below(seeds.len())].clone();
            change(&mut bytes, &mut random);
            run(&bytes, &|| format!("turn {turn} of UNIVRS_SEED={seed}"));
            executions += 1;
        }
    }
    assert!(executions > 50, "the corpus is not where it was");
    println!("fuzz: {executions} executions, 0 failed");
}
