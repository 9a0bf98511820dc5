//! Opening the files beside a database that SQLite does not open itself.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Opens a file beside a database, and makes it with this user's permissions alone if the options say so. To be
/// written, it must be a regular file with one name; a link is not followed.
///
/// IMPORTANT: the paths were looked at when the store was opened, which may be minutes ago. Meanwhile whoever may write
/// the folder can have put a link in the place of the file. Root would then write into any file that this user
/// chooses, and would give it to the owner of the database. So it is the open file that is looked at.
pub(super) fn open(path: &Path, options: &mut OpenOptions, write: bool) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Opening a FIFO would wait for its other end.
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }
    let file = options.open(path).map_err(refuse_link)?;
    if write {
        check(&file)?;
    }
    Ok(file)
}

/// Names the cause of what the system says of a link that is not followed. Systems differ in that.
#[cfg(unix)]
fn refuse_link(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ELOOP | libc::EMLINK) => refusal("it is a symbolic link: remove it".to_owned()),
        _ => error,
    }
}

#[cfg(not(unix))]
fn refuse_link(error: io::Error) -> io::Error {
    error
}

/// Refuses what this library has not made there.
fn check(file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(refusal("it is not a regular file: remove it, or move it away".to_owned()));
    }
    #[cfg(unix)]
    {
        // A file that was removed meanwhile has none.
        let names = std::os::unix::fs::MetadataExt::nlink(&found);
        if names > 1 {
            return Err(refusal(format!(
                "it has {names} names (hard links): remove this one, or the others"
            )));
        }
    }
    Ok(())
}

fn refusal(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::creation::{NewFile, NewFileOnDisk};
    use super::super::head_file::HeadOnDisk;
    use super::*;

    /// Puts something in the place of a file beside a database, after the paths were looked at.
    type Put = fn(&Path, &Path);

    const LINKS: [(&str, Put); 3] = [
        ("symbolic link", |place, victim| symlink(victim, place).unwrap()),
        ("symbolic link", |place, victim| symlink(victim.with_extension("missing"), place).unwrap()),
        ("2 names", |place, victim| fs::hard_link(victim, place).unwrap()),
    ];

    /// Opens both files for writing, each with a link in its place, and checks that nothing happens to what it leads to.
    fn refused(open: fn(&Path) -> io::Result<()>, suffix: &str) {
        for (named, put) in LINKS {
            let folder = tempfile::tempdir().unwrap();
            let (file, victim) = (folder.path().join("state.db"), folder.path().join("victim"));
            fs::write(&file, b"").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&victim, b"theirs").unwrap();
            fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
            put(&folder.path().join(format!("state.db{suffix}")), &victim);
            let error = open(&file).unwrap_err();
            assert!(error.to_string().contains(named), "{suffix}: {error}");
            assert_eq!(fs::read(&victim).unwrap(), b"theirs");
            assert_eq!(fs::metadata(&victim).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(!victim.with_extension("missing").exists(), "nothing is made through a link");
        }
    }

    #[test]
    fn a_link_that_was_put_in_the_place_of_the_head_file_leads_to_nothing_that_is_changed() {
        let open = |file: &Path| {
            let head = file.with_extension("db-head");
            HeadOnDisk::open(&head, file, true).map(drop)
        };
        refused(open, "-head");
    }

    #[test]
    fn a_link_that_was_put_in_the_place_of_a_draft_leads_to_nothing_that_is_changed() {
        let open = |file: &Path| {
            let mut draft = NewFileOnDisk::new(file.to_owned());
            draft.take()?;
            draft.write(b"ours")
        };
        refused(open, "-new");
    }
}
