//! Reading a log and its fold in memory.

use std::ops::ControlFlow;

use super::Memory;
use crate::backend::{
    Link, Linked, LogView, Row, Snapshot, Valued, View, Visit, VisitKey, VisitRow, VisitView, missing,
};
use crate::error::{Result, StateError};
use crate::key::KeyRange;
use crate::log::{Change, Hash, Head, LastMeta, StoreId, Tip, jump_version};
use crate::seq::Seq;
use crate::state::{Entry, Floor, KeyVersion, RowView, Thinning};

impl View for Memory {
    fn store_id(&self) -> StoreId {
        self.folded.store_id()
    }

    fn head(&self) -> Result<Head> {
        self.folded.head()
    }

    fn entry(&self, key: &str) -> Result<Option<Entry>> {
        self.folded.entry(key)
    }

    fn key_version(&self, key: &str) -> Result<Option<KeyVersion>> {
        self.folded.key_version(key)
    }

    fn rows(
        &self,
        range: &KeyRange,
        after: Option<&str>,
        deleted: bool,
        visit: &mut Visit<'_, Row>,
    ) -> Result<()> {
        self.folded.rows(range, after, deleted, visit)
    }

    fn keys(&self, range: &KeyRange, visit: &mut VisitKey<'_>) -> Result<()> {
        self.folded.keys(range, visit)
    }
}

impl LogView for Memory {
    fn tip(&self) -> Result<Tip> {
        Ok(self.end())
    }

    fn change(&self, seq: Seq) -> Result<Option<Change>> {
        if self.withheld(seq).is_some() {
            return Err(StateError::Erased(format!("change {seq} is withheld; only its hash is known")));
        }
        match self.log.at(seq) {
            None if seq > Seq::ZERO && seq <= self.floor.seq() => Err(self.floor.compacted(seq)),
            found => Ok(found.cloned()),
        }
    }

    fn link(&self, seq: Seq) -> Result<Option<Link>> {
        let link = |change: &Change| Link {
            seq,
            at: change.at,
            key: change.key.clone(),
            version: change.version,
            prev: change.prev,
            jump: self.of_version(&change.key, jump_version(change.version)).unwrap_or(Seq::ZERO),
        };
        Ok(self.log.at(seq).map(link))
    }

    fn changes(&self, after: Seq, visit: &mut Visit<'_, Change>) -> Result<()> {
        for change in self.log.after_seq(after) {
            if visit(change.clone())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn linked(&self, after: Seq, to: Seq, visit: &mut Visit<'_, Linked>) -> Result<()> {
        for change in self.log.after_seq(after).take_while(|change| change.seq <= to) {
            let linked = self.log.linked(change).ok_or_else(|| missing(change.seq.previous()))?;
            if visit(linked)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn replaced(&self, after: Seq, to: Seq, visit: &mut Visit<'_, (Seq, Seq)>) -> Result<()> {
        for change in self.log.after_seq(after).take_while(|change| change.seq <= to) {
            if visit((change.seq, change.prev))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn valued(&self, after: Seq, to: Seq, visit: &mut Visit<'_, Valued>) -> Result<()> {
        for change in self.log.after_seq(after).take_while(|change| change.seq <= to) {
            let Some(value) = &change.value else { continue };
            let bytes = value.len() as u64;
            if visit(Valued { seq: change.seq, key: change.key.clone(), bytes })?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn changes_below(
        &self,
        prefix: &str,
        after: Seq,
        until: Seq,
        visit: &mut Visit<'_, Change>,
    ) -> Result<()> {
        let within = self.log.after_seq(after).take_while(|change| change.seq <= until);
        for change in within.filter(|change| change.key.starts_with(prefix)) {
            if visit(change.clone())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn views(&self, after: Seq, visit: &mut VisitView<'_>) -> Result<()> {
        let mut last = LastMeta::default();
        for change in self.log.after_seq(after) {
            let meta = change.meta.as_ref().map(|meta| last.encode(meta));
            if visit(&change.view(meta))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn withheld(&self, seq: Seq) -> Option<Hash> {
        self.log.withheld(seq)
    }

    fn is_whole(&self) -> bool {
        self.folded.missing.is_nothing()
    }

    fn is_export(&self) -> bool {
        self.export
    }

    fn floor(&self) -> Result<Floor> {
        Ok(self.floor.clone())
    }

    fn thinning(&self) -> Result<Option<Thinning>> {
        Ok(self.thinning.clone())
    }

    fn hash_at(&self, seq: Seq) -> Result<Option<Hash>> {
        Ok(if seq == self.floor.seq() { Some(self.floor.head.hash) } else { self.log.hash_at(seq) })
    }

    fn commit_end(&self, seq: Seq) -> Result<Head> {
        let mut seq = seq.min(self.folded.head.seq);
        loop {
            if seq <= self.floor.seq() {
                return Ok(self.floor.head);
            }
            // Where a change is withheld, it is unknown whether a commit ends there.
            let inside = self.log.at(seq).is_some_and(|change| !change.closes_commit());
            match self.hash_at(seq)? {
                Some(hash) if !inside => return Ok(Head { seq, hash }),
                Some(_) => seq = seq.previous(),
                None => return Err(missing(seq)),
            }
        }
    }
}

impl Snapshot for Memory {
    fn every_row(&self, visit: &mut VisitRow<'_>) -> Result<()> {
        for last in self.folded.projection.range(&KeyRange::prefix(""), None) {
            let KeyVersion { version, seq, .. } = last.key_version;
            let times = last.key_version.created_at().map(|created_at| (created_at, last.at));
            let (until, value) = (last.until, last.value.as_deref());
            let row = RowView { key: &last.key, version, seq, times, until, value };
            if visit(&row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn tombstones(&self, range: &KeyRange, visit: &mut Visit<'_, Row>) -> Result<()> {
        self.rows(range, None, true, &mut |row| match row {
            Row::Deleted { .. } => visit(row),
            _ => Ok(ControlFlow::Continue(())),
        })
    }

    fn remembered(&self, commit_id: &str) -> Result<Option<(Seq, Seq)>> {
        Ok(self.commit_ids.get(commit_id).copied())
    }

    fn commit_ids(&self, visit: &mut Visit<'_, (String, Seq, Seq)>) -> Result<()> {
        for (id, (first, last)) in self.commit_ids.iter().filter(|(_, (_, last))| *last > self.floor.seq()) {
            if visit((id.clone(), *first, *last))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}
