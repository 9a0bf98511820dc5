//! Which paths a store may have.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::config::SideFile;
use crate::error::{Result, StateError};

/// Bytes of the smallest database. SQLite takes a file of one byte for an empty one, and would
/// write over it.
const SMALLEST: u64 = 512;

/// Bytes of the longest path that SQLite takes: its own limit of 512, less the name of a journal.
const LONGEST_PATH: usize = 504;

/// What is wrong with a part of a path that should lead on.
const NO_FOLDER: &str = "is not a directory, but a store is to be in it";

/// The absolute path of a store's file, with symbolic links in its folder resolved. Whatever exists there,
/// and beside it, must be a regular file. With `create`, a missing folder is made.
///
/// SQLite takes a path that begins with `file:` for a URL. It never takes an absolute path for one.
pub(super) fn prepare(path: &Path, create: bool) -> Result<PathBuf> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(StateError::cannot_open(path, "is not a path: it is empty, or has a NUL byte"));
    }
    StateError::check_names_file(path, "a store")?;
    let absolute = std::path::absolute(path)
        .map_err(|error| StateError::at_path(path, "cannot be made absolute", error))?;
    let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(StateError::cannot_open(path, "is a directory, but a store is a file"));
    };
    check_length(&absolute)?;
    if create {
        create_folder(folder)?;
    }
    let folder =
        folder.canonicalize().map_err(|error| StateError::at_path(folder, "cannot be entered", error))?;
    let file = folder.join(name);
    check_length(&file)?;
    exists_as_file(&file)?;
    if fs::symlink_metadata(&file).is_ok_and(|found| (1..SMALLEST).contains(&found.len())) {
        return Err(StateError::cannot_open(&file, "is not a database"));
    }
    for side in SideFile::ALL {
        exists_as_file(&side.beside(&file))?;
    }
    Ok(file)
}

fn check_length(absolute: &Path) -> Result<()> {
    let bytes = absolute.as_os_str().len();
    if bytes <= LONGEST_PATH {
        return Ok(());
    }
    let why = format!(
        "has a path of {bytes} bytes, but SQLite allows at most {LONGEST_PATH}: choose a shorter path"
    );
    Err(StateError::cannot_open(absolute, why))
}

/// Whether the path does not exist, or names an empty file.
pub(super) fn is_vacant(file: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(file) {
        Ok(found) => Ok(found.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether a rollback journal holds what must be undone before the database can be read. One that is empty, or whose
/// first byte is zero, is left over: SQLite ends a transaction in that way in the journal modes TRUNCATE and PERSIST.
/// A journal that cannot be read may hold something.
pub(super) fn is_hot(journal: &Path) -> bool {
    // No locks are lost by closing it: SQLite locks the database and the index of the log alone.
    let first = File::open(journal).and_then(|mut file| {
        let mut first = [0];
        file.read(&mut first).map(|read| read > 0 && first != [0])
    });
    first.unwrap_or_else(|error| error.kind() != io::ErrorKind::NotFound)
}

/// The device and the inode number of the file at a path. A file that replaces it has another number.
#[cfg(target_os = "linux")]
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    // `file_number` does not ask for times, which would make each sync write the inode, too.
    super::ffi::file_number(path).or_else(|| numbers(path))
}

/// The device and the inode number of the file at a path. A file that replaces it has another number.
#[cfg(all(unix, not(target_os = "linux")))]
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    numbers(path)
}

#[cfg(unix)]
fn numbers(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// On a system without inode numbers, a replaced file is not noticed.
#[cfg(not(unix))]
pub(super) fn identity(_: &Path) -> Option<(u64, u64)> {
    None
}

/// The URL that opens a file as immutable. Every byte but letters, digits and the plainest marks is escaped.
pub(super) fn immutable_url(file: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/.-_".contains(byte);
    let escape = |byte: &u8| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    let url: String = file.as_os_str().as_encoded_bytes().iter().map(escape).collect();
    format!("file:{url}?immutable=1")
}

/// Whether a regular file exists at the path; anything else there is an error.
fn exists_as_file(path: &Path) -> Result<bool> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StateError::at_path(path, "cannot be looked at", error)),
    };
    if kind.is_file() {
        Ok(true)
    } else if kind.is_dir() {
        Err(StateError::cannot_open(path, "is a directory, but a store is a file"))
    } else if kind.is_symlink() {
        Err(StateError::cannot_open(path, "is a symbolic link; open the file that it points to"))
    } else {
        Err(StateError::cannot_open(path, "is not a regular file"))
    }
}

/// Makes a folder and its missing parents, and syncs each parent. The error names the part of the path that
/// is no directory or cannot be made.
fn create_folder(folder: &Path) -> Result<()> {
    let failed = |error| StateError::at_path(folder, "cannot be created", error);
    if is_folder(folder)? {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        create_folder(above)?;
    }
    match fs::create_dir(folder) {
        // Another process may have made it meanwhile.
        Err(error) if !is_folder(folder)? => Err(failed(error)),
        _ => folder.parent().map_or(Ok(()), sync_folder).map_err(failed),
    }
}

/// Whether a directory exists at the path. Anything else there is an error, and so is what hides it.
fn is_folder(path: &Path) -> Result<bool> {
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(true),
        Ok(_) => Err(StateError::cannot_open(path, NO_FOLDER)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => match path.parent() {
            // The part that is none is named.
            Some(above) if error.kind() == io::ErrorKind::NotADirectory => is_folder(above),
            _ => Err(StateError::at_path(path, "cannot be entered", error)),
        },
        Err(_) if path.is_symlink() => {
            Err(StateError::cannot_open(path, "is a symbolic link to nothing, but a store is in a directory"))
        }
        Err(_) => Ok(false),
    }
}

#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_identity_whoever_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other, link) =
            (folder.path().join("a"), folder.path().join("ü b"), folder.path().join("link"));
        fs::write(&file, "1").unwrap();
        fs::write(&other, "1").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &other, &link] {
            assert!(identity(path).is_some());
            assert_eq!(identity(path), numbers(path));
        }
        assert!(identity(&file) != identity(&other) && identity(&file) != identity(&link));
        fs::rename(&other, &file).unwrap();
        assert_eq!((identity(&file), identity(&other)), (numbers(&file), None));
        assert_eq!(identity(Path::new("/dev/null")), numbers(Path::new("/dev/null")));
    }
}
