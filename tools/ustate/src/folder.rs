//! The files of a folder, as keys.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use univrs_state::key::{RESERVED_PREFIX, validate_key};

use crate::stop::{Done, Failure, fail};
use crate::value::counted;

/// Regular files, and what was passed over.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// In the order of keys.
    pub(crate) files: Vec<(String, PathBuf)>,
    pub(crate) dot_files: u64,
    pub(crate) links: u64,
    /// Pipes, sockets and devices.
    pub(crate) others: u64,
}

impl Folder {
    /// Looks at all of a folder; a key is `prefix`, which ends in `/`, and the path below it.
    pub(crate) fn read(folder: &Path, prefix: &str) -> Done<Self> {
        let mut read = Self::default();
        let mut due = vec![(folder.to_owned(), prefix.to_owned())];
        while let Some((folder, prefix)) = due.pop() {
            let cannot = |error| Failure::io(&format!("cannot read {}", folder.display()), &error);
            let entries = fs::read_dir(&folder).map_err(cannot)?;
            let mut entries: Vec<_> = entries.collect::<io::Result<_>>().map_err(cannot)?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    read.dot_files += 1;
                    continue;
                }
                let kind = entry.file_type().map_err(cannot)?;
                if kind.is_symlink() {
                    read.links += 1;
                } else if kind.is_dir() {
                    let name = name(&entry)?;
                    due.push((entry.path(), format!("{prefix}{name}/")));
                } else if kind.is_file() {
                    let key = format!("{prefix}{}", name(&entry)?);
                    validate_key(&key).map_err(|error| no_key(&entry.path(), &error.to_string()))?;
                    if key.starts_with(RESERVED_PREFIX) {
                        let why = format!("keys below {RESERVED_PREFIX} belong to the store");
                        return fail(no_key(&entry.path(), &why));
                    }
                    read.files.push((key, entry.path()));
                } else {
                    read.others += 1;
                }
            }
        }
        read.files.sort();
        Ok(read)
    }

    /// What was passed over, in words; none if nothing was.
    pub(crate) fn left_out(&self) -> Option<String> {
        let counts =
            [(self.dot_files, "dot file"), (self.links, "symbolic link"), (self.others, "special file")];
        let counts: Vec<String> = counts
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, noun)| counted(number, noun))
            .collect();
        (!counts.is_empty()).then(|| format!("left out: {}", counts.join(", ")))
    }
}

fn name(entry: &fs::DirEntry) -> Done<String> {
    let named = entry.file_name().into_string();
    Ok(named.map_err(|_| no_key(&entry.path(), "its name is not UTF-8"))?)
}

fn no_key(path: &Path, why: &str) -> Failure {
    Failure { code: "invalid_key", ..Failure::usage(format!("{} makes no key: {why}", path.display())) }
        .fact("nothing was written; rename it, or put a dot before its name to leave it out")
}
