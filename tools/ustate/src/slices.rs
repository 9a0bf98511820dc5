//! Writing many keys in slices, each in a commit of its own.

use std::collections::BTreeSet;

use univrs_state::error::FailedCondition;
use univrs_state::{Receipt, Seq, StateError};

use crate::context::Context;
use crate::stop::{Done, Exit, Failure};
use crate::value::counted;

/// The most keys of a slice. With their conditions, and metadata and keys as long as they may be, they fit a commit.
pub(crate) const SLICE: usize = 2_000;

/// What the slices came to so far.
pub(crate) struct Slices {
    /// The command that goes on where these end.
    again: String,
    /// What is done to keys: `deleted`, `restored`.
    done: &'static str,
    keys: u64,
    commits: u64,
    places: Option<(Seq, Seq)>,
    /// Keys that were changed by others meanwhile.
    kept: u64,
}

impl Slices {
    /// Says that this is no single commit, and how to go on after an interruption.
    pub(crate) fn begin(
        context: &Context,
        (keys, commits): (u64, u64),
        done: &'static str,
        again: String,
    ) -> Self {
        let (keys, commits) = (counted(keys, "key"), counted(commits, "commit"));
        context.note(&format!(
            "{keys} in {commits}, each for itself; after an interruption, this goes on: {again}"
        ));
        Self { again, done, keys: 0, commits: 0, places: None, kept: 0 }
    }

    /// Commits a slice: `attempt` commits what it is given, which is what nobody changed meanwhile. Returns the
    /// receipt; `None` if nothing was left.
    pub(crate) async fn commit<T>(
        &mut self,
        context: &Context,
        mut slice: Vec<T>,
        key: impl Fn(&T) -> &str,
        attempt: impl AsyncFn(&[T]) -> univrs_state::Result<Receipt>,
    ) -> Done<Option<Receipt>> {
        while !slice.is_empty() {
            match attempt(&slice).await {
                Ok(receipt) => {
                    if !receipt.is_empty() {
                        self.keys += receipt.last.as_u64() - receipt.first.as_u64() + 1;
                        self.commits += 1;
                        let first = self.places.map_or(receipt.first, |(first, _)| first);
                        self.places = Some((first, receipt.last));
                    }
                    return Ok(Some(receipt));
                }
                Err(StateError::Rejected(rejection)) => {
                    let failed: BTreeSet<&str> = rejection.failed.iter().map(key_of).collect();
                    for key in &failed {
                        context.note(&format!("{key} was changed meanwhile, and is kept"));
                    }
                    self.kept += failed.len() as u64;
                    let before = slice.len();
                    slice.retain(|one| !failed.contains(&key(one)));
                    if slice.len() == before {
                        return Err(StateError::Rejected(rejection).into());
                    }
                }
                Err(error) => {
                    return Err(Failure::of(&error).fact(self.so_far()).hint(self.again.clone()).into());
                }
            }
        }
        Ok(None)
    }

    fn so_far(&self) -> String {
        let much = counted(self.keys, "key");
        match self.places {
            Some((first, last)) => format!(
                "{much} {} in {}, from {first} to {last}",
                if self.keys == 1 { format!("was {}", self.done) } else { format!("were {}", self.done) },
                counted(self.commits, "commit")
            ),
            None => format!("nothing was {}", self.done),
        }
    }

    /// Says what was done. An error if keys were kept.
    pub(crate) fn end(&self, context: &Context) -> Done {
        context.note(&self.so_far());
        kept(self.kept, self.done)
    }
}

/// The error of keys that others changed between the look at them and the commit.
pub(crate) fn kept(keys: u64, done: &str) -> Done {
    if keys == 0 {
        return Ok(());
    }
    let (much, was) = (counted(keys, "key"), if keys == 1 { "was" } else { "were" });
    let failure =
        Failure::new(Exit::No, "changed_since", format!("{much} {was} changed meanwhile, and kept"));
    Err(failure.fact(format!("the others were {done}")).into())
}

/// The key that a condition is about.
pub(crate) fn key_of(failed: &FailedCondition) -> &str {
    match failed {
        FailedCondition::Version { key, .. } => key,
        FailedCondition::ChangedSince { prefix, key, .. } => key.as_deref().unwrap_or(prefix),
        _ => "",
    }
}
