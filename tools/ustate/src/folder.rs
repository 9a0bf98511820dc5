//! The files of a folder, as keys.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use univrs_state::key::{RESERVED_PREFIX, validate_key};

use crate::stop::{Done, Failure, fail};
use crate::value::{count, counted};

/// The most files that are looked at: links can make many of a few.
const MOST: usize = 1_000_000;

/// Regular files, and what was passed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Folder {
    /// In the order of keys.
    pub(crate) files: Vec<FolderFile>,
    pub(crate) dot_files: u64,
    /// Pipes, sockets and devices.
    pub(crate) others: u64,
}

/// A file that becomes a key.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FolderFile {
    pub(crate) key: String,
    /// Without links, if it was reached by one.
    pub(crate) path: PathBuf,
    /// What changes with the file: the device, the number, the size, and when it was changed.
    identity: [i128; 4],
}

/// A folder that is still to be looked at.
struct Due {
    path: PathBuf,
    prefix: String,
    /// The folders that it is in, itself among them; without links.
    within: Vec<PathBuf>,
}

impl Folder {
    /// Looks at all of a folder; a key is `prefix`, which ends in `/`, and the path below it. Links are followed
    /// as long as they stay in the folder.
    pub(crate) fn read(folder: &Path, prefix: &str) -> Done<Self> {
        let mut read = Self::default();
        let cannot = |error| Failure::io(&format!("cannot read {}", folder.display()), &error);
        let root = folder.canonicalize().map_err(cannot)?;
        let mut due =
            vec![Due { path: folder.to_owned(), prefix: prefix.to_owned(), within: vec![root.clone()] }];
        while let Some(Due { path: folder, prefix, within }) = due.pop() {
            let cannot = |error| Failure::io(&format!("cannot read {}", folder.display()), &error);
            let entries = fs::read_dir(&folder).map_err(cannot)?;
            let mut entries: Vec<_> = entries.collect::<io::Result<_>>().map_err(cannot)?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    read.dot_files += 1;
                    continue;
                }
                let named = entry.path();
                let is_link = entry.file_type().map_err(cannot)?.is_symlink();
                let path = if is_link { inside(&root, &named)? } else { named.clone() };
                let found = fs::symlink_metadata(&path).map_err(cannot)?;
                if found.is_dir() {
                    let name = name(&entry)?;
                    let target = path.canonicalize().map_err(cannot)?;
                    if within.contains(&target) {
                        let what = format!("{} leads back to a folder that it is in", named.display());
                        return fail(no_file(what));
                    }
                    let within = within.iter().cloned().chain([target]).collect();
                    due.push(Due { path: named, prefix: format!("{prefix}{name}/"), within });
                } else if found.is_file() {
                    let key = format!("{prefix}{}", name(&entry)?);
                    validate_key(&key).map_err(|error| no_key(&named, &error.to_string()))?;
                    if key.starts_with(RESERVED_PREFIX) {
                        let why = format!("keys below {RESERVED_PREFIX} belong to the store");
                        return fail(no_key(&named, &why));
                    }
                    read.files.push(FolderFile { key, path, identity: identity(&found) });
                } else {
                    read.others += 1;
                }
            }
            if read.files.len() + due.len() > MOST {
                let what = format!("more than {} files are in {}", count(MOST as u64), root.display());
                return fail(no_file(what));
            }
        }
        read.files.sort();
        Ok(read)
    }

    /// What was passed over, in words; none if nothing was.
    pub(crate) fn left_out(&self) -> Option<String> {
        let counts = [(self.dot_files, "dot file"), (self.others, "special file")];
        let counts: Vec<String> = counts
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, noun)| counted(number, noun))
            .collect();
        (!counts.is_empty()).then(|| format!("left out: {}", counts.join(", ")))
    }
}

/// Where a link leads, without further links.
fn inside(root: &Path, link: &Path) -> Done<PathBuf> {
    let target = link
        .canonicalize()
        .map_err(|error| no_file(format!("the link {} leads nowhere: {error}", link.display())))?;
    if !target.starts_with(root) {
        return fail(no_file(format!("the link {} leads out of the folder", link.display())));
    }
    Ok(target)
}

#[cfg(unix)]
fn identity(found: &fs::Metadata) -> [i128; 4] {
    use std::os::unix::fs::MetadataExt;
    let at = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let changed = at(found.mtime(), found.mtime_nsec()).max(at(found.ctime(), found.ctime_nsec()));
    [found.dev().into(), found.ino().into(), found.len().into(), changed]
}

#[cfg(not(unix))]
fn identity(found: &fs::Metadata) -> [i128; 4] {
    let changed = found.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let changed = changed.and_then(|since| since.as_nanos().try_into().ok()).unwrap_or(0);
    [0, 0, found.len().into(), changed]
}

fn no_file(what: String) -> Failure {
    Failure::usage(what).fact("nothing was written; put a dot before its name to leave it out")
}

fn name(entry: &fs::DirEntry) -> Done<String> {
    let named = entry.file_name().into_string();
    Ok(named.map_err(|_| no_key(&entry.path(), "its name is not UTF-8"))?)
}

fn no_key(path: &Path, why: &str) -> Failure {
    Failure { code: "invalid_key", ..Failure::usage(format!("{} makes no key: {why}", path.display())) }
        .fact("nothing was written; rename it, or put a dot before its name to leave it out")
}
