//! Operations, brought to a store; answers, in the words of histories.

use std::sync::Arc;

use univrs_state::error::FailedCondition;
use univrs_state::{Batch, Entry, Meta, Page, Scan, StateError, StateStore, TransactionOp};

use super::operation::{Answer, Condition, Failed, Operation, Verb, Write};

/// Asks a store; the answer in the words of histories.
pub(crate) async fn perform(store: &Arc<dyn StateStore>, operation: &Operation) -> Answer {
    let answer = match operation {
        Operation::Write(write) => bring(store, write).await,
        Operation::Get(key) => store.get(key).await.map(Answer::Entry),
        Operation::Exists(key) => store.exists(key).await.map(Answer::Exists),
        Operation::Version(key) => store.version(key).await.map(Answer::Version),
        Operation::List(prefix) => store.list(prefix).await.map(Answer::Keys),
        Operation::Head => store.head().await.map(|head| Answer::Position(head.seq.as_u64())),
        Operation::Watch(pattern) => {
            store.watch(pattern).map(|watch| Answer::Position(watch.cursor().seq().as_u64()))
        }
        Operation::GetMany(keys) => {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            store.get_many(&keys).await.map(|page| pages(vec![page]))
        }
        Operation::Scan(prefix, limit) => scan(store, prefix, *limit).await.map(pages),
    };
    answer.unwrap_or_else(refusal)
}

async fn scan(store: &Arc<dyn StateStore>, prefix: &str, limit: usize) -> Result<Vec<Page>, StateError> {
    let mut pages = vec![store.scan(Scan::prefix(prefix).limit(limit)).await?];
    while let Some(next) = pages.last().and_then(|page| page.next.clone()) {
        pages.push(store.scan(next).await?);
    }
    Ok(pages)
}

fn pages(pages: Vec<Page>) -> Answer {
    let places = pages.iter().map(|page| page.cursor.seq().as_u64()).collect();
    let entries: Vec<Entry> = pages.into_iter().flat_map(|page| page.entries).collect();
    Answer::Pages(places, entries)
}

async fn bring(store: &Arc<dyn StateStore>, write: &Write) -> Result<Answer, StateError> {
    let store = store.with_meta(Meta::new().correlation(&write.tag));
    let expected = || match write.conditions[..] {
        [Condition::Version { expected, .. }] => expected,
        _ => panic!("a compare-and-set has one condition"),
    };
    let (key, value) = &write.writes[0];
    let value = || value.clone().unwrap().into_bytes();
    Ok(match write.verb {
        Verb::Set => Answer::Version(store.set(key, value()).await?),
        Verb::Delete => store.delete(key).await.map(|()| Answer::Deleted)?,
        Verb::CompareAndSet => Answer::Version(store.compare_and_set(key, expected(), value()).await?),
        Verb::Create => Answer::Version(store.create_if_not_exists(key, value()).await?),
        Verb::Transaction => receipt(&store.transaction(operations(write)).await?),
        Verb::Commit => receipt(&store.commit(batch(write)).await?),
    })
}

fn receipt(receipt: &univrs_state::Receipt) -> Answer {
    assert_eq!(receipt.head.seq, receipt.last);
    let (first, last) = (receipt.first.as_u64(), receipt.last.as_u64());
    Answer::Receipt { first, last, versions: receipt.versions.clone() }
}

fn operations(write: &Write) -> Vec<TransactionOp> {
    let conditions = write.conditions.iter().map(|condition| match condition {
        Condition::Version { key, expected } => TransactionOp::check_version(key, *expected),
        Condition::Unchanged { .. } => panic!("a transaction knows no such condition"),
    });
    let writes = write.changes().map(|(key, value)| match value {
        Some(value) => TransactionOp::set(key, value),
        None => TransactionOp::delete(key),
    });
    conditions.chain(writes).collect()
}

fn batch(write: &Write) -> Batch {
    let conditions = write.conditions.iter().fold(Batch::new(), |batch, condition| match condition {
        Condition::Version { key, expected } => batch.expect(key, *expected),
        Condition::Unchanged { prefix, since } => batch.expect_unchanged_since(prefix, *since),
    });
    let batch = write.changes().fold(conditions, |batch, (key, value)| match value {
        Some(value) => batch.set(key, value),
        None => batch.delete(key),
    });
    match &write.commit_id {
        Some(id) => batch.commit_id(id),
        None => batch,
    }
}

fn refusal(error: StateError) -> Answer {
    match error {
        StateError::VersionConflict { expected, found } => Answer::Conflict { expected, found },
        StateError::AlreadyExists(_) => Answer::AlreadyExists,
        StateError::Rejected(rejection) => {
            Answer::Refused(rejection.failed.into_iter().map(failed).collect())
        }
        StateError::Busy(_) => Answer::Busy,
        StateError::OutcomeUnknown(_) => Answer::Unknown,
        StateError::Closed => Answer::Closed,
        error => Answer::Failed(error.to_string()),
    }
}

fn failed(condition: FailedCondition) -> Failed {
    match condition {
        FailedCondition::Version { key, expected, found } => Failed::Version { key, expected, found },
        FailedCondition::ChangedSince { prefix, expected, found, key } => {
            Failed::Changed { prefix, since: expected.as_u64(), found: found.as_u64(), key }
        }
        other => panic!("{other:?} is not known here"),
    }
}
