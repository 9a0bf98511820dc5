//! Who reads a state that is in the write-ahead log, so that the log cannot be moved or started over.
//!
//! Each reader holds the lock of a mark in the index of the log, and the mark says which state it reads. The
//! operating system knows which process holds a lock. It is asked through `/proc/locks`, because opening the
//! index would not do: closing it again would let go of all locks that this process has on it.

use std::fs;
use std::path::Path;

use super::config::SideFile;
use super::ffi::{LogPages, MARKS};
use super::path;

/// The place of the first lock of a reader in the index. The locks of the other marks follow it.
const FIRST_LOCK: u64 = 123;

/// A process that reads an older state of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MarkHolder {
    pub(crate) process: u32,
    /// The name of its program; empty if the system does not tell.
    pub(crate) program: String,
    /// How many pages of the log belong to the state that it reads.
    pub(crate) pages: u32,
}

/// The processes that read an older state than the newest, that of the oldest state first; each is named once.
/// Empty where the system does not tell.
pub(crate) fn mark_holders(database: &Path, log: &LogPages) -> Vec<MarkHolder> {
    let index = path::identity(&SideFile::Index.beside(database)).ok().flatten();
    let (Some((device, inode)), Ok(locks)) = (index, fs::read_to_string("/proc/locks")) else {
        return Vec::new();
    };
    let mut readers: Vec<MarkHolder> = Vec::new();
    for (process, pages) in held(&locks, &shown(device), inode, log) {
        match readers.iter_mut().find(|reader| reader.process == process) {
            Some(reader) => reader.pages = reader.pages.min(pages),
            None => readers.push(MarkHolder { process, program: program(process), pages }),
        }
    }
    readers.retain(|reader| reader.pages < log.used);
    readers.sort_by_key(|reader| reader.pages);
    readers
}

/// The processes that hold the locks of marks, each with the pages of its state.
fn held(locks: &str, device: &str, inode: u64, log: &LogPages) -> Vec<(u32, u32)> {
    let mut exact = Vec::new();
    // Some file systems show another device to programs than the locks have.
    let mut similar = Vec::new();
    for line in locks.lines() {
        // 3: POSIX  ADVISORY  READ 4711 fd:01:263425 124 124
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "POSIX" | "OFDLCK", _, "READ", process, file, from, to] = *fields.as_slice() else {
            continue;
        };
        let Some((on, number)) = file.rsplit_once(':') else { continue };
        let (Ok(process), Ok(from), Ok(to)) = (process.parse(), from.parse::<u64>(), to.parse::<u64>())
        else {
            continue;
        };
        if number.parse() != Ok(inode) {
            continue;
        }
        let marks = (FIRST_LOCK..).zip(log.marks).take(MARKS);
        for (_, pages) in marks.filter(|(lock, _)| (from..=to).contains(lock)) {
            if on == device { &mut exact } else { &mut similar }.push((process, pages));
        }
    }
    if exact.is_empty() { similar } else { exact }
}

/// A device as `/proc/locks` writes it.
#[cfg(target_os = "linux")]
fn shown(device: u64) -> String {
    format!("{:02x}:{:02x}", libc::major(device), libc::minor(device))
}

#[cfg(not(target_os = "linux"))]
fn shown(_: u64) -> String {
    String::new()
}

fn program(process: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locks_of_readers_name_processes_and_their_states() {
        let log = LogPages { used: 500, moved: 0, marks: [0, 480, 120, u32::MAX, u32::MAX] };
        let line = |kind: &str, process: u32, file: &str, lock: u64| {
            format!("1: POSIX  ADVISORY  {kind} {process} {file} {lock} {lock}\n")
        };
        let found = |lines: &[String]| held(&lines.concat(), "fd:01", 77, &log);
        let new = line("READ", 4711, "fd:01:77", 124);
        assert_eq!(found(std::slice::from_ref(&new)), [(4711, 480)]);
        assert_eq!(found(&[new.clone(), line("READ", 12, "fd:01:77", 125)]), [(4711, 480), (12, 120)]);
        assert_eq!(found(&[line("READ", 12, "fd:01:77", 123)]), [(12, 0)], "it reads the database alone");
        for other in [
            line("READ", 12, "fd:01:78", 125),
            line("WRITE", 12, "fd:01:77", 125),
            line("READ", 12, "fd:01:77", 128),
            line("READ", 12, "fd:02:77", 125),
            "nonsense".into(),
        ] {
            assert_eq!(found(&[new.clone(), other.clone()]), [(4711, 480)], "{other}");
        }
        assert_eq!(found(&[line("READ", 12, "00:1b:77", 125)]), [(12, 120)], "of another device, but alone");
        let all = "1: POSIX  ADVISORY  READ 12 fd:01:77 123 127\n".to_owned();
        assert_eq!(found(&[all]).len(), MARKS);
    }
}
