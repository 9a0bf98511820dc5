//! The entry of a consumer, as the one knows it that took it over.

use std::sync::Arc;

use crate::error::{Result, StateError};
use crate::failpoint::failpoint;
use crate::key::{CONSUMERS_PREFIX, validate_name};
use crate::log::{Cursor, Meta};
use crate::state::{Batch, ConsumerRecord};
use crate::store::open_store::OpenStore;
use crate::store::receipt::Receipt;

/// The key of the consumer with this name.
pub(super) fn key_of(name: &str) -> Result<String> {
    validate_name(name, "a consumer")?;
    Ok(format!("{CONSUMERS_PREFIX}{name}"))
}

/// The record under a key and its version; no record and 0 if there is none.
pub(super) async fn recorded(store: &OpenStore, key: &str) -> Result<(Option<ConsumerRecord>, u64)> {
    let Some(entry) = store.entry(key).await? else { return Ok((None, 0)) };
    Ok((Some(ConsumerRecord::decode(key, &entry.value)?), entry.version))
}

/// A batch that writes a record on condition that the one before it has this version.
pub(super) fn written(effects: Batch, key: &str, version: u64, record: &ConsumerRecord) -> Batch {
    effects.expect(key, version).set(key, record.encode()).may_write(CONSUMERS_PREFIX)
}

/// A consumer's own entry. Every write is conditional on the version that this one wrote, so that of two who believe to
/// have a consumer one is refused.
pub(super) struct Claim {
    pub(super) store: Arc<OpenStore>,
    /// The metadata of the handle.
    pub(super) meta: Arc<Meta>,
    pub(super) key: String,
    pub(super) record: ConsumerRecord,
    /// The version of the entry with this record.
    pub(super) version: u64,
}

impl Claim {
    /// Records effects and a position together. `None` if an earlier batch had recorded this position, whose outcome
    /// was not known: then its effects are there, and not these.
    pub(super) async fn record(&mut self, effects: &Batch, to: Cursor) -> Result<Option<Receipt>> {
        let record = self.record.moved_to(to);
        if failpoint("position_and_effect_apart") && !effects.is_empty() {
            self.store.order(effects.clone().stamped(&self.meta)).await?;
        }
        let write = |claim: &Self| {
            let effects = if failpoint("position_and_effect_apart") { Batch::new() } else { effects.clone() };
            written(effects, &claim.key, claim.version, &record).stamped(&claim.meta)
        };
        let receipt = self.order(write, to).await?;
        if let Some(receipt) = &receipt {
            let version = receipt.versions.last().copied().unwrap_or_default();
            if version != self.version + 1 {
                // It is the receipt of an earlier batch with this id, which moved the position less far.
                return Err(StateError::CommitIdReused(effects.id().unwrap_or_default().to_owned()));
            }
            (self.record, self.version) = (record, version);
        }
        Ok(receipt)
    }

    /// Judges a batch that writes nothing by its conditions.
    pub(super) async fn judge(&mut self, conditions: &Batch, to: Cursor) -> Result<()> {
        let judge = |claim: &Self| conditions.clone().expect(&claim.key, claim.version);
        self.order(judge, to).await.map(drop)
    }

    /// Orders a batch, once more if the entry had a record of this consumer that it did not know. `None` if that has
    /// the position already.
    async fn order(&mut self, batch: impl Fn(&Self) -> Batch, to: Cursor) -> Result<Option<Receipt>> {
        loop {
            match self.store.order(batch(self)).await {
                Err(refused @ StateError::Rejected(_)) => {
                    if !self.look().await? {
                        return Err(refused);
                    }
                    if self.record.cursor.seq() >= to.seq() {
                        return Ok(None);
                    }
                }
                receipt => return receipt.map(Some),
            }
        }
    }

    /// An error if somebody else has taken the consumer over.
    pub(super) async fn check(&mut self) -> Result<()> {
        if self.store.version_of(&self.key).await? == self.version {
            return Ok(());
        }
        self.look().await.map(drop)
    }

    /// Whether a record is of this consumer, behind the one that it knew. Nobody else writes the next version without
    /// counting up the generation; a removal is a version, too.
    fn is_of_this(&self, record: &ConsumerRecord, version: u64) -> bool {
        failpoint("fence_forgotten")
            || version == self.version + 1 && record.generation == self.record.generation
    }

    /// Looks at the entry after a batch was refused. Returns whether it has another record than this one knew, which is
    /// then known: that of an earlier batch of this consumer, whose outcome was not known.
    async fn look(&mut self) -> Result<bool> {
        let (record, version) = recorded(&self.store, &self.key).await?;
        match record {
            Some(_) if version == self.version => Ok(false),
            Some(record) if self.is_of_this(&record, version) => {
                (self.record, self.version) = (record, version);
                Ok(true)
            }
            Some(record) => Err(StateError::Fenced(format!(
                "{} was taken over: its generation is {}, and this consumer opened it as generation {}",
                self.key, record.generation, self.record.generation
            ))),
            None => Err(StateError::Fenced(format!(
                "{} was removed, and this consumer opened it as generation {}",
                self.key, self.record.generation
            ))),
        }
    }
}
