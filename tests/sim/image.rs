//! What a power loss leaves of a disk.
//!
//! What was synced is there. Of what was not, each image keeps what its variant says; a garbled
//! write damages only its own bytes, as SQLite assumes of its devices ("powersafe overwrite").

use std::collections::BTreeMap;

use super::disk::{Event, Files, resize, write};
use super::rng::Rng;

/// What becomes of writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// All are lost.
    Lost,
    /// All are kept.
    Kept,
    /// The first ones are kept.
    Prefix,
    /// The first ones are kept, and the next one in part.
    Torn,
    /// Each is kept or lost.
    Writes,
    /// Each file's are all kept or all lost.
    Inodes,
    /// Each sector of this size is kept or lost.
    Sectors(usize),
    /// Each sector of this size is kept, lost or garbage.
    Garbage(usize),
    /// The first ones are kept; the files are as long as if all were, full of zeros or garbage.
    Grown,
}

pub(crate) const VARIANTS: [Variant; 11] = [
    Variant::Lost,
    Variant::Kept,
    Variant::Prefix,
    Variant::Torn,
    Variant::Writes,
    Variant::Inodes,
    Variant::Sectors(512),
    Variant::Sectors(4096),
    Variant::Garbage(512),
    Variant::Garbage(4096),
    Variant::Grown,
];

/// A disk as far as it is durable, event by event.
pub(crate) struct Replay<'a> {
    names: BTreeMap<String, usize>,
    inodes: Vec<Vec<u8>>,
    /// Writes and truncations that were not synced, in order.
    pending: Vec<(usize, &'a Event)>,
    /// Names made and deleted since the folder was synced, in order; the file system keeps a prefix.
    pending_names: Vec<&'a Event>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(files: &Files) -> Self {
        let names = files.keys().cloned().zip(0..).collect();
        let inodes = files.values().cloned().collect();
        Self { names, inodes, pending: Vec::new(), pending_names: Vec::new() }
    }

    /// After all these events.
    pub(crate) fn after(files: &Files, events: &'a [Event]) -> Self {
        let mut replay = Self::new(files);
        for event in events {
            replay.advance(event);
        }
        replay
    }

    pub(crate) fn advance(&mut self, event: &'a Event) {
        match event {
            Event::Create { .. } => {
                self.inodes.push(Vec::new());
                self.pending_names.push(event);
            }
            Event::Delete { .. } | Event::Rename { .. } => self.pending_names.push(event),
            Event::Write { inode, .. } | Event::Truncate { inode, .. } => self.pending.push((*inode, event)),
            Event::Sync { inode, folder } => {
                for (_, event) in self.pending.extract_if(.., |(of, _)| of == inode) {
                    apply(&mut self.inodes[*inode], event);
                }
                if *folder {
                    self.pending_names.drain(..).for_each(|event| rename(&mut self.names, event));
                }
            }
            Event::Lose { inode } => self.pending.retain(|(of, _)| of != inode),
        }
    }

    /// Whether all variants would be the same.
    pub(crate) fn is_durable(&self) -> bool {
        self.pending.is_empty() && self.pending_names.is_empty()
    }

    /// The files that are left if the power goes now.
    pub(crate) fn image(&self, variant: Variant, rng: &mut Rng) -> Files {
        let kept = match variant {
            Variant::Lost => 0,
            Variant::Kept => self.pending_names.len(),
            _ => rng.below(self.pending_names.len() + 1),
        };
        let mut names = self.names.clone();
        self.pending_names[..kept].iter().for_each(|event| rename(&mut names, event));
        let mut files: BTreeMap<usize, Vec<u8>> =
            names.values().map(|inode| (*inode, self.inodes[*inode].clone())).collect();
        let first = rng.below(self.pending.len() + 1);
        let odds = [2, 2, 8, 9][rng.below(4)];
        let keep = move |rng: &mut Rng| if odds == 9 { !rng.once_in(8) } else { rng.once_in(odds) };
        let whole: Vec<bool> = self.inodes.iter().map(|_| rng.once_in(2)).collect();
        for (i, (inode, event)) in self.pending.iter().enumerate() {
            // A file whose name is not durable is gone whatever was written to it.
            let Some(file) = files.get_mut(inode) else { continue };
            match (variant, event) {
                (Variant::Kept, _) => apply(file, event),
                (Variant::Prefix | Variant::Torn | Variant::Grown, _) if i < first => apply(file, event),
                (Variant::Torn, Event::Write { offset, data, .. }) if i == first => {
                    write(file, *offset, &data[..rng.below(data.len() + 1)]);
                }
                (Variant::Grown, Event::Write { offset, data, .. }) => {
                    let (len, end) = (file.len(), offset + data.len());
                    resize(file, len.max(end), if rng.once_in(2) { 0 } else { rng.byte() });
                }
                (Variant::Inodes, _) if whole[*inode] => apply(file, event),
                (Variant::Lost | Variant::Prefix | Variant::Torn | Variant::Grown | Variant::Inodes, _) => {}
                (Variant::Sectors(size) | Variant::Garbage(size), Event::Write { offset, data, .. }) => {
                    let garbage = matches!(variant, Variant::Garbage(_));
                    sectors(file, *offset, data, size, |bytes| {
                        if garbage && rng.once_in(3) {
                            for byte in bytes {
                                *byte = rng.byte();
                            }
                            true
                        } else {
                            keep(rng)
                        }
                    });
                }
                _ if keep(rng) => apply(file, event),
                _ => {}
            }
        }
        names.into_iter().map(|(name, inode)| (name, files[&inode].clone())).collect()
    }
}

/// Writes those parts of the data that `keep` keeps, cut where sectors end.
fn sectors(
    file: &mut Vec<u8>,
    offset: usize,
    data: &[u8],
    size: usize,
    mut keep: impl FnMut(&mut Vec<u8>) -> bool,
) {
    let mut done = 0;
    while done < data.len() {
        let at = offset + done;
        let end = data.len().min(done + size - at % size);
        let mut part = data[done..end].to_vec();
        if keep(&mut part) {
            write(file, at, &part);
        }
        done = end;
    }
}

fn apply(file: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write { offset, data, .. } => write(file, *offset, data),
        Event::Truncate { size, .. } => resize(file, *size, 0),
        _ => {}
    }
}

fn rename(names: &mut BTreeMap<String, usize>, event: &Event) {
    match event {
        Event::Create { inode, name } => drop(names.insert(name.clone(), *inode)),
        Event::Delete { name } => drop(names.remove(name)),
        Event::Rename { from, to } => {
            let inode = names.remove(from).expect("names are made in order");
            names.insert(to.clone(), inode);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk;
    use super::*;

    fn left(disk: &Disk, variant: Variant) -> Files {
        let events = disk.events();
        Replay::after(&Files::new(), &events).image(variant, &mut Rng::new(1))
    }

    #[test]
    fn a_plain_file_that_nobody_synced_is_there_or_not() {
        let disk = Disk::new(&Files::new(), true);
        disk.write_at("state.db-head", 4, b"head").unwrap();
        disk.write_at("state.db-head", 0, b"the ").unwrap();
        assert_eq!(disk.read_at("state.db-head", 2, 100).unwrap(), b"e head");
        assert_eq!(disk.read_at("nothing", 0, 8).unwrap(), b"");
        assert_eq!(left(&disk, Variant::Lost), Files::new());
        assert_eq!(left(&disk, Variant::Kept), disk.files());
        disk.remove();
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_goes() {
        let disk = Disk::new(&Files::new(), true);
        disk.write_at("a", 0, b"old").unwrap();
        disk.state().happen(Event::Sync { inode: 0, folder: true });
        disk.write_at("a", 0, b"new").unwrap();
        disk.write_at("b", 0, b"unnamed").unwrap();
        disk.state().happen(Event::Sync { inode: 1, folder: false });
        assert_eq!(left(&disk, Variant::Lost), Files::from([("a".into(), b"old".to_vec())]));
        disk.state().happen(Event::Lose { inode: 0 });
        disk.state().happen(Event::Sync { inode: 0, folder: true });
        let both = Files::from([("a".into(), b"old".to_vec()), ("b".into(), b"unnamed".to_vec())]);
        assert_eq!(left(&disk, Variant::Kept), both, "a sync does not mend one that failed");
        disk.remove();
    }
}
