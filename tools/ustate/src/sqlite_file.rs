//! What stands in the files of an SQLite database, read as files.
//!
//! Only before the store is opened by this process: closing such a file lets go of all locks that
//! the process has on it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The beginning of a database (<https://www.sqlite.org/fileformat2.html>).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) write_ahead: bool,
    pub(crate) page_bytes: u64,
    /// The store's format.
    pub(crate) user_version: u32,
    /// Of whoever wrote it last, if that is said: `3.51.3`
    pub(crate) written_by: Option<String>,
}

impl Header {
    /// None if this is no database. A named pipe is not opened: that would wait for a writer.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        if !path.metadata()?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(100).read_to_end(&mut bytes)?;
        Ok(Self::of(&bytes))
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 100 || !bytes.starts_with(b"SQLite format 3\0") {
            return None;
        }
        let page = u16::from_be_bytes([*bytes.get(16)?, *bytes.get(17)?]);
        let number = |at| word(bytes, at).map(u32::from_be_bytes);
        let version = number(96)?;
        Some(Self {
            write_ahead: bytes.get(18..20)? == [2, 2],
            page_bytes: if page == 1 { 65_536 } else { page.into() },
            user_version: number(60)?,
            written_by: (version > 0)
                .then(|| format!("{}.{}.{}", version / 1_000_000, version / 1_000 % 1_000, version % 1_000)),
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}

/// The file beside a database whose name ends so.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    beside.into()
}

/// A process that reads an older state, which keeps the write-ahead log from being started over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) process: String,
    /// Pages that were written since.
    pub(crate) behind: u64,
}

impl Reader {
    /// The name of its program, where the system tells.
    pub(crate) fn program(&self) -> Option<String> {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.process)).ok()?;
        Some(name.trim_end().to_owned()).filter(|name| !name.is_empty())
    }
}

/// Where the locks of readers begin in the index of a write-ahead log, and how many there are.
const READ_LOCKS: u64 = 123;
const READERS: u64 = 5;

/// The reader of the oldest state; an error where that cannot be known, and none where nobody reads.
pub(crate) fn oldest_reader(path: &Path) -> io::Result<Option<Reader>> {
    let index = beside(path, "-shm");
    if !index.is_file() {
        return Ok(None);
    }
    let Ok(bytes) = fs::read(&index) else { return Ok(None) };
    let locks = fs::read_to_string("/proc/locks")?;
    Ok(oldest(&bytes, &locks, inode(&index)?))
}

#[cfg(unix)]
fn inode(path: &Path) -> io::Result<u64> {
    Ok(std::os::unix::fs::MetadataExt::ino(&path.metadata()?))
}

#[cfg(not(unix))]
fn inode(_: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Looks for locks of readers (<https://www.sqlite.org/walformat.html#wal_index_format>).
fn oldest(index: &[u8], locks: &str, inode: u64) -> Option<Reader> {
    let number = |at| word(index, at).map(u32::from_ne_bytes);
    let end = number(16)?;
    let mut oldest: Option<Reader> = None;
    for line in locks.lines() {
        // 3: POSIX  ADVISORY  READ 4711 fd:01:263425 124 124
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "POSIX", _, "READ", process, file, from, to] = *fields.as_slice() else { continue };
        if file.rsplit(':').next().and_then(|inode| inode.parse().ok()) != Some(inode) {
            continue;
        }
        let (Ok(from), Ok(to)) = (from.parse::<u64>(), to.parse::<u64>()) else { continue };
        for slot in 0..READERS {
            let lock = READ_LOCKS + slot;
            if lock < from || lock > to {
                continue;
            }
            // The first one reads the database alone.
            let mark = if slot == 0 { 0 } else { number(100 + 4 * usize::try_from(slot).ok()?)? };
            let behind = u64::from(end.saturating_sub(mark));
            if oldest.as_ref().is_none_or(|oldest| behind > oldest.behind) {
                oldest = Some(Reader { process: process.into(), behind });
            }
        }
    }
    oldest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_how_the_database_is_kept() {
        let mut bytes = vec![0; 100];
        bytes[..16].copy_from_slice(b"SQLite format 3\0");
        bytes[16..20].copy_from_slice(&[0x10, 0, 2, 2]);
        bytes[63] = 1;
        bytes[96..].copy_from_slice(&3_051_003_u32.to_be_bytes());
        let header = Header::of(&bytes).unwrap();
        assert_eq!((header.write_ahead, header.page_bytes, header.user_version), (true, 4_096, 1));
        assert_eq!(header.written_by.as_deref(), Some("3.51.3"));
        bytes[18] = 1;
        assert!(!Header::of(&bytes).unwrap().write_ahead);
        assert_eq!(Header::of(&bytes[..99]), None);
        bytes[0] = b's';
        assert_eq!(Header::of(&bytes), None);
    }

    #[test]
    fn the_oldest_reader_is_the_one_whose_mark_is_least() {
        let mut index = vec![0; 136];
        let mut set = |at: usize, number: u32| index[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        set(16, 500);
        set(104, 480);
        set(108, 120);
        let line = |kind: &str, process: &str, inode: &str, lock: u64| {
            format!("1: POSIX  ADVISORY  {kind} {process} fd:01:{inode} {lock} {lock}\n")
        };
        let found = |lines: &[String]| oldest(&index, &lines.concat(), 77);
        let reader = |process: &str, behind| Some(Reader { process: process.into(), behind });
        assert_eq!(found(&[]), None);
        let new = line("READ", "4711", "77", 124);
        assert_eq!(found(std::slice::from_ref(&new)), reader("4711", 20));
        assert_eq!(found(&[new.clone(), line("READ", "12", "77", 125)]), reader("12", 380));
        assert_eq!(found(&[new.clone(), line("READ", "12", "78", 125)]), reader("4711", 20), "another file");
        assert_eq!(found(&[new.clone(), line("WRITE", "12", "77", 125)]), reader("4711", 20));
        assert_eq!(
            found(&[new.clone(), line("READ", "12", "77", 128)]),
            reader("4711", 20),
            "no reader's lock"
        );
        assert_eq!(found(&[new, "nonsense".into()]), reader("4711", 20));
        assert_eq!(found(&[line("READ", "12", "77", 123)]), reader("12", 500), "it reads the database alone");
    }
}
