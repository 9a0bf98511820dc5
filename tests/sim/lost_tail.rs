//! The write-ahead log is lost or cut behind the store's back. What is left hangs together, so the
//! head file alone can tell: it must, with the right number of missing changes, and must be silent
//! where nothing is missing.

use std::sync::atomic::Ordering;

use super::super::engine::writer::record_loss;
use super::world::{FILE, STORE, opening, sources};
use super::{Trace, World, audit};
use crate::backend::sqlite::sim::{Disk, Files, Plain, Replay, Rng, VARIANTS};
use crate::backend::sqlite::{HeadFile, Opening, RecordedHead};
use crate::error::StateError;
use crate::log::Head;

fn log() -> String {
    format!("{FILE}-wal")
}

fn head_file() -> String {
    format!("{FILE}-head")
}

/// The files without the log, or with the first part of it; none if there is nothing to lose.
fn without_tail(image: &Files, rng: &mut Rng) -> Option<Files> {
    let length = image.get(&log()).map_or(0, Vec::len);
    if length == 0 || !image.contains_key(&head_file()) {
        return None;
    }
    let mut files = image.clone();
    if rng.once_in(2) {
        files.remove(&log());
    } else if let Some(log) = files.get_mut(&log()) {
        log.truncate(rng.below(length));
    }
    Some(files)
}

/// Does something with these files on a disk of their own.
fn on<T>(files: &Files, act: impl FnOnce(&Disk) -> T) -> T {
    let disk = Disk::new(files, false);
    let result = act(&disk);
    disk.remove();
    result
}

fn recorded(files: &Files) -> RecordedHead {
    on(files, |disk| {
        let file = Plain::open(&disk.path(&head_file()), false).unwrap().unwrap();
        HeadFile::new(Box::new(file), STORE).recorded().unwrap()
    })
}

/// The head of an intact store that opens without its head file.
fn intact(files: &Files) -> Option<Head> {
    let mut files = files.clone();
    files.remove(&head_file());
    on(&files, |disk| audit(&opening(disk, None, false).first().ok()?).ok())
}

/// Accepts the loss, and cuts the power after each event of that: it is a loss still, or recorded.
fn accept(files: &Files, seed: u64) -> Result<(), String> {
    let disk = Disk::after(files, &[]);
    let opening = |disk: &Disk, accept_loss| Opening { accept_loss, ..opening(disk, None, false) };
    let accepted = opening(&disk, true).first().and_then(|mut sqlite| {
        let loss = sqlite.accepted_loss().expect("a loss was told");
        record_loss(&mut sqlite, &sources(seed), loss)
    });
    let (events, mut rng) = (disk.events(), Rng::new(seed));
    disk.remove();
    accepted.map_err(|error| format!("it was not recorded: {error}"))?;
    let recorded =
        RecordedHead::Reached(on(&disk.files(), |disk| audit(&opening(disk, false).first().unwrap()))?);
    let mut replay = Replay::new(files);
    for at in 0..=events.len() {
        let variant = VARIANTS[rng.below(VARIANTS.len())];
        let image = replay.image(variant, &mut rng);
        let head = on(&image, |disk| match opening(disk, false).first() {
            Ok(sqlite) => audit(&sqlite).map(Some),
            Err(StateError::Corrupted(why)) if why.contains("missing") => Ok(None),
            Err(error) => Err(error.to_string()),
        });
        match head {
            // Not yet accepted, or known to be: not asked for again.
            Ok(None) if at < events.len() => {}
            Ok(Some(head)) if RecordedHead::Reached(head) == recorded => {}
            other => return Err(format!("a power loss at {at} ({variant:?}) leaves {other:?}")),
        }
        if let Some(event) = events.get(at) {
            replay.advance(event);
        }
    }
    Ok(())
}

impl World<'_> {
    /// Takes the tail from the log of an image and opens what is left.
    pub(super) fn lose_tail(&mut self, image: &Files, trace: &Trace) -> Result<(), String> {
        let mut rng = Rng::new(self.rng.next());
        let Some(files) = without_tail(image, &mut rng) else { return Ok(()) };
        // A database into which half of the lost log was moved is damaged, and not for the head file to tell.
        let Some(ends) = intact(&files) else { return Ok(()) };
        if trace.known_heads().is_some_and(|heads| !heads.contains(&ends)) {
            return Err(format!("without its tail it ends with {ends}, which ends no commit"));
        }
        let read_only = rng.once_in(3);
        let opened = |accept_loss: bool| {
            on(&files, |disk| {
                let opening = opening(disk, None, read_only && !accept_loss);
                let sqlite = Opening { accept_loss, ..opening }.first()?;
                Ok::<_, StateError>((sqlite.read_head()?, sqlite.accepted_loss()))
            })
        };
        self.totals.cut.fetch_add(1, Ordering::Relaxed);
        match recorded(&files) {
            RecordedHead::Reached(reached) if ends.seq < reached.seq => {
                self.totals.refused.fetch_add(1, Ordering::Relaxed);
                let missing = reached.seq.as_u64() - ends.seq.as_u64();
                let said = format!("had reached {}: {missing} change", reached.seq);
                match opened(false) {
                    Err(StateError::Corrupted(why)) if why.contains(&said) => {}
                    other => return Err(format!("{said}, but opening it gave {other:?}")),
                }
                match opened(true) {
                    Ok((head, Some(loss))) if head == ends && loss.reached == reached => {}
                    other => return Err(format!("{said}, and accepting that gave {other:?}")),
                }
                accept(&files, rng.next()).map_err(|why| format!("{said}, and after accepting that {why}"))
            }
            says => match opened(false) {
                Ok((head, None)) if head == ends => Ok(()),
                other => Err(format!("the head file says {says:?}, the log ends with {ends}, but {other:?}")),
            },
        }
    }
}
