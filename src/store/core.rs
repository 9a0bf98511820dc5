//! An open store: what both kinds of stores have in common.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot};
// Reads are mostly ready at once: a task that does nothing else must let others run all the same.
use tokio::task::consume_budget;

use super::bell::undisturbed;
use super::engine::{Engine, Order, Read};
use super::published::{Pinned, Published};
use super::shared::Shared;
use super::{
    DeletedKey, Diff, DiffPage, Page, Past, Point, Receipt, Scan, SnapshotWatch, StateStore, Stats,
    WatchStream, as_of, point, read,
};
use crate::backend::{Folded, Snapshot};
use crate::error::{Result, StateError};
use crate::key::{validate_key, validate_prefix};
use crate::limits::{Exceeded, Limits};
use crate::log::{Change, Commit, Cursor, Head};
use crate::pattern::Pattern;
use crate::seq::Seq;
use crate::state::{Batch, Entry};
use crate::sync::Guard;

/// How long dropping the last handle waits for the writer.
pub(super) const DROP_WAIT: Duration = Duration::from_secs(5);

/// Bytes of batches that may wait for the writer; more callers wait for room.
const QUEUE_BYTES: usize = 64 << 20;
/// A batch's share of the queue is counted in these units.
const QUEUE_UNIT: usize = 256;

/// An open store. Its engine closes when the last handle is dropped.
pub(super) struct Core {
    /// Itself, for its watches: they find it again without keeping it open.
    this: Weak<Core>,
    pub(super) shared: Arc<Shared>,
    pub(super) engine: Box<dyn Engine>,
    limits: Limits,
    read_only: bool,
    queue: Arc<Semaphore>,
}

impl Core {
    pub(super) fn new(
        shared: Arc<Shared>,
        engine: Box<dyn Engine>,
        limits: Limits,
        read_only: bool,
    ) -> Arc<Self> {
        let queue = Arc::new(Semaphore::new(QUEUE_BYTES / QUEUE_UNIT));
        Arc::new_cyclic(|this| Self { this: this.clone(), shared, engine, limits, read_only, queue })
    }

    /// Starts a read; the receiver fails if the store closes first.
    pub(super) fn start<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Snapshot) -> Result<T> + Send + 'static,
    ) -> oneshot::Receiver<Result<T>> {
        let (read, receiver) = answered(read);
        self.engine.read(read);
        receiver
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.shared.check_open()?;
        self.start(read).await.unwrap_or(Err(StateError::Closed))
    }

    pub(super) async fn close(&self) -> Result<()> {
        if self.shared.is_forked() {
            return self.shared.check_open();
        }
        let (reply, receiver) = oneshot::channel();
        self.engine.close(Box::new(move |result| {
            let _ = reply.send(result);
        }));
        // An engine that is gone has closed.
        receiver.await.unwrap_or(Ok(()))
    }

    pub(super) async fn stats(&self) -> Result<Stats> {
        let wal_bytes = self.read(|snapshot| snapshot.wal_bytes()).await?;
        let counters = self.shared.counters();
        let (residency, resident_bytes) = self.shared.residency();
        Ok(Stats {
            head: self.shared.head(),
            batches: counters.batches,
            groups: counters.groups,
            largest_group: counters.largest_group,
            wal_bytes,
            checkpoints: counters.checkpoints,
            failed_checkpoints: counters.failed_checkpoints,
            last_checkpoint: counters.last_checkpoint,
            longest_checkpoint: counters.longest_checkpoint,
            residency,
            resident_bytes,
            watchers: self.shared.watcher_stats(),
        })
    }

    /// What the published state answers, if it is the newest and has the answer.
    fn at_hand<T>(
        &self,
        read: impl FnOnce(&Guard<Arc<Published>>) -> Option<Result<T>>,
    ) -> Option<Result<T>> {
        let current = self.shared.current();
        // Closing lets go of what tells whether it is the newest.
        if let Err(error) = self.shared.check_open() {
            return Some(Err(error));
        }
        let Some(published) = current else {
            self.engine.stale();
            return None;
        };
        read(&published)
    }

    /// What the whole projection answers, if it is in memory and the newest.
    fn folded<T>(&self, read: impl FnOnce(&Folded) -> Result<T>) -> Option<Result<T>> {
        self.at_hand(|published| published.kept.all().map(read))
    }

    /// A page of a scan, if its state is in memory.
    fn scan_at_hand(&self, scan: &Scan) -> Result<Option<Page>> {
        let page = |published: &Arc<Published>| -> Result<Option<Page>> {
            let Some(folded) = published.kept.all() else { return Ok(None) };
            let mut page = read::scan_folded(folded, &self.limits, scan)?;
            if let Some(next) = page.as_mut().and_then(|page| page.next.as_mut()) {
                let by = Arc::downgrade(&self.shared);
                next.pinned = Some(Pinned { published: published.clone(), by });
            }
            Ok(page)
        };
        self.shared.check_open()?;
        if let Some(Pinned { published, by }) = &scan.pinned
            && std::ptr::eq(by.as_ptr(), &raw const *self.shared)
        {
            return page(published);
        }
        self.at_hand(|published| page(published).transpose()).transpose()
    }

    /// Called when a watch has joined.
    pub(super) fn attend(&self) {
        self.engine.attend();
    }

    /// Starts to read a page of what a pattern may match, or of what that goes on with.
    pub(super) fn start_snapshot(
        &self,
        pattern: &Pattern,
        next: Option<Scan>,
    ) -> oneshot::Receiver<Result<Page>> {
        let scan = next.unwrap_or_else(|| Scan::prefix(pattern.prefix()));
        let at_hand = match pattern.key() {
            Some(key) => self.folded(|folded| read::get_many(folded, &[key])),
            None => self.scan_at_hand(&scan).transpose(),
        };
        if let Some(page) = at_hand {
            let (reply, receiver) = oneshot::channel();
            let _ = reply.send(page);
            return receiver;
        }
        let (key, limits) = (pattern.key().map(str::to_owned), self.limits.clone());
        self.start(move |snapshot| match key {
            Some(key) => read::get_many(snapshot, &[key]),
            None => read::scan(snapshot, &limits, &scan),
        })
    }

    fn pattern(&self, pattern: &str) -> Result<Pattern> {
        let pattern = pattern.parse()?;
        self.shared.check_open().map(|()| pattern)
    }

    /// Reads an entry from the storage, and keeps it.
    async fn read_entry(&self, key: &str) -> Result<Option<Entry>> {
        let (key, shared) = (key.to_owned(), self.shared.clone());
        self.read(move |snapshot| {
            let entry = snapshot.entry(&key)?;
            if let Some(entry) = &entry {
                shared.remember(snapshot, entry)?;
            }
            Ok(entry)
        })
        .await
    }
}

/// A read that sends what it answers.
pub(super) fn answered<T: Send + 'static>(
    read: impl FnOnce(&dyn Snapshot) -> Result<T> + Send + 'static,
) -> (Read, oneshot::Receiver<Result<T>>) {
    let (reply, receiver) = oneshot::channel();
    let read = move |snapshot: Result<&dyn Snapshot>| {
        // Nobody waits for a read whose caller is gone.
        if !reply.is_closed() {
            let answer = snapshot.and_then(read);
            undisturbed(|| drop(reply.send(answer)));
        }
    };
    (Box::new(read), receiver)
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            return; // It is its parent's to close.
        }
        let (reply, receiver) = std::sync::mpsc::channel();
        self.engine.close(Box::new(move |result| {
            let _ = reply.send(result);
        }));
        // Nobody is left to tell; what was acknowledged is recorded.
        let _ = receiver.recv_timeout(DROP_WAIT);
    }
}

#[async_trait]
impl StateStore for Core {
    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        let batch = batch.bounded(&self.limits)?;
        self.shared.check_open()?;
        if self.read_only {
            return Err(StateError::ReadOnly);
        }
        let share = (batch.size() / QUEUE_UNIT + 1).min(QUEUE_BYTES / QUEUE_UNIT);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        // Mostly there is room; asking for it first costs no turn of the runtime.
        let room = match self.queue.clone().try_acquire_many_owned(share) {
            Ok(room) => room,
            Err(_) => self.queue.clone().acquire_many_owned(share).await.map_err(|_| StateError::Closed)?,
        };
        let (reply, receiver) = oneshot::channel();
        self.shared.check_open()?;
        self.engine.order(Order { batch, reply, room });
        receiver.await.unwrap_or(Err(StateError::Closed))
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        validate_key(key)?;
        consume_budget().await;
        match self.at_hand(|published| published.kept.entry(key)) {
            Some(entry) => entry,
            None => self.read_entry(key).await,
        }
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Page> {
        Exceeded::check(keys.len(), self.limits.page_entries, "keys", || "get_many".into())?;
        keys.iter().try_for_each(|key| validate_key(key))?;
        consume_budget().await;
        if let Some(page) = self.folded(|folded| read::get_many(folded, keys)) {
            return page;
        }
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        self.read(move |snapshot| read::get_many(snapshot, &keys)).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        validate_prefix(&scan.prefix)?;
        consume_budget().await;
        if let Some(page) = self.scan_at_hand(&scan).transpose() {
            return page;
        }
        let limits = self.limits.clone();
        self.read(move |snapshot| read::scan(snapshot, &limits, &scan)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        validate_prefix(prefix)?;
        consume_budget().await;
        if let Some(keys) = self.folded(|folded| read::list(folded, prefix)) {
            return keys;
        }
        let prefix = prefix.to_owned();
        self.read(move |snapshot| read::list(snapshot, &prefix)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        validate_key(key)?;
        consume_budget().await;
        if let Some(slot) = self.at_hand(|published| published.kept.slot(key)) {
            return Ok(slot?.is_some_and(|slot| slot.is_live()));
        }
        let key = key.to_owned();
        self.read(move |snapshot| snapshot.exists(&key)).await
    }

    async fn version(&self, key: &str) -> Result<u64> {
        validate_key(key)?;
        consume_budget().await;
        if let Some(slot) = self.at_hand(|published| published.kept.slot(key)) {
            return Ok(slot?.map_or(0, |slot| slot.live_version()));
        }
        let key = key.to_owned();
        self.read(move |snapshot| Ok(snapshot.slot(&key)?.map_or(0, |slot| slot.live_version()))).await
    }

    async fn head(&self) -> Result<Head> {
        consume_budget().await;
        if let Some(head) = self.at_hand(|published| Some(Ok(published.head))) {
            return head;
        }
        self.read(|snapshot| Ok(snapshot.tip()?.head)).await
    }

    async fn changes(&self, after: Seq, limit: usize) -> Result<Vec<Commit>> {
        self.read(move |snapshot| read::changes(snapshot, after, limit)).await
    }

    async fn history(&self, key: &str, before: Option<Seq>, limit: usize) -> Result<Vec<Change>> {
        validate_key(key)?;
        let key = key.to_owned();
        self.read(move |snapshot| read::history(snapshot, &key, before, limit)).await
    }

    fn watch_with_snapshot(&self, pattern: &str) -> Result<SnapshotWatch> {
        let pattern = self.pattern(pattern)?;
        Ok(SnapshotWatch::new(self.this.clone(), self.shared.clone(), pattern))
    }

    async fn at(&self, point: Point) -> Result<Past> {
        let (head, at) = self.read(move |snapshot| point::find(snapshot, point)).await?;
        Ok(Past::new(self.this.upgrade().ok_or(StateError::Closed)?, head, at))
    }

    async fn diff(&self, diff: Diff) -> Result<DiffPage> {
        diff.check()?;
        let limits = self.limits.clone();
        self.read(move |snapshot| super::diff::diff(snapshot, &limits, &diff)).await
    }

    async fn list_deleted(&self, prefix: &str) -> Result<Vec<DeletedKey>> {
        validate_prefix(prefix)?;
        let prefix = prefix.to_owned();
        self.read(move |snapshot| as_of::list_deleted_now(snapshot, &prefix)).await
    }

    fn watch(&self, pattern: &str) -> Result<WatchStream> {
        let (pattern, shared) = (self.pattern(pattern)?, self.shared.clone());
        let head = self.engine.now()?;
        let stream = WatchStream::from_head(self.this.clone(), shared, pattern, head);
        self.engine.attend();
        Ok(stream)
    }

    fn watch_after(&self, pattern: &str, after: Cursor) -> Result<WatchStream> {
        let (pattern, shared) = (self.pattern(pattern)?, self.shared.clone());
        after.belongs_to(shared.store)?;
        let stream = WatchStream::after(self.this.clone(), shared, pattern, after);
        self.engine.attend();
        Ok(stream)
    }
}
