//! Exporting a log.

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use super::atomic_file::AtomicFile;
use super::export::{Export, Exported};
use crate::audit::{Buffered, ChangeBuffer, LogWriter, Start};
use crate::backend::{Linked, Snapshot};
use crate::error::{Result, StateError};
use crate::log::{Follow, FollowBase, Head, LastMeta, header_hash};
use crate::seq::Seq;
use crate::state::Floor;
use crate::store::foreign::{Foreign, tell};
use crate::store::history::point;
use crate::store::open_store::OpenStore;
use crate::store::read::base;
use crate::store::threads::{Taken, Waiter, alongside};

/// The bytes that are written at once.
const BUFFER: usize = 256 << 10;

impl OpenStore {
    /// Exports to a writer.
    pub(crate) async fn export<W: Write + Send + 'static>(
        &self,
        export: Export,
        write: W,
    ) -> Result<Exported> {
        let (shared, waiter) = (self.shared.clone(), Waiter::new());
        let awaited = waiter.awaited();
        let ends = move || shared.is_closed() || awaited.is_in_vain();
        let read = move |snapshot: &dyn Snapshot| {
            export_snapshot(snapshot, &export, Foreign::writer(write), &ends).map(|(done, _)| done)
        };
        let exported = self.read_alone("export", read).await;
        drop(waiter);
        exported
    }

    /// Exports to a file, which appears when it is complete.
    pub(crate) async fn export_to(&self, export: Export, path: &Path) -> Result<Exported> {
        let staged = AtomicFile::beside(path)?;
        let (shared, waiter) = (self.shared.clone(), Waiter::new());
        let awaited = waiter.awaited();
        let ends = move || shared.is_closed() || awaited.is_in_vain();
        let write = move |snapshot: &dyn Snapshot| {
            let file = staged.open()?;
            let (exported, _) = export_snapshot(snapshot, &export, file, &ends)?;
            staged.publish()?;
            Ok(exported)
        };
        let exported = self.read_alone("export", write).await;
        drop(waiter);
        exported
    }
}

/// Reads the log on this thread; checks it, filters and writes it on another.
pub(crate) fn export_snapshot<W: Write + Send>(
    snapshot: &dyn Snapshot,
    export: &Export,
    write: W,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Exported, W)> {
    let (floor, base) = beginning(snapshot, export)?;
    let head = point::find(snapshot, export.to)?.0;
    if head.seq < floor.seq() {
        return Err(StateError::InvalidArgument(format!(
            "the export would end at {}, before it begins at {}; exchange the two points",
            head.seq,
            floor.seq()
        )));
    }
    let store = snapshot.store_id();
    alongside(
        |send| {
            let total = head.seq.as_u64().saturating_sub(floor.seq().as_u64());
            let mut watch = |done| {
                tell(export.progress.as_deref(), done, total)?;
                if cancelled() { Err(StateError::Closed) } else { Ok(()) }
            };
            if base.is_some() {
                send_base(snapshot, &floor, cancelled, send)?;
            }
            send_log(snapshot, floor.seq(), head.seq, &mut watch, send)
        },
        move |taken| {
            let start = Start { store, floor: floor.head, floor_at: floor.at, base };
            write_all(taken, export, start, head, write)
        },
    )
}

/// Where an export begins, and how many changes its base has, if it has one.
fn beginning(snapshot: &dyn Snapshot, export: &Export) -> Result<(Floor, Option<u64>)> {
    let own = snapshot.floor()?;
    let floor = match export.after {
        Some(after) => match point::find(snapshot, after)? {
            (head, _) if head == own.head => own.clone(),
            // What is forgotten by now is not in the base of any point.
            (head, at) => Floor { forgotten: own.forgotten.clone(), ..Floor::at(head, at) },
        },
        None => own.clone(),
    };
    if floor.seq() == Seq::ZERO {
        return Ok((floor, Some(0)));
    }
    let is_own = export.after.is_none() && snapshot.is_whole();
    if export.with_base && !snapshot.is_whole() {
        return Err(StateError::Unsupported(
            "a part of a log does not have the state that it begins with: export its changes without a base"
                .into(),
        ));
    }
    let base = if is_own || export.with_base { Some(base::count(snapshot, &floor)?) } else { None };
    Ok((floor, base))
}

/// Sends the base at a floor.
fn send_base(
    snapshot: &dyn Snapshot,
    floor: &Floor,
    cancelled: &dyn Fn() -> bool,
    send: &mut dyn FnMut(ChangeBuffer) -> Option<ChangeBuffer>,
) -> Result<()> {
    let (mut pack, mut meta) = (ChangeBuffer::default(), LastMeta::default());
    base::base(snapshot, floor, &mut |Linked { change, before }| {
        pack.push_base(&change.view(change.meta.as_ref().map(|known| meta.encode(known))), before);
        if !pack.is_full() {
            return Ok(ControlFlow::Continue(()));
        }
        if cancelled() {
            return Err(StateError::Closed);
        }
        match send(std::mem::take(&mut pack)) {
            Some(mut empty) => {
                empty.clear();
                pack = empty;
                Ok(ControlFlow::Continue(()))
            }
            None => Ok(ControlFlow::Break(())),
        }
    })?;
    send(pack);
    Ok(())
}

/// Sends the changes after one position, up to another.
pub(crate) fn send_log(
    snapshot: &dyn Snapshot,
    after: Seq,
    to: Seq,
    watch: &mut dyn FnMut(u64) -> Result<()>,
    send: &mut dyn FnMut(ChangeBuffer) -> Option<ChangeBuffer>,
) -> Result<()> {
    let (mut pack, mut reached, mut done) = (ChangeBuffer::default(), after, 0);
    let withheld = |reached: &mut Seq, pack: &mut ChangeBuffer, before: Seq| {
        while reached.next() < before
            && let Some(header) = snapshot.withheld(reached.next())
        {
            pack.push_withheld(header);
            *reached = reached.next();
        }
    };
    snapshot.views(after, &mut |change| {
        if change.seq > to {
            return Ok(ControlFlow::Break(()));
        }
        withheld(&mut reached, &mut pack, change.seq);
        reached = change.seq;
        pack.push(change);
        if !pack.is_full() {
            return Ok(ControlFlow::Continue(()));
        }
        done += pack.len();
        watch(done)?;
        match send(std::mem::take(&mut pack)) {
            Some(mut empty) => {
                empty.clear();
                pack = empty;
                Ok(ControlFlow::Continue(()))
            }
            None => Ok(ControlFlow::Break(())),
        }
    })?;
    withheld(&mut reached, &mut pack, to.next());
    watch(done + pack.len())?;
    send(pack);
    Ok(())
}

fn write_all<W: Write>(
    taken: &mut Taken<ChangeBuffer>,
    export: &Export,
    start: Start,
    head: Head,
    write: W,
) -> Result<(Exported, W)> {
    let Start { store, floor, floor_at, base } = start;
    let base = base.unwrap_or(0);
    let mut writer = LogWriter::new(BufWriter::with_capacity(BUFFER, write), export.form, &start)?;
    let mut follow = Follow::from_floor(store, floor, floor_at);
    let mut exported = Exported { store, floor, base, head, changes: 0, withheld: 0, redacted: 0 };
    let (mut follow_base, mut in_base) = (FollowBase::new(store, floor, floor_at), 0);
    let mut withheld_after = 0;
    while let Some(pack) = taken.next() {
        for unpacked in pack.unpack() {
            let (before, mut change, encoded) = match unpacked {
                Buffered::Base(before, change, encoded) => (Some(before), change, encoded),
                Buffered::Change(change, encoded) => (None, change, encoded),
                Buffered::Withheld(header) => {
                    follow.pass(header);
                    exported.withheld += 1;
                    withheld_after += 1;
                    writer.withheld(header, follow.head())?;
                    continue;
                }
            };
            let header = header_hash(encoded);
            let intact = match before {
                Some(before) => follow_base.check_hashed(Some(before), &change, header),
                None => follow.check_hashed(&change, header),
            };
            intact.map_err(|error| StateError::Corrupted(error.to_string()))?;
            in_base += u64::from(before.is_some());
            let withheld = export.withholds(change.key);
            if !withheld && change.value.is_some() && export.redacts(change.key) {
                (change.value, change.salt) = (None, None);
                exported.redacted += 1;
            }
            match (before, withheld) {
                (None, true) => writer.withheld(header, follow.head())?,
                (None, false) => writer.change(&change, encoded)?,
                (Some(before), true) => writer.withheld_base(before, header)?,
                (Some(before), false) => writer.base(before, &change, encoded)?,
            }
            exported.withheld += u64::from(withheld);
            exported.changes += u64::from(before.is_none() && !withheld);
            withheld_after += u64::from(before.is_none() && withheld);
        }
    }
    if !taken.is_whole() {
        return Err(StateError::Closed);
    }
    if in_base != base {
        let what = format!("the base at {} has {in_base} changes, and not {base}", floor.seq);
        return Err(StateError::Corrupted(what));
    }
    if follow.head() != head {
        let what = format!("the log ends at {}, but should reach {}", follow.head().seq, head.seq);
        return Err(StateError::Corrupted(what));
    }
    let write = writer.end(exported.changes + withheld_after, head)?;
    Ok((exported, write.into_inner().map_err(std::io::IntoInnerError::into_error)?))
}
