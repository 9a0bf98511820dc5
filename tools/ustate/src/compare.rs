//! Whether two states are the same.

use std::collections::VecDeque;

use univrs_state::history::Past;
use univrs_state::{Entry, Result, Scan};

/// What a comparison found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Keys that are the same, up to the first difference.
    pub(crate) keys: u64,
    /// The first thing that differs.
    pub(crate) differs: Option<String>,
}

/// Compares heads, keys, values, versions and times.
pub(crate) async fn compare(one: &Past, other: &Past) -> Result<Comparison> {
    if one.head() != other.head() {
        let differs = Some(format!("its head is {}, not {}", other.head(), one.head()));
        return Ok(Comparison { keys: 0, differs });
    }
    entries(one, other).await
}

async fn entries(one: &Past, other: &Past) -> Result<Comparison> {
    let mut comparison = Comparison { keys: 0, differs: None };
    let (mut ones, mut others) = (Rows::of(one), Rows::of(other));
    loop {
        match (ones.next().await?, others.next().await?) {
            (None, None) => return Ok(comparison),
            (one, other) if one == other => comparison.keys += 1,
            (Some((key, _)), None) => comparison.differs = Some(format!("{key} is missing")),
            (None, Some((key, _))) => comparison.differs = Some(format!("{key} should not be there")),
            (Some((one, _)), Some((other, _))) if one == other => {
                comparison.differs = Some(format!("{one} is not what it was"));
            }
            (Some((one, _)), Some((other, _))) if one < other => {
                comparison.differs = Some(format!("{one} is missing"));
            }
            (Some(_), Some((other, _))) => {
                comparison.differs = Some(format!("{other} should not be there"));
            }
        }
        if comparison.differs.is_some() {
            return Ok(comparison);
        }
    }
}

/// The entries of a state, in the order of keys; none for those whose value is gone.
struct Rows<'a> {
    past: &'a Past,
    next: Option<Scan>,
    read: VecDeque<(String, Option<Entry>)>,
}

impl<'a> Rows<'a> {
    fn of(past: &'a Past) -> Self {
        Self { past, next: Some(Scan::prefix("/").skip_erased()), read: VecDeque::new() }
    }

    async fn next(&mut self) -> Result<Option<(String, Option<Entry>)>> {
        while self.read.is_empty()
            && let Some(scan) = self.next.take()
        {
            let page = self.past.scan(scan).await?;
            let erased = page.erased.into_iter().map(|key| (key, None));
            let mut rows: Vec<_> = page
                .entries
                .into_iter()
                .map(|entry| (entry.key.clone(), Some(entry)))
                .chain(erased)
                .collect();
            rows.sort_by(|one, other| one.0.cmp(&other.0));
            self.read.extend(rows);
            self.next = page.next;
        }
        Ok(self.read.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use univrs_state::{Batch, MemoryStore, Seq, StateStore};

    #[tokio::test]
    async fn the_first_difference_is_found_and_named() {
        let store = MemoryStore::new();
        let many = (0..2_500).fold(Batch::new(), |batch, n| batch.set(format!("/k/{n:04}"), "x"));
        store.commit(many).await.unwrap();
        store.set("/k/1200", b"y".to_vec()).await.unwrap();
        store.delete("/k/2499").await.unwrap();
        store.set("/a", b"new".to_vec()).await.unwrap();
        let at = async |seq| store.at(Seq::new(seq).into()).await.unwrap();
        let found = async |one, other| {
            let Comparison { keys, differs } = entries(&at(one).await, &at(other).await).await.unwrap();
            (keys, differs)
        };
        let differs = |what: &str| Some(what.to_owned());
        assert_eq!(found(2_500, 2_500).await, (2_500, None));
        assert_eq!(found(0, 0).await, (0, None));
        assert_eq!(found(2_500, 2_501).await, (1_200, differs("/k/1200 is not what it was")));
        assert_eq!(found(2_501, 2_502).await, (2_499, differs("/k/2499 is missing")));
        assert_eq!(found(2_502, 2_501).await, (2_499, differs("/k/2499 should not be there")));
        assert_eq!(found(2_502, 2_503).await, (0, differs("/a should not be there")));
        assert_eq!(found(2_503, 2_502).await, (0, differs("/a is missing")));
        let other = compare(&at(2_503).await, &at(2_502).await).await.unwrap().differs.unwrap();
        assert!(other.starts_with("its head is 2502:"), "{other}");
    }
}
