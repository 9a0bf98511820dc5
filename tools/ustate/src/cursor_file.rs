//! A watch's place, kept in a file: replaced as a whole, on disk before it counts, and held by one watch at a time.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use univrs_state::Cursor;

use crate::context::{quoted, quoted_text};
use crate::stop::{Done, Exit, Failure, fail};

/// How often the file is replaced at most: each time waits for the disk.
const EVERY: Duration = Duration::from_millis(200);
/// The largest file; a larger one holds something else.
const MOST: usize = 1 << 20;
/// How often a file is opened that is replaced meanwhile.
const TRIES: usize = 100;

/// The file and what it holds.
pub(crate) struct CursorFile {
    /// As it was named.
    path: PathBuf,
    /// What is replaced: where links lead.
    target: PathBuf,
    /// The patterns of the watch.
    patterns: Vec<String>,
    /// Locked, as long as this is open: the file itself, or before the first save the one that becomes it.
    held: File,
    is_new: bool,
    saved: Option<Cursor>,
    /// Whether it says the patterns, too.
    is_whole: bool,
    /// What is still to be saved.
    due: Option<Cursor>,
    saved_at: Option<Instant>,
}

impl CursorFile {
    /// Reads the file and locks it; it may be missing, but not hold anything else, nor the place of a watch of other
    /// patterns.
    pub(crate) fn open(path: &Path, patterns: &[String]) -> Done<Self> {
        // Looked at first: opening a named pipe would wait for a writer.
        if path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            let what = format!("{} is not a regular file", path.display());
            return fail(Failure::new(Exit::Usage, "invalid_argument", what));
        }
        let mut patterns = patterns.to_vec();
        patterns.sort_unstable();
        patterns.dedup();
        if patterns.iter().map(|pattern| pattern.len() + 16).sum::<usize>() > MOST / 2 {
            return fail(Failure::usage("these are too many patterns for a cursor file"));
        }
        let cannot_read = |error| Failure::io(&format!("cannot read {}", path.display()), &error);
        let target = followed(path).map_err(cannot_read)?;
        for _ in 0..TRIES {
            let (held, is_new) = match File::open(&target) {
                Ok(file) => (file, false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let new = open_new(&target, false);
                    (new.map_err(|error| cannot_write(path, &error))?, true)
                }
                Err(error) => return fail(cannot_read(error)),
            };
            match held.try_lock() {
                Err(TryLockError::WouldBlock) => return fail(in_use(path, holder(&held))),
                // Where there are no locks, nobody can be kept out.
                Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => {
                    return fail(Failure::io(&format!("cannot lock {}", path.display()), &error));
                }
                _ => {}
            }
            // Another watch may have replaced it between opening and locking, or made it.
            let place = if is_new { new_beside(&target) } else { target.clone() };
            if !is_at(&held, &place) || (is_new && target.symlink_metadata().is_ok()) {
                continue;
            }
            let held_by = Self {
                path: path.to_owned(),
                target,
                patterns,
                held,
                is_new,
                saved: None,
                is_whole: false,
                due: None,
                saved_at: None,
            };
            return if is_new { Ok(held_by) } else { held_by.read() };
        }
        fail(in_use(path, None))
    }

    /// With what the file holds.
    fn read(mut self) -> Done<Self> {
        let text = read_text(&self.held)
            .map_err(|error| Failure::io(&format!("cannot read {}", self.path.display()), &error))?;
        let Some(kept) = text.as_deref().and_then(Kept::parse) else {
            let what = format!("{} does not hold a cursor", self.path.display());
            let failure = Failure::new(Exit::Usage, "invalid_argument", what);
            return fail(failure.fact("it was left as it is; remove it to start anew"));
        };
        // A file of an earlier release has no patterns.
        if !kept.patterns.is_empty() && kept.patterns != self.patterns {
            return fail(self.of_others(&kept));
        }
        (self.saved, self.is_whole) = (Some(kept.cursor), !kept.patterns.is_empty());
        Ok(self)
    }

    fn of_others(&self, kept: &Kept) -> Failure {
        let list = |patterns: &[String]| patterns.join(" ");
        let what = format!("{} keeps the place of a watch of {}", self.path.display(), list(&kept.patterns));
        let mut name = self.path.file_stem().unwrap_or_default().to_owned();
        name.push("-2");
        let other = self.path.with_file_name(name).with_extension(self.path.extension().unwrap_or_default());
        let words: Vec<String> = self.patterns.iter().map(|pattern| quoted_text(pattern)).collect();
        Failure::new(Exit::Usage, "other_pattern", what)
            .fact(format!("with {} it would pass over what was not watched until then", list(&self.patterns)))
            .fact("take another file; --after says where that begins")
            .hint(format!(
                "ustate watch {} --cursor-file {} --after {}",
                words.join(" "),
                quoted(&other),
                kept.cursor
            ))
    }

    pub(crate) fn saved(&self) -> Option<Cursor> {
        self.saved
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Everything up to the cursor has been delivered: the file may say so.
    pub(crate) fn advance(&mut self, cursor: Cursor) {
        self.due = (self.saved != Some(cursor) || !self.is_whole).then_some(cursor);
    }

    /// Saves the place if the last time is long enough ago.
    pub(crate) fn save_at_times(&mut self) -> Done {
        if self.due.is_some() && self.saved_at.is_none_or(|at| at.elapsed() >= EVERY) {
            return self.save();
        }
        Ok(())
    }

    /// Saves the place where it has changed.
    pub(crate) fn save(&mut self) -> Done {
        self.due.map_or(Ok(()), |cursor| self.hold(cursor))
    }

    /// Makes the file hold the cursor: written beside it, synced, renamed, the folder synced.
    pub(crate) fn hold(&mut self, cursor: Cursor) -> Done {
        if !self.is_new && !is_at(&self.held, &self.target) {
            let what = format!("{} was removed or replaced while this watch used it", self.path.display());
            let failure = Failure::new(Exit::Io, "replaced", what);
            return fail(failure.fact("it was left as it is; nothing was saved since"));
        }
        self.replace(cursor).map_err(|error| cannot_write(&self.path, &error))?;
        (self.saved, self.due, self.saved_at) = (Some(cursor), None, Some(Instant::now()));
        self.is_whole = true;
        Ok(())
    }

    fn replace(&mut self, cursor: Cursor) -> io::Result<()> {
        let another = if self.is_new { None } else { Some(new_and_locked(&self.target)?) };
        let mut new = another.as_ref().unwrap_or(&self.held);
        if another.is_some() {
            keep_access(&self.held, new)?;
        }
        // A killed watch may have left something in it.
        new.set_len(0)?;
        let patterns = self.patterns.iter().fold(String::new(), |lines, one| lines + "pattern " + one + "\n");
        new.write_all(format!("{cursor}\n{patterns}").as_bytes())?;
        new.sync_all()?;
        fs::rename(new_beside(&self.target), &self.target)?;
        self.is_new = false;
        if let Some(new) = another {
            // Only now: until then the old one kept others out.
            self.held = new;
        }
        sync_folder(folder(&self.target))
    }
}

impl Drop for CursorFile {
    /// Nothing is left of a watch that never had a place.
    fn drop(&mut self) {
        let new = new_beside(&self.target);
        if self.is_new && is_at(&self.held, &new) {
            drop(fs::remove_file(new));
        }
    }
}

/// What a file holds.
struct Kept {
    cursor: Cursor,
    patterns: Vec<String>,
}

impl Kept {
    fn parse(text: &str) -> Option<Self> {
        let (cursor, rest) = text.split_once('\n').unwrap_or((text, ""));
        let patterns = rest.lines().map(|line| line.strip_prefix("pattern ").map(str::to_owned));
        Some(Self { cursor: cursor.parse().ok()?, patterns: patterns.collect::<Option<_>>()? })
    }
}

/// The text of a file; none if it is no text, or too much.
fn read_text(file: &File) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    file.take(MOST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).ok().filter(|text| text.len() <= MOST))
}

fn in_use(path: &Path, holder: Option<u32>) -> Failure {
    let by = holder.map_or("another watch".into(), |process| format!("another watch, process {process}"));
    Failure::new(Exit::Busy, "busy", format!("{} is in use by {by}", path.display()))
        .fact("two watches with one file would lose changes to each other; give each its own")
}

/// The process that has a file locked, where the system tells.
#[cfg(target_os = "linux")]
fn holder(file: &File) -> Option<u32> {
    /// While other locks come and go, the system's list may leave out one that stays.
    const LOOKS: usize = 5;
    let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().ok()?).to_string();
    (0..LOOKS).find_map(|_| listed(&fs::read_to_string("/proc/locks").ok()?, &inode))
}

/// The process that has a file with this number locked, by the system's list.
#[cfg(target_os = "linux")]
fn listed(locks: &str, inode: &str) -> Option<u32> {
    locks.lines().find_map(|lock| {
        // 1: FLOCK  ADVISORY  WRITE 4711 fd:01:263425 0 EOF
        let fields: Vec<&str> = lock.split_whitespace().collect();
        let [_, "FLOCK", _, _, process, place, ..] = fields.as_slice() else { return None };
        place.rsplit(':').next().filter(|found| *found == inode).and_then(|_| process.parse().ok())
    })
}

#[cfg(not(target_os = "linux"))]
fn holder(_: &File) -> Option<u32> {
    None
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::io(&format!("cannot write {}", path.display()), error)
}

/// Where links lead, also if nothing is there.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(to) => path = folder(&path).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name of the file that becomes the target. It is always the same, so that what a killed watch left is found.
fn new_beside(target: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".ustate-new");
    target.with_file_name(name)
}

/// The file that becomes the target; one that is there already may be taken over, or is removed.
fn open_new(target: &Path, anew: bool) -> io::Result<File> {
    // Looked at first: its error is plainer than that of a name nobody gave.
    fs::metadata(folder(target))?;
    let path = new_beside(target);
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    for _ in 0..TRIES {
        // A link or a pipe in its place is not followed or waited for.
        let found = path.symlink_metadata();
        if found.is_ok_and(|found| anew || !found.is_file()) {
            fs::remove_file(&path).or_else(absent)?;
        }
        let opened = match options.create_new(true).open(&path) {
            Err(error) if !anew && error.kind() == io::ErrorKind::AlreadyExists => {
                options.create_new(false).open(&path)
            }
            opened => opened,
        };
        match opened {
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
            opened => return opened,
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// An empty file that becomes the target, locked before it does, so that the place is held without a gap.
fn new_and_locked(target: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        let new = open_new(target, true)?;
        match new.try_lock() {
            // Another watch that is about to be refused may have found it first.
            Err(TryLockError::WouldBlock) => {}
            _ => return Ok(new),
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Another process may remove the same file at the same time.
fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Whether the open file is what the path leads to.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: io::Result<fs::Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
    let open = identity(file.metadata());
    open.is_some() && open == identity(path.symlink_metadata())
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Gives a file the owner and the mode of another one.
#[cfg(unix)]
fn keep_access(of: &File, to: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let (old, new) = (of.metadata()?, to.metadata()?);
    let changed = |old: u32, new: u32| (old != new).then_some(old);
    let (user, group) = (changed(old.uid(), new.uid()), changed(old.gid(), new.gid()));
    if user.is_some() || group.is_some() {
        fchown(to, user, group)
            .map_err(|error| io::Error::new(error.kind(), format!("its owner could not be kept: {error}")))?;
    }
    // After the owner, whose change takes some bits of the mode away.
    to.set_permissions(old.permissions())
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps)]
fn keep_access(_: &File, _: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps)]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
