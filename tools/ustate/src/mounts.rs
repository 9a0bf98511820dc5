//! Which file system a file is on.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The kind of the file system of a path that exists, such as `ext4`; none where it cannot be known.
pub(crate) fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    kind_of(&path, &fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// The last mount of the longest place that the path is below.
fn kind_of(path: &Path, mounts: &str) -> Option<String> {
    let mut found: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        // 36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/sda1 rw
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let (Some(place), Some(kind)) = (mount.split(' ').nth(4), kind.split(' ').next()) else { continue };
        let place = unescaped(place);
        let depth = place.components().count();
        if path.starts_with(&place) && found.is_none_or(|(deepest, _)| depth >= deepest) {
            found = Some((depth, kind));
        }
    }
    found.map(|(_, kind)| kind.to_owned())
}

/// A path in which spaces and the like stand as `\040`.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let number = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = number {
            bytes.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    name_of(bytes).into()
}

#[cfg(unix)]
fn name_of(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(not(unix))]
fn name_of(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// Whether other machines share it, which the shared memory of a write-ahead log does not reach.
pub(crate) fn is_shared(kind: &str) -> bool {
    const SHARED: [&str; 15] = [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncpfs",
        "ocfs2",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
    ];
    kind.starts_with("nfs") || kind.starts_with("fuse.") || SHARED.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_that_a_path_is_below_is_found() {
        let mounts = "\
22 1 0:21 / / rw shared:1 - ext4 /dev/sda1 rw
23 22 0:22 / /data rw - xfs /dev/sdb1 rw
24 23 0:23 / /data/my\\040disk rw master:1 - nfs4 server:/x rw
25 22 0:24 / /data rw - tmpfs none rw
nonsense
";
        let kind = |path: &str| kind_of(Path::new(path), mounts);
        assert_eq!(kind("/home/x/state.db").as_deref(), Some("ext4"));
        assert_eq!(kind("/data/state.db").as_deref(), Some("tmpfs"), "the later mount covers the earlier");
        assert_eq!(kind("/database/state.db").as_deref(), Some("ext4"));
        assert_eq!(kind("/data/my disk/state.db").as_deref(), Some("nfs4"));
        assert_eq!(kind_of(Path::new("/x"), ""), None);
    }

    #[test]
    fn file_systems_of_other_machines_are_known() {
        for kind in ["nfs", "nfs4", "cifs", "fuse.sshfs", "9p", "virtiofs"] {
            assert!(is_shared(kind), "{kind}");
        }
        for kind in ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuseblk"] {
            assert!(!is_shared(kind), "{kind}");
        }
    }
}
