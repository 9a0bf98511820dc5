//! Exporting a log.

use std::fmt;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::atomic_file::AtomicFile;
use crate::audit::{Buffered, ChangeBuffer, Form, LogWriter, Progress, Start};
use crate::backend::Snapshot;
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::log::{Follow, Head, StoreId, header_hash};
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::store::foreign::{Foreign, tell};
use crate::store::history::{Point, point};
use crate::store::open_store::OpenStore;
use crate::store::threads::{Taken, Waiter, alongside};

/// The bytes that are written at once.
const BUFFER: usize = 256 << 10;

/// What to export, and in which format. By default it is the whole log, as a file that can be imported.
///
/// An export proves what it shows: its hashes lead to the head of the log even if parts are left out. For a
/// change that is withheld it has the hash of the header, for a value that is redacted the hash of the value.
/// An export with withheld changes, or one that begins after a point, can be read with
/// [`Archive`](crate::archive::Archive) but not imported.
///
/// ```
/// use univrs_state::archive::Export;
/// use univrs_state::{MemoryStore, Seq, LocalStore, StateStore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> univrs_state::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("billing.log");
/// let store = MemoryStore::new();
/// store.set("/billing/rate", b"7".to_vec()).await?;
/// store.set("/billing/key", b"hunter2".to_vec()).await?;
/// store.set("/other", b"x".to_vec()).await?;
///
/// let export = Export::new().only("/billing/*".parse()?).redact("/billing/key".parse()?);
/// let exported = store.export_to(export, &path).await?;
/// assert_eq!((exported.changes, exported.withheld, exported.redacted), (2, 1, 1));
/// assert_eq!(exported.head, store.head().await?);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "an export does nothing until it is given to a store"]
pub struct Export {
    only: Vec<Pattern>,
    redact: Vec<Pattern>,
    after: Option<Point>,
    to: Point,
    form: Form,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

/// The result of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The store whose log it is.
    pub store: StoreId,
    /// The head that the export begins after: position 0, unless it was restricted by [`Export::after`].
    pub floor: Head,
    /// The head that the export ends with.
    pub head: Head,
    /// How many changes are in the export.
    pub changes: u64,
    /// How many changes are withheld: only the hashes of their headers are in the export.
    pub withheld: u64,
    /// How many values were redacted.
    pub redacted: u64,
}

impl Export {
    /// Exports the whole log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Exports only changes of keys that match this pattern, and withholds the others. If called several times, a key
    /// must match one of the patterns.
    pub fn only(mut self, pattern: Pattern) -> Self {
        self.only.push(pattern);
        self
    }

    /// Leaves out the values, and their salts, of keys that match this pattern.
    pub fn redact(mut self, pattern: Pattern) -> Self {
        self.redact.push(pattern);
        self
    }

    /// Exports only changes after this point. Such an export cannot be imported.
    pub fn after(mut self, point: impl Into<Point>) -> Self {
        self.after = Some(point.into());
        self
    }

    /// Exports only changes up to this point.
    pub fn to(mut self, point: impl Into<Point>) -> Self {
        self.to = point.into();
        self
    }

    /// Sets the format.
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Sets a function that a thread of the store calls from time to time with the number of changes read so far.
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("only", &self.only)
            .field("redact", &self.redact)
            .field("after", &self.after)
            .field("to", &self.to)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

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
    let (floor, floor_at) = if let Some(after) = export.after {
        point::find(snapshot, after)?
    } else {
        let floor = snapshot.floor()?;
        (floor.head, floor.at)
    };
    let head = point::find(snapshot, export.to)?.0;
    if head.seq < floor.seq {
        return Err(StateError::InvalidArgument(format!(
            "the export would end at {}, before it begins at {}; exchange the two points",
            head.seq, floor.seq
        )));
    }
    let store = snapshot.store_id();
    alongside(
        |send| {
            let total = head.seq.as_u64() - floor.seq.as_u64();
            let mut watch = |done| {
                tell(export.progress.as_deref(), done, total)?;
                if cancelled() { Err(StateError::Closed) } else { Ok(()) }
            };
            send_log(snapshot, floor.seq, head.seq, &mut watch, send)
        },
        move |taken| write_all(taken, export, Start::new(store, floor, floor_at), head, write),
    )
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
    let Start { store, floor, floor_at, .. } = start;
    let mut writer = LogWriter::new(BufWriter::with_capacity(BUFFER, write), export.form, &start)?;
    let mut follow = Follow::from_floor(store, floor, floor_at);
    let mut exported = Exported { store, floor, head, changes: 0, withheld: 0, redacted: 0 };
    while let Some(pack) = taken.next() {
        for unpacked in pack.unpack() {
            let (mut change, encoded) = match unpacked {
                Buffered::Change(change, encoded) => (change, encoded),
                Buffered::Withheld(header) => {
                    follow.pass(header);
                    exported.withheld += 1;
                    writer.withheld(header, follow.head())?;
                    continue;
                }
            };
            let header = header_hash(encoded);
            let intact = follow.check_hashed(&change, header);
            intact.map_err(|error| StateError::Corrupted(error.to_string()))?;
            if export.withholds(change.key) {
                exported.withheld += 1;
                writer.withheld(header, follow.head())?;
                continue;
            }
            if change.value.is_some() && export.redacts(change.key) {
                (change.value, change.salt) = (None, None);
                exported.redacted += 1;
            }
            exported.changes += 1;
            writer.change(&change, encoded)?;
        }
    }
    if !taken.is_whole() {
        return Err(StateError::Closed);
    }
    if follow.head() != head {
        let what = format!("the log ends at {}, but should reach {}", follow.head().seq, head.seq);
        return Err(StateError::Corrupted(what));
    }
    let write = writer.end(exported.changes + exported.withheld, head)?;
    Ok((exported, write.into_inner().map_err(std::io::IntoInnerError::into_error)?))
}

impl Export {
    fn withholds(&self, key: &str) -> bool {
        !self.only.is_empty() && !self.only.iter().any(|pattern| pattern.matches(key))
    }

    fn redacts(&self, key: &str) -> bool {
        self.redact.iter().any(|pattern| pattern.matches(key)) && !failpoint("redaction_forgotten")
    }
}
