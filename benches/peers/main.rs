//! The store beside other embedded stores: redb, LMDB (by heed), fjall, and rusqlite by hand, in one
//! run, with the same keys, values and durability: every write that is acknowledged was synced.
//!
//! Each part runs in a process of its own, so that none meets the memory or the threads of another.
//! `cargo bench -- PART` runs that one; `growth` takes long, and runs only so.

#[path = "../measure/mod.rs"]
mod measure;

mod delivery;
mod growth;
mod idle;
mod log;
mod opening;
mod peer;
mod process;
mod puts;
mod reads;
mod size;
mod table;
mod threads;

use std::process::Command;

use measure::Effort;
use measure::ratio::is_wanted;

/// A part and the ratios that it measures.
struct Part {
    name: &'static str,
    ratios: &'static [&'static str],
    run: fn(Effort),
}

impl Part {
    fn is_wanted(&self) -> bool {
        self.ratios.iter().any(|ratio| is_wanted(ratio))
    }
}

const PARTS: [Part; 8] = [
    Part { name: "puts", ratios: &["puts_1", "puts_64", "puts_512", "cas_64"], run: puts::run },
    Part { name: "reads", ratios: &["get_resident", "get_64", "list_400", "scan"], run: reads::run },
    Part { name: "delivery", ratios: &["delivery_10000"], run: delivery::run },
    Part { name: "idle", ratios: &["idle_cpu", "idle_memory"], run: idle::run },
    Part { name: "log", ratios: &["catch_up", "catch_up_old_values", "verify"], run: log::run },
    Part { name: "opening", ratios: &["first_answer", "load", "resident_memory"], run: opening::run },
    Part { name: "size", ratios: &["file_bytes_128", "file_bytes_1024"], run: size::run },
    Part { name: "growth", ratios: &["growth"], run: growth::run },
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match &arguments[..] {
        [] => PARTS.iter().filter(|part| part.name != "growth" && part.is_wanted()).for_each(start),
        [child, path] if child == opening::CHILD => opening::open(path.as_ref()),
        [name] => {
            let part = PARTS.iter().find(|part| part.name == name);
            let part = part.unwrap_or_else(|| panic!("no part is called {name}"));
            if part.is_wanted() {
                (part.run)(Effort::from_env());
            }
        }
        more => panic!("one part at a time, not {more:?}"),
    }
}

/// Runs a part in a process of its own.
fn start(part: &Part) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let status = child.arg(part.name).args(std::env::args().skip(1)).status().unwrap();
    assert!(status.success(), "the part {} failed: {status}", part.name);
}
