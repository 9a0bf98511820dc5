//! A watch's place, kept in a file: replaced as a whole, and on disk before it counts.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use univrs_state::Cursor;

use crate::stop::{Done, Exit, Failure, fail};

/// The file and what it holds.
pub(crate) struct CursorFile {
    /// As it was named.
    path: PathBuf,
    /// What is replaced: where a link leads.
    target: PathBuf,
    saved: Option<Cursor>,
}

impl CursorFile {
    /// Reads the file; it may be missing, but not hold anything else.
    pub(crate) fn open(path: &Path) -> Done<Self> {
        // Looked at first: opening a named pipe would wait for a writer.
        if path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            let what = format!("{} is not a regular file", path.display());
            return fail(Failure::new(Exit::Usage, "invalid_argument", what));
        }
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path: path.to_owned(), target: path.to_owned(), saved: None });
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return fail(no_cursor(path)),
            Err(error) => return fail(Failure::io(&format!("cannot read {}", path.display()), &error)),
        };
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        match text.strip_suffix('\n').unwrap_or(&text).parse() {
            Ok(cursor) => Ok(Self { path: path.to_owned(), target, saved: Some(cursor) }),
            Err(_) => fail(no_cursor(path)),
        }
    }

    pub(crate) fn saved(&self) -> Option<Cursor> {
        self.saved
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file hold the cursor: written beside it, synced, renamed, the folder synced.
    pub(crate) fn save(&mut self, cursor: Cursor) -> Done {
        if self.saved == Some(cursor) {
            return Ok(());
        }
        self.replace(cursor)
            .map_err(|error| Failure::io(&format!("cannot write {}", self.path.display()), &error))?;
        self.saved = Some(cursor);
        Ok(())
    }

    fn replace(&self, cursor: Cursor) -> io::Result<()> {
        let folder = match self.target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Looked at first: its error is plainer than that of a name nobody gave.
        fs::metadata(folder)?;
        let mut file = tempfile::Builder::new().prefix(".ustate-cursor-").tempfile_in(folder)?;
        writeln!(file, "{cursor}")?;
        file.as_file().sync_all()?;
        file.persist(&self.target).map_err(|error| error.error)?;
        sync_folder(folder)
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps)]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

fn no_cursor(path: &Path) -> Failure {
    Failure::new(Exit::Usage, "invalid_argument", format!("{} does not hold a cursor", path.display()))
        .fact("it was left as it is; remove it to start anew")
}
