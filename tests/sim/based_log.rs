//! A log with compactions, as it stands before they take anything from it, and the files of what they leave.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::audit::{Form, LogWriter, Start};
use crate::log::{
    BaseDigest, Change, ChangeKind, Draft, Hash, Head, Meta, Prev, StoreId, Timestamp, Tip, seal,
};
use crate::options::{Clock, Entropy};
use crate::pattern::Pattern;
use crate::retain::{Compact, Retention};
use crate::seq::Seq;
use crate::{Batch, MemoryStore, Options, StateStore};

pub(super) const STORE: StoreId = StoreId::from_bytes([0xba; 16]);
pub(super) const COMPACTION: &str = "/.univrs/compaction";

/// A clock that stands, so that each commit is a microsecond after the one before, and salts that are all the same: what is
/// written does not depend on how often they are asked.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_767_225_600_000_000)
    }
}

impl Entropy for Still {
    fn fill(&self, buffer: &mut [u8]) -> bool {
        buffer.fill(7);
        true
    }
}

/// A store, and all changes that it ever had, also those that a compaction has dropped.
pub(super) struct Log {
    store: MemoryStore,
    pub(super) changes: Vec<Change>,
}

/// What a compaction leaves.
#[derive(Clone, Copy)]
pub(super) struct Compaction {
    pub(super) floor: u64,
    pub(super) keep: &'static [&'static str],
    pub(super) forget: bool,
}

/// What a file withholds, beside what it leaves out.
#[derive(Clone, Copy, Default)]
pub(super) struct Without {
    pub(super) keys: Option<&'static str>,
    pub(super) values: bool,
    /// Whether it withholds the keys in its base alone.
    pub(super) in_base: bool,
}

pub(super) const PLAIN: Compaction = Compaction { floor: 9, keep: &[], forget: false };

impl Log {
    /// Changes of several kinds: `/a` is updated before the floor 9 and after it, `/b` is deleted before it, `/e` at it and
    /// set again after it, and `/k/1` has a history before it.
    pub(super) async fn new() -> Self {
        let options = Options::new().clock(Still).entropy(Still).store_id(STORE);
        let store = options.memory().unwrap();
        let meta = Meta::new().actor("a").label("zone", "b");
        for batch in [
            Batch::new().set("/a", "1").set("/b", "2").set("/c/d", "3").meta(meta),
            Batch::new().set("/a", "4"),
            Batch::new().delete("/b"),
            Batch::new().set("/k/1", "5").set("/k/1", "6"),
            Batch::new().set("/e", ""),
            Batch::new().delete("/e"),
            Batch::new().set("/a", "7").set("/n", "8"),
            Batch::new().set("/e", "9"),
        ] {
            store.commit(batch).await.unwrap();
        }
        let mut log = Self { store, changes: Vec::new() };
        log.catch_up().await;
        log
    }

    /// Takes what the store has recorded since.
    async fn catch_up(&mut self) {
        let last = self.changes.last().map_or(Seq::ZERO, |last| last.seq);
        let commits = self.store.changes(last, 100).await.unwrap();
        self.changes.extend(commits.into_iter().flat_map(|commit| commit.changes));
    }

    /// Compacts the store, and sets `/b` again, which may have been forgotten.
    pub(super) async fn compact(&mut self, compaction: Compaction) {
        let mut compact = Compact::before(Seq::new(compaction.floor)).force();
        for pattern in compaction.keep {
            compact = compact.keep(pattern.parse().unwrap());
        }
        if compaction.forget {
            compact = compact.forget();
        }
        let left = self.store.compact(compact).await.unwrap();
        self.store.set("/b", b"again".to_vec()).await.unwrap();
        self.catch_up().await;
        assert_eq!((left.left, left.digest), (self.left(compaction).len() as u64, self.digest(compaction)));
    }

    pub(super) fn tip(&self) -> Tip {
        let last = self.changes.last().unwrap();
        Tip { head: last.head(), at: last.at }
    }

    /// The change at a position.
    pub(super) fn at(&self, seq: u64) -> &Change {
        &self.changes[usize::try_from(seq).unwrap() - 1]
    }

    /// The chain before a position.
    pub(super) fn before(&self, seq: Seq) -> Hash {
        if seq == Seq::new(1) { Head::genesis(STORE).hash } else { self.at(seq.as_u64() - 1).hash }
    }

    /// Appends a change of a key of the store itself, with a cause.
    pub(super) fn record(&mut self, key: &str, value: &str, cause: &str) {
        let last = self.changes.iter().rev().find(|change| &*change.key == key);
        let draft = Draft {
            kind: if last.is_some() { ChangeKind::Updated } else { ChangeKind::Created },
            key: key.into(),
            version: last.map_or(0, |last| last.version) + 1,
            created_at: last.map(|last| last.created_at),
            prev: Prev::Recorded(last.map_or(Seq::ZERO, |last| last.seq)),
            until: None,
            value: Some(value.as_bytes().into()),
        };
        self.append(draft, Some(cause));
    }

    /// Appends a first change of a key, of this version.
    pub(super) fn create(&mut self, key: &str, version: u64, cause: Option<&str>) {
        let draft = Draft {
            kind: ChangeKind::Created,
            key: key.into(),
            version,
            created_at: None,
            prev: Prev::Recorded(Seq::ZERO),
            until: None,
            value: Some(Arc::default()),
        };
        self.append(draft, cause);
    }

    fn append(&mut self, draft: Draft, cause: Option<&str>) {
        let meta = cause.map(|cause| Arc::new(Meta { cause: Some(cause.into()), ..Meta::new() }));
        let (tip, salt) = (self.tip(), [0xee; 16]);
        self.changes.extend(seal(vec![draft], meta.as_ref(), tip, tip.at, || salt).0);
    }

    /// The changes that a compaction leaves at or before its floor: those from which none there goes on, and histories.
    pub(super) fn left(&self, compaction: Compaction) -> Vec<&Change> {
        let below = || self.changes.iter().take_while(|change| change.seq.as_u64() <= compaction.floor);
        let superseded: BTreeSet<Seq> = below().map(|change| change.prev).collect();
        let all: BTreeSet<Seq> = self.changes.iter().map(|change| change.prev).collect();
        let keep: Vec<Pattern> = compaction.keep.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let is_kept = |change: &Change| keep.iter().any(|pattern| pattern.matches(&change.key));
        let is_forgotten = |change: &Change| {
            let is_deleted = change.kind == ChangeKind::Deleted && change.seq.as_u64() < compaction.floor;
            compaction.forget && is_deleted && !all.contains(&change.seq)
        };
        let is_left = |change: &Change| !superseded.contains(&change.seq) && !is_forgotten(change);
        below().filter(|change| is_kept(change) || is_left(change)).collect()
    }

    pub(super) fn digest(&self, compaction: Compaction) -> Hash {
        let mut digest = BaseDigest::new(STORE, self.at(compaction.floor).head());
        for change in self.left(compaction) {
            digest.push(change.hash);
        }
        digest.finish()
    }

    /// The file of what a compaction leaves, and of all that comes after.
    pub(super) fn file(&self, compaction: Compaction, without: Without) -> Vec<u8> {
        self.written(compaction.floor, Some(&self.left(compaction)), without, Form::Cbor)
    }

    pub(super) fn written(
        &self,
        floor: u64,
        base: Option<&[&Change]>,
        without: Without,
        form: Form,
    ) -> Vec<u8> {
        let floor = self.at(floor);
        let count = base.map(|base| base.len() as u64);
        let start = Start { base: count, ..Start::new(STORE, floor.head(), Some(floor.at)) };
        let mut writer = LogWriter::new(Vec::new(), form, &start).unwrap();
        let withheld: Option<Pattern> = without.keys.map(|keys| keys.parse().unwrap());
        let is_withheld = |change: &Change| withheld.as_ref().is_some_and(|keys| keys.matches(&change.key));
        let shown = |change: &Change| {
            let is_redacted = without.values && !change.key.starts_with("/.univrs/");
            let Change { value, salt, .. } = change.clone();
            let (value, salt) = if is_redacted { (None, None) } else { (value, salt) };
            Change { value, salt, ..change.clone() }
        };
        for change in base.unwrap_or_default() {
            let before = self.before(change.seq);
            if is_withheld(change) {
                writer.withheld_base(before, change.header_hash()).unwrap();
                continue;
            }
            let (change, meta) = (shown(change), change.meta.as_ref().map(|meta| meta.encode()));
            writer.base(before, &change.view(meta.as_deref()), &change.header()).unwrap();
        }
        let after: Vec<&Change> = self.changes.iter().skip_while(|change| change.seq <= floor.seq).collect();
        for change in &after {
            if !without.in_base && is_withheld(change) {
                writer.withheld(change.header_hash(), change.head()).unwrap();
                continue;
            }
            let (change, meta) = (shown(change), change.meta.as_ref().map(|meta| meta.encode()));
            writer.change(&change.view(meta.as_deref()), &change.header()).unwrap();
        }
        writer.end(after.len() as u64, self.tip().head).unwrap()
    }
}

/// A log whose newest compaction left a base, which a file has.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) log: Log,
    pub(super) compaction: Compaction,
    pub(super) without: Without,
}

impl Case {
    pub(super) fn file(&self) -> Vec<u8> {
        self.log.file(self.compaction, self.without)
    }

    /// Whether the log says which base it left.
    pub(super) fn is_recorded(&self) -> bool {
        self.compaction.floor != UNRECORDED
    }
}

/// A floor at which nothing was compacted.
pub(super) const UNRECORDED: u64 = 5;

pub(super) async fn cases() -> Vec<Case> {
    let histories = Compaction { keep: &["/k/*", "/e"], ..PLAIN };
    let forgetting = Compaction { forget: true, ..PLAIN };
    let later = Compaction { floor: 14, ..PLAIN };
    let unrecorded = Compaction { floor: UNRECORDED, ..PLAIN };
    let all = Without::default();
    let mut cases = Vec::new();
    for (name, compaction, without) in [
        ("plain", PLAIN, all),
        ("with histories", histories, all),
        ("after keys were forgotten", forgetting, all),
        ("after a second compaction", later, all),
        ("of which the log says nothing", unrecorded, all),
        ("without a key", PLAIN, Without { keys: Some("/k/*"), ..all }),
        ("without all keys of programs", PLAIN, Without { keys: Some("/**"), ..all }),
        ("without values", histories, Without { values: true, ..all }),
    ] {
        let mut log = Log::new().await;
        log.compact(if compaction.floor == PLAIN.floor { compaction } else { PLAIN }).await;
        if compaction.floor == later.floor {
            log.compact(later).await;
        }
        cases.push(Case { name, log, compaction, without });
    }
    cases
}
