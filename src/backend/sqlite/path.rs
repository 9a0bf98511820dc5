//! Which paths a store may have.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::config::SideFile;
use super::ffi::Look;
use super::slot::Stamp;
use crate::backend::folder;
use crate::error::{Result, StateError};

/// Bytes of the smallest database. SQLite takes a file of one byte for an empty one, and would
/// write over it.
const SMALLEST: u64 = 512;

/// Bytes of the longest path that SQLite takes: its own limit of 512, less the name of a journal.
const LONGEST_PATH: usize = 504;

/// The absolute path of a store's file, with symbolic links in its folder resolved. Whatever exists there,
/// and beside it, must be a regular file, but for the head file where nothing is made: reads need none, and writes look
/// at what they open. With `create`, a missing folder is made.
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
        folder::make(folder)?;
    }
    let folder =
        folder.canonicalize().map_err(|error| StateError::at_path(folder, "cannot be entered", error))?;
    let file = folder.join(name);
    check_length(&file)?;
    exists_as_file(&file, "open the file that it points to")?;
    if fs::symlink_metadata(&file).is_ok_and(|found| (1..SMALLEST).contains(&found.len())) {
        return Err(StateError::cannot_open(&file, "is not a database"));
    }
    for side in SideFile::ALL.into_iter().filter(|side| create || *side != SideFile::Head) {
        exists_as_file(&side.beside(&file), "remove it")?;
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
    Ok(found(file)?.is_none_or(|found| found.len() == 0))
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

/// Looks at the file at a path; `None` if there is none, or nobody can be asked on this system.
///
/// IMPORTANT: an error says nothing of the file. A folder that may not be entered for a moment, or a disk that does not
/// answer, does not mean that the file is gone.
pub(super) fn look(path: &Path) -> io::Result<Option<Look>> {
    // This one does not ask for times, which would make each sync write the inode, too.
    #[cfg(target_os = "linux")]
    if let Some(found) = super::ffi::look(path) {
        return Ok(Some(found));
    }
    plain_look(path)
}

#[cfg(unix)]
fn plain_look(path: &Path) -> io::Result<Option<Look>> {
    use std::os::unix::fs::MetadataExt;
    let found = found(path)?;
    Ok(found.map(|found| Look { number: (found.dev(), found.ino()), names: found.nlink(), is_mount: false }))
}

#[cfg(not(unix))]
fn plain_look(_: &Path) -> io::Result<Option<Look>> {
    Ok(None)
}

/// What the system says of the file at a path; `None` if there is none.
pub(super) fn found(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The device and the inode number of the file at a path. A file that replaces it has another number. On a
/// system without such numbers, a replaced file is not noticed.
pub(super) fn identity(path: &Path) -> io::Result<Option<(u64, u64)>> {
    Ok(look(path)?.map(|found| found.number))
}

/// Why no store may be written at this path: the file has another name, or its name is mounted over it. `None` if
/// it has one name.
///
/// IMPORTANT: SQLite finds the write-ahead log and its locks by the name of the database. Under two names, a file
/// has two logs, and each overwrites what was acknowledged into the other.
pub(super) fn second_name(file: &Path) -> io::Result<Option<String>> {
    let Some(found) = look(file)? else { return Ok(None) };
    if found.names > 1 {
        return Ok(Some(format!(
            "has {} names (hard links), and each would get a write-ahead log of its own, so that commits would be \
             lost: remove the other names, which `find / -xdev -inum {}` shows, or open a copy of the file",
            found.names, found.number.1
        )));
    }
    Ok(found.is_mount.then(|| {
        "is mounted as a single file, so that its write-ahead log would not be the one that others use, and commits \
         would be lost: mount the folder that holds it"
            .to_owned()
    }))
}

/// Gives a file the permissions, and as far as this user may the owner and the group, of the file at a path. Does
/// nothing if there is none, or if they are equal.
///
/// SQLite does the same with the files that it makes beside a database. Only root may give a file to
/// another owner; whoever else fails leaves it as it is.
pub(super) fn take_after(file: &File, model: &Path) -> io::Result<()> {
    let Some(model) = found(model)? else { return Ok(()) };
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
        let own = file.metadata()?;
        if own.uid() != model.uid() {
            let _ = fchown(file, Some(model.uid()), None);
        }
        if own.gid() != model.gid() {
            let _ = fchown(file, None, Some(model.gid()));
        }
        let mode = model.permissions().mode() & 0o777;
        if own.permissions().mode() & 0o777 != mode {
            let _ = file.set_permissions(fs::Permissions::from_mode(mode));
        }
    }
    #[cfg(not(unix))]
    let _ = (file, model);
    Ok(())
}

/// The size of the file at a path, and when it was last changed; `None` if that cannot be asked.
///
/// Where times are as coarse as the ticks of the system, two states of a file within one tick have the same
/// stamp. A copy of one of them would have to be made between two checkpoints of the same tick.
pub(super) fn stamp(file: &Path) -> Option<Stamp> {
    let found = fs::symlink_metadata(file).ok()?;
    let (since, sign) = match found.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => (since, 1),
        Err(before) => (before.duration(), -1),
    };
    let seconds = i64::try_from(since.as_secs()).ok()?.saturating_mul(sign);
    Some(Stamp { bytes: found.len(), seconds, nanos: since.subsec_nanos() })
}

/// The URL that opens a file as immutable. Every byte but letters, digits and the plainest marks is escaped.
pub(super) fn immutable_url(file: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/.-_".contains(byte);
    let escape = |byte: &u8| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    let url: String = file.as_os_str().as_encoded_bytes().iter().map(escape).collect();
    format!("file:{url}?immutable=1")
}

/// Whether a regular file exists at the path; anything else there is an error. `advice` says what to do about a link.
fn exists_as_file(path: &Path, advice: &str) -> Result<bool> {
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
        Err(StateError::cannot_open(path, format!("is a symbolic link; {advice}")))
    } else {
        Err(StateError::cannot_open(path, "is not a regular file"))
    }
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
            assert!(look(path).unwrap().is_some());
            assert_eq!(look(path).unwrap(), plain_look(path).unwrap());
        }
        let number = |path| identity(path).unwrap();
        assert!(number(&file) != number(&other) && number(&file) != number(&link));
        fs::rename(&other, &file).unwrap();
        assert_eq!(look(&file).unwrap(), plain_look(&file).unwrap());
        assert_eq!((look(&other).unwrap(), look(&file.join("below a file")).unwrap()), (None, None));
        let null = Path::new("/dev/null");
        assert_eq!(look(null).unwrap().unwrap().number, plain_look(null).unwrap().unwrap().number);
        fs::hard_link(&file, &other).unwrap();
        assert_eq!(look(&file).unwrap().unwrap().names, 2);
        assert_eq!(look(&other).unwrap(), plain_look(&file).unwrap());
        std::os::unix::fs::symlink("circle", folder.path().join("circle")).unwrap();
        look(&folder.path().join("circle/a")).unwrap_err();
    }
}
