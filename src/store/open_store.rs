//! An open store: its state, and how reads and writes of it are started.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::backend::{FoldedState, Snapshot};
use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::limits::Limits;
use crate::log::{Anchor, Head, Timestamp};
use crate::pattern::Pattern;
use crate::state::{Batch, Entry, KeyVersion};
use crate::store::commit::rehearse;
use crate::store::engine::{Caller, CommitRequest, Engine, answered};
use crate::store::read::{Page, Scan, current};
use crate::store::receipt::Receipt;
use crate::store::resident::{Pinned, Published};
use crate::store::session::{Membership, Session};
use crate::store::stats::{Stats, above_cap};
use crate::sync::Guard;

/// How long dropping the last handle waits for the writer.
pub(crate) const DROP_WAIT: Duration = Duration::from_secs(5);

/// One opening of a store, with what belongs to it alone. It ends when its last handle is dropped.
pub(crate) struct OpenStore {
    /// A weak pointer to itself for its watches, so that they do not keep it open.
    this: Weak<OpenStore>,
    pub(crate) shared: Arc<Session>,
    pub(crate) engine: Arc<dyn Engine>,
    limits: Limits,
    read_only: bool,
    /// Whether the log is complete.
    whole: bool,
    membership: Membership,
}

impl OpenStore {
    pub(crate) fn new(membership: Membership, limits: Limits, (read_only, whole): (bool, bool)) -> Arc<Self> {
        let (shared, engine) = (membership.session.clone(), membership.engine().clone());
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            shared,
            engine,
            limits,
            read_only,
            whole,
            membership,
        })
    }

    /// Starts a read; the receiver fails if the store closes first.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Snapshot) -> Result<T> + Send + 'static,
    ) -> oneshot::Receiver<Result<T>> {
        let (read, receiver) = answered(read);
        if !self.shared.is_closed() {
            self.engine.start_read(read);
        }
        receiver
    }

    /// A weak pointer to itself, for watches and past states.
    pub(crate) fn weak(&self) -> Weak<Self> {
        self.this.clone()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) async fn read_snapshot<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.shared.check_open()?;
        self.start(read).await.unwrap_or_else(|_| Err(self.shared.unanswered()))
    }

    pub(crate) async fn close(&self) -> Result<()> {
        if self.shared.is_forked() {
            return self.shared.check_open();
        }
        let (reply, receiver) = oneshot::channel();
        self.membership.end(Box::new(move |result| {
            let _ = reply.send(result);
        }));
        // An engine that has ended is closed.
        receiver.await.unwrap_or(Ok(()))
    }

    pub(crate) async fn stats(&self) -> Result<Stats> {
        // A log whose end cannot be read has no newest time, but it has statistics.
        let read = |snapshot: &dyn Snapshot| {
            Ok((snapshot.tip().ok(), snapshot.floor().ok(), snapshot.thinning().ok().flatten()))
        };
        let (tip, floor, thinning) = self.read_snapshot(read).await?;
        let wal = self.engine.wal();
        let newest = tip.map_or(Timestamp::EPOCH, |tip| tip.at);
        let ahead_of_clock = self.engine.clock().ahead(newest).unwrap_or_default();
        let mut warnings = self.engine.clock().warnings(newest, ahead_of_clock);
        warnings.extend(above_cap(wal.used, wal.cap, &wal.readers));
        let counters = self.shared.counters();
        let (residency, resident_bytes) = self.shared.residency();
        Ok(Stats {
            head: self.shared.head(),
            batches: counters.batches,
            groups: counters.groups,
            largest_group: counters.largest_group,
            wal_bytes: wal.used,
            wal_file_bytes: wal.file,
            wal_readers: wal.readers,
            ahead_of_clock,
            unfinished_compaction: floor.filter(|floor| floor.unfinished.is_some()).map(|floor| floor.seq()),
            unfinished_thinning: thinning.map(|thinning| thinning.at),
            warnings,
            checkpoints: counters.checkpoints,
            failed_checkpoints: counters.failed_checkpoints,
            last_checkpoint: counters.last_checkpoint,
            longest_checkpoint: counters.longest_checkpoint,
            residency,
            resident_bytes,
            watch_bytes: self.shared.registry().budget().held() as u64,
            watchers: self.shared.watcher_stats(),
        })
    }

    /// An error if the store is closed or cannot be written.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.shared.check_open()?;
        if self.read_only { Err(StateError::ReadOnly) } else { Ok(()) }
    }

    /// Puts a batch into the queue, when there is room for it, and waits for its receipt.
    pub(crate) async fn order(&self, batch: Batch) -> Result<Receipt> {
        self.order_within(batch, &self.limits).await
    }

    /// The same, with other limits than those that the program has set for its own batches.
    pub(crate) async fn order_within(&self, batch: Batch, limits: &Limits) -> Result<Receipt> {
        let batch = batch.bounded(limits)?;
        self.check_writable()?;
        let (queue, share) = self.membership.queue(batch.size());
        // Mostly there is room. Trying first costs no turn of the runtime.
        let room = match queue.clone().try_acquire_many_owned(share) {
            Ok(room) => room,
            Err(_) => queue.clone().acquire_many_owned(share).await.map_err(|_| StateError::Closed)?,
        };
        let (reply, receiver) = oneshot::channel();
        self.shared.check_open()?;
        self.engine.order(CommitRequest { batch, caller: Caller::new(reply, room) });
        receiver.await.unwrap_or_else(|_| Err(self.shared.unanswered()))
    }

    /// What a batch would do now.
    pub(crate) async fn rehearse(&self, batch: Batch) -> Result<Vec<u64>> {
        let batch = batch.bounded(&self.limits)?;
        let (tip, receipt) = self.read_snapshot(move |snapshot| rehearse(snapshot, &batch)).await?;
        // A clock that leapt refuses every commit.
        self.engine.clock().now(tip.at)?;
        Ok(receipt.versions)
    }

    /// The end of the log.
    pub(crate) async fn newest(&self) -> Result<Head> {
        if let Some(head) = self.at_hand(|published| Some(Ok(published.head))) {
            return head;
        }
        self.read_snapshot(|snapshot| Ok(snapshot.tip()?.head)).await
    }

    /// The end of the log with the id of the store.
    pub(crate) async fn anchor(&self) -> Result<Anchor> {
        Ok(Anchor::new(self.shared.store, self.newest().await?))
    }

    /// Reads the published state, if it is the newest and has the answer.
    pub(crate) fn at_hand<T>(
        &self,
        read: impl FnOnce(&Guard<Arc<Published>>) -> Option<Result<T>>,
    ) -> Option<Result<T>> {
        let current = self.shared.current();
        // IMPORTANT: checked after `current`. Closing drops the index that shows whether the state is the newest.
        if let Err(error) = self.shared.check_open() {
            return Some(Err(error));
        }
        // IMPORTANT: no look at the files counts any more. The read that goes to the storage looks first; here it would
        // block a thread of the runtime for as long as the disk does not answer.
        if !self.shared.has_looked() {
            return None;
        }
        let Some(published) = current else {
            self.engine.stale();
            return None;
        };
        read(&published)
    }

    /// Reads the whole projection, if it is in memory and the newest.
    pub(crate) fn folded<T>(&self, read: impl FnOnce(&FoldedState) -> Result<T>) -> Option<Result<T>> {
        self.at_hand(|published| published.in_memory.all().map(read))
    }

    /// A page of a scan, if its state is in memory.
    pub(crate) fn scan_at_hand(&self, scan: &Scan) -> Result<Option<Page>> {
        let page = |published: &Arc<Published>| -> Result<Option<Page>> {
            let Some(folded) = published.in_memory.all() else { return Ok(None) };
            let mut page = current::scan_folded(folded, &self.limits, scan)?;
            if let Some(next) = page.as_mut().and_then(|page| page.next.as_mut()) {
                next.pinned = Some(Pinned { published: published.clone(), by: self.shared.instance });
            }
            Ok(page)
        };
        self.shared.check_open()?;
        if let Some(Pinned { published, by }) = &scan.pinned
            && *by == self.shared.instance
            && (!self.shared.registry().erased().is_after(published.head.seq)
                || failpoint("erased_kept_for_scan"))
        {
            if !self.shared.has_looked() {
                self.engine.stale();
            }
            return page(published);
        }
        self.at_hand(|published| page(published).transpose()).transpose()
    }

    /// Called when a watch has joined.
    pub(crate) fn attend(&self) {
        self.engine.attend();
    }

    /// Starts to read a page of the entries that a pattern may match, of about this many bytes, and hands it to `put`.
    /// `next` is the request of a further page.
    pub(crate) fn start_snapshot(
        &self,
        pattern: &Pattern,
        next: Option<Scan>,
        bytes: usize,
        put: impl FnOnce(Result<Page>) -> Result<()> + Send + 'static,
    ) -> oneshot::Receiver<Result<()>> {
        let key = if next.is_none() { pattern.key() } else { None };
        let scan = Scan { bytes, ..next.unwrap_or_else(|| Scan::prefix(pattern.prefix())) };
        let at_hand = match key {
            Some(key) => self.folded(|folded| current::get_many(folded, &[key])),
            None => self.scan_at_hand(&scan).transpose(),
        };
        if let Some(page) = at_hand {
            let (reply, receiver) = oneshot::channel();
            let _ = reply.send(put(page));
            return receiver;
        }
        let (key, limits) = (key.map(str::to_owned), self.limits.clone());
        self.start(move |snapshot| {
            put(match key {
                Some(key) => current::get_many(snapshot, &[key]),
                None => current::scan(snapshot, &limits, &scan),
            })
        })
    }

    /// Parses the pattern of a watch; an error if the log is incomplete, because a watch promises every change.
    pub(crate) fn watchable(&self, pattern: &str) -> Result<Pattern> {
        let pattern = pattern.parse()?;
        self.shared.check_open()?;
        if self.whole {
            Ok(pattern)
        } else {
            Err(StateError::Unsupported(
                "a part of a log cannot be watched, as changes would be missed: read its changes".into(),
            ))
        }
    }

    /// The current entry of a key: from memory, if the newest state has it there.
    pub(crate) async fn entry(&self, key: &str) -> Result<Option<Entry>> {
        match self.at_hand(|published| published.in_memory.entry(key)) {
            Some(entry) => entry,
            None => self.read_entry(key).await,
        }
    }

    /// The version of a key, 0 if it is absent: from memory, if the newest state has it there.
    pub(crate) async fn version_of(&self, key: &str) -> Result<u64> {
        let live = |known: Option<KeyVersion>| known.map_or(0, |known| known.live_version());
        if let Some(known) = self.at_hand(|published| published.in_memory.key_version(key)) {
            return known.map(live);
        }
        let key = key.to_owned();
        self.read_snapshot(move |snapshot| snapshot.key_version(&key).map(live)).await
    }

    /// A page of a scan: from memory, if its state is there.
    pub(crate) async fn page(&self, scan: Scan) -> Result<Page> {
        if let Some(page) = self.scan_at_hand(&scan).transpose() {
            return page;
        }
        let limits = self.limits.clone();
        self.read_snapshot(move |snapshot| current::scan(snapshot, &limits, &scan)).await
    }

    /// Reads an entry from the storage, and adds it to the cache.
    async fn read_entry(&self, key: &str) -> Result<Option<Entry>> {
        let (key, shared) = (key.to_owned(), self.shared.clone());
        self.read_snapshot(move |snapshot| {
            let entry = snapshot.entry(&key)?;
            if let Some(entry) = &entry {
                shared.remember(snapshot, entry)?;
            }
            Ok(entry)
        })
        .await
    }

    /// Runs a long read. `what` says to people what it is.
    pub(crate) async fn read_alone<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl FnOnce(&dyn Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let started = self.start_alone(what, read)?;
        self.finish_alone(started).await
    }

    /// Starts a long read beside the short ones, so that they need not wait for it.
    pub(crate) fn start_alone<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl FnOnce(&dyn Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        self.shared.check_open()?;
        let (read, receiver) = answered(read);
        self.engine.read_alone(what, read);
        Ok(receiver)
    }

    /// Waits for a long read.
    pub(crate) async fn finish_alone<T>(&self, started: oneshot::Receiver<Result<T>>) -> Result<T> {
        match started.await {
            // Closing interrupts a running statement, which is reported as a storage error.
            Err(_) | Ok(Err(_)) if self.shared.is_closed() => Err(StateError::Closed),
            result => result.unwrap_or_else(|_| Err(self.shared.unanswered())),
        }
    }
}

impl Drop for OpenStore {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            return; // In a fork: the parent closes it.
        }
        let (reply, receiver) = std::sync::mpsc::channel();
        self.membership.end(Box::new(move |result| {
            let _ = reply.send(result);
        }));
        // No caller is left to get the result. Everything acknowledged is recorded.
        let _ = receiver.recv_timeout(DROP_WAIT);
    }
}
