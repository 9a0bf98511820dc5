//! The system calls of a child, as `strace` tells them, and what is on disk at a moment if a file system keeps
//! in memory whatever it may: bytes until their file is synced, names until their folder is synced.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

const CALLS: &str = "trace=openat,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,\
                     link,linkat,unlink,unlinkat";

/// The command that runs a child under `strace`, which writes to a file.
pub(super) fn through(file: &Path) -> Vec<String> {
    let there = std::process::Command::new("strace").arg("-V").output();
    assert!(there.is_ok(), "strace is missing: tools/test installs it");
    let words = ["strace", "-f", "-y", "-qq", "-s", "512", "-e", CALLS, "-e", "signal=none", "-o"];
    words.into_iter().map(str::to_owned).chain([file.display().to_string()]).collect()
}

/// A system call that succeeded.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: String,
    /// The lines in which it began and ended.
    began: usize,
    ended: usize,
}

#[derive(Debug)]
pub(super) struct Trace(Vec<Call>);

impl Trace {
    pub(super) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let (mut calls, mut open) = (Vec::new(), HashMap::new());
        for (line, text) in text.lines().enumerate() {
            let (thread, text) = text.split_once(' ').unwrap();
            let text = text.trim_start();
            if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
                open.insert(thread.to_owned(), (line, begun.to_owned()));
                continue;
            }
            let (began, whole) = match text.strip_prefix("<... ") {
                Some(rest) => {
                    let (began, first) = open.remove(thread).unwrap();
                    (began, first + rest.split_once(" resumed>").unwrap().1)
                }
                None => (line, text.to_owned()),
            };
            let Some((call, result)) = whole.rsplit_once(" = ") else { continue };
            if result.starts_with('-') || result.starts_with('?') {
                continue;
            }
            let (name, arguments) = call.split_once('(').unwrap();
            let arguments = arguments.trim_end().trim_end_matches(')').to_owned();
            calls.push(Call { name: name.to_owned(), arguments, began, ended: line });
        }
        assert!(!calls.is_empty(), "strace told nothing");
        Self(calls)
    }

    /// When the child told this answer.
    pub(super) fn answer(&self, answer: &str) -> usize {
        let told = format!("@{answer}\\n");
        let told = self.0.iter().find(|call| call.name == "write" && call.arguments.contains(&told));
        told.unwrap_or_else(|| panic!("{answer:?} was not told")).began
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.0.iter()
    }

    /// When the last bytes of a file before a moment were written; none if there are none.
    pub(super) fn last_write(&self, file: &Path, before: usize) -> Option<usize> {
        self.0.iter().filter(|call| call.writes(file) && call.began < before).map(|call| call.ended).max()
    }

    /// Whether all that was written into a file before a moment is on disk then.
    pub(super) fn bytes_are_on_disk(&self, file: &Path, at: usize) -> bool {
        self.last_write(file, at).is_none_or(|written| self.synced(file, written, at))
    }

    /// Whether the name of a file or folder is on disk at a moment, where it was not when the trace began.
    pub(super) fn name_is_on_disk(&self, path: &Path, at: usize) -> bool {
        let mut given = self.0.iter().filter(|call| call.names(path) && call.began < at);
        // Whoever opens a file that is there does not make it, though it asks for that.
        let opened = given.next().map(|call| call.ended);
        let renamed = given.filter(|call| call.name != "openat").map(|call| call.ended).next_back();
        self.synced(path.parent().unwrap(), renamed.or(opened).unwrap_or(0), at)
    }

    fn synced(&self, path: &Path, after: usize, before: usize) -> bool {
        self.0.iter().any(|call| call.syncs(path) && call.began >= after && call.ended < before)
    }
}

impl Call {
    /// The file of its descriptor.
    fn file(&self) -> Option<PathBuf> {
        let (descriptor, rest) = self.arguments.split_once('<')?;
        descriptor.parse::<u32>().ok()?;
        rest.split_once('>').map(|(path, _)| path.into())
    }

    pub(super) fn writes(&self, file: &Path) -> bool {
        ["write", "pwrite64", "ftruncate"].contains(&&*self.name) && self.file().as_deref() == Some(file)
    }

    fn syncs(&self, path: &Path) -> bool {
        ["fsync", "fdatasync"].contains(&&*self.name) && self.file().as_deref() == Some(path)
    }

    /// Whether it gives a file or folder this name.
    fn names(&self, path: &Path) -> bool {
        let last = self.arguments.rsplit('"').nth(1) == path.to_str();
        last && (self.name.starts_with("rename")
            || self.name.starts_with("mkdir")
            || self.name.starts_with("link"))
            || self.name == "openat" && last && self.arguments.contains("O_CREAT")
    }

    /// Whether it removes the file of this name.
    pub(super) fn names_removed(&self, path: &Path) -> bool {
        self.name.starts_with("unlink") && self.arguments.split('"').nth(1) == path.to_str()
    }

    /// The bytes that it writes, at most as many as are traced.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut text =
            self.arguments.split_once('"').unwrap().1.rsplit_once('"').unwrap().0.bytes().peekable();
        let mut bytes = Vec::new();
        while let Some(byte) = text.next() {
            bytes.push(match (byte, text.peek()) {
                (b'\\', Some(b'0'..=b'7')) => {
                    let digit =
                        |text: &mut std::iter::Peekable<_>| text.next_if(|byte| (b'0'..=b'7').contains(byte));
                    let digits = std::iter::from_fn(|| digit(&mut text)).take(3);
                    digits.fold(0_u8, |number, digit| number.wrapping_mul(8).wrapping_add(digit - b'0'))
                }
                (b'\\', _) => match text.next().unwrap() {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    plain => plain,
                },
                (plain, _) => plain,
            });
        }
        bytes
    }

    pub(super) fn began(&self) -> usize {
        self.began
    }

    /// Whether it renames a file to this name.
    pub(super) fn renames_to(&self, path: &Path) -> bool {
        self.name.starts_with("rename") && self.names(path)
    }
}
