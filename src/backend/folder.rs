//! Folders, and names of files in them, that survive the loss of power. Whatever makes a file uses this.
//!
//! A file system may keep a new name in memory only, until the folder is synced: the file is synced, and after a
//! loss of power nobody finds it. The same holds for a new folder, whose name is in the folder above.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Result, StateError};
use crate::failpoint::failpoint;

/// What is wrong with a part of a path that should lead on.
const NO_FOLDER: &str = "is not a directory, but a store is to be in it";

/// Why a folder cannot be synced, where that is no failure.
pub(crate) const CANNOT_SYNC: [io::ErrorKind; 3] =
    [io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported];

/// Makes a folder and the folders above it, as far as they are missing, and syncs the name of each. Returns the
/// folders that it made, the innermost first. The error names the part of the path that is no directory or
/// cannot be made.
pub(crate) fn make(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| StateError::at_path(folder, "cannot be created", error);
    if is_folder(folder)? {
        return Ok(Vec::new());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    let mut made = above.map_or_else(|| Ok(Vec::new()), make)?;
    match fs::create_dir(folder) {
        Ok(()) => made.insert(0, folder.to_owned()),
        // Another process may have made it meanwhile.
        Err(error) if !is_folder(folder)? => {
            for made in &made {
                let _ = fs::remove_dir(made);
            }
            return Err(failed(error));
        }
        Err(_) => {}
    }
    sync_name(folder).map_err(failed)?;
    Ok(made)
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

/// Syncs the name of a file, or of a folder: both are in the folder that holds them.
pub(crate) fn sync_name(path: &Path) -> io::Result<()> {
    sync(holding(path))
}

/// The folder that holds what is at a path.
fn holding(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs the name of a file, and of all folders above it.
///
/// IMPORTANT: a folder that is found may have been made just now by another process, which has not synced it
/// yet. Nothing may be acknowledged in it before somebody has. Folders above that this user may not read were
/// not made by a program of this user, and end the walk.
pub(crate) fn sync_path(path: &Path) -> io::Result<()> {
    sync_name(path)?;
    if failpoint("folders_above_not_synced") {
        return Ok(());
    }
    // As the folder may be a link, its own name is in the folder above the one that it leads to.
    let folder = match holding(path).canonicalize() {
        Err(error) if ends_walk(&error) => return Ok(()),
        folder => folder?,
    };
    sync_all(folder.ancestors().skip(1), sync)
}

/// Syncs folders, from the inner one to the outer ones, until one of them was not made by this user.
fn sync_all<'a>(
    folders: impl Iterator<Item = &'a Path>,
    mut sync: impl FnMut(&Path) -> io::Result<()>,
) -> io::Result<()> {
    for folder in folders {
        match sync(folder) {
            Err(error) if ends_walk(&error) => break,
            synced => synced?,
        }
    }
    Ok(())
}

/// Whether a folder cannot be synced by this user or on this file system, or was removed. Any other error may mean that
/// the disk has lost the name of a folder, and nothing may be acknowledged below it.
fn ends_walk(error: &io::Error) -> bool {
    CANNOT_SYNC.contains(&error.kind()) || error.kind() == io::ErrorKind::NotFound
}

#[cfg(unix)]
fn sync(folder: &Path) -> io::Result<()> {
    if failpoint("folder_not_synced") {
        return Ok(());
    }
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Gives a synced file its final name in the same folder, and syncs the name. A file that is there already is not replaced: the
/// error is of kind `AlreadyExists`.
///
/// IMPORTANT: not by a second name and the removal of the first one. A crash in between would leave a file with
/// two names, and a store with two names is refused.
pub(crate) fn publish(from: &Path, to: &Path) -> io::Result<()> {
    // IMPORTANT: before it has the name. Whoever finds the file then syncs no more than its own name.
    sync_path(to)?;
    match rename_new(from, to) {
        Err(error) if is_unknown(&error) => rename_onto_claim(from, to)?,
        renamed => renamed?,
    }
    sync_name(to)
}

/// Whether the system or the file system has no such operation.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Renames a file to a name that is free; an error of kind `AlreadyExists` if it is not.
#[cfg(all(feature = "sqlite", target_os = "linux"))]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    super::sqlite::rename_new(from, to)
}

#[cfg(not(all(feature = "sqlite", target_os = "linux")))]
fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Takes the name by an empty file that must be new, and renames the file over it. A crash in between leaves
/// the empty file.
fn rename_onto_claim(from: &Path, to: &Path) -> io::Result<()> {
    let claim = File::create_new(to)?;
    rename_onto_empty(from, to, &claim).inspect_err(|error| {
        // IMPORTANT: if another process has renamed its file over the claim, that file has the name and stays.
        if error.kind() != io::ErrorKind::AlreadyExists {
            let _ = fs::remove_file(to);
        }
    })
}

/// Renames a file over an empty one that has the name now.
///
/// IMPORTANT: an empty file may be the claim of another process, which is about to rename its own file over it. Only who
/// has it locked may do so. If somebody else has, or has renamed already, the error is of kind `AlreadyExists`.
pub(crate) fn rename_onto_empty(from: &Path, to: &Path, empty: &File) -> io::Result<()> {
    // A file system without locks cannot say that somebody else has it.
    let is_taken = matches!(empty.try_lock(), Err(TryLockError::WouldBlock));
    let is_own = !is_taken && is_at(empty, to)? && empty.metadata()?.len() == 0;
    if is_own { fs::rename(from, to) } else { Err(io::ErrorKind::AlreadyExists.into()) }
}

/// Whether an open file is the one at a path.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// On a system where an open file can be neither renamed nor removed, it is still there.
#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_were_made_are_told_and_those_that_were_there_are_not() {
        let root = tempfile::tempdir().unwrap();
        let (a, c) = (root.path().join("a"), root.path().join("a/b/c"));
        fs::create_dir(&a).unwrap();
        assert_eq!(make(&c), Ok(vec![c.clone(), a.join("b")]));
        assert_eq!(make(&c), Ok(Vec::new()));
    }

    #[test]
    fn a_folder_above_that_the_disk_cannot_sync_is_an_error_and_one_of_another_user_ends_the_walk() {
        let folders = ["/a/b", "/a", "/"];
        let walk = |kind: io::ErrorKind| {
            let mut synced = Vec::new();
            let ended = sync_all(folders.iter().map(Path::new), |folder| {
                synced.push(folder.to_owned());
                if folder == Path::new("/a") { Err(kind.into()) } else { Ok(()) }
            });
            (ended.map_err(|error| error.kind()), synced.len())
        };
        for ends in CANNOT_SYNC.into_iter().chain([io::ErrorKind::NotFound]) {
            assert_eq!(walk(ends), (Ok(()), 2));
        }
        for lost in [io::ErrorKind::StorageFull, io::ErrorKind::Other, io::ErrorKind::QuotaExceeded] {
            assert_eq!(walk(lost), (Err(lost), 2));
        }
    }

    #[test]
    fn of_two_who_take_one_name_the_second_one_finds_it_taken_and_removes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let [one, other, file] = ["one", "other", "file"].map(|name| root.path().join(name));
        fs::write(&one, b"one").unwrap();
        fs::write(&other, b"other").unwrap();
        let claim = File::create_new(&file).unwrap();
        // The second one finds the empty claim, and is the first to rename over it.
        let found = File::open(&file).unwrap();
        rename_onto_empty(&other, &file, &found).unwrap();
        let late = rename_onto_empty(&one, &file, &claim).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&file).unwrap(), one.exists()), (b"other".to_vec(), true));
        // While the claim is locked, nobody else renames over it.
        fs::remove_file(&file).unwrap();
        fs::write(&other, b"other").unwrap();
        let claim = File::create_new(&file).unwrap();
        claim.try_lock().unwrap();
        let early = rename_onto_empty(&other, &file, &File::open(&file).unwrap()).unwrap_err();
        assert_eq!((early.kind(), fs::read(&file).unwrap()), (io::ErrorKind::AlreadyExists, Vec::new()));
    }

    #[test]
    fn a_file_is_published_once_and_has_one_name_then() {
        for publish in [publish, rename_onto_claim] {
            let root = tempfile::tempdir().unwrap();
            let (draft, file) = (root.path().join("draft"), root.path().join("file"));
            fs::write(&draft, b"ours").unwrap();
            publish(&draft, &file).unwrap();
            assert_eq!((fs::read(&file).unwrap(), draft.exists()), (b"ours".to_vec(), false));
            #[cfg(unix)]
            assert_eq!(std::os::unix::fs::MetadataExt::nlink(&fs::metadata(&file).unwrap()), 1);
            fs::write(&draft, b"late").unwrap();
            assert_eq!(publish(&draft, &file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&file).unwrap(), b"ours");
        }
    }
}
