//! The state that a command shows: as it is, or as it was.

use clap::Args;
use univrs_state::history::{DeletedKey, Past};
use univrs_state::log::Change;
use univrs_state::{Entry, Head, Page, Result, Scan, Seq};

use crate::context::Context;
use crate::point::Point;
use crate::source::Source;
use crate::stop::Done;

/// The option of commands that show a state.
#[derive(Debug, Args)]
pub(crate) struct AsOf {
    /// As of this point: 4711, head~10, 2026-09-01, 2h-ago, hash:9f2c ('ustate --help').
    #[arg(long, value_name = "POINT")]
    at: Option<Point>,
}

impl AsOf {
    /// Opens the store and finds the point in it.
    pub(crate) async fn open(&self, context: &Context) -> Done<State> {
        let source = context.open().await?;
        let past = match &self.at {
            Some(point) => Some(point.past(context, &source).await?),
            None => None,
        };
        Ok(State { source, past })
    }
}

/// A state of an open store.
pub(crate) struct State {
    pub(crate) source: Source,
    /// None for what is now.
    past: Option<Past>,
}

impl State {
    /// Its place in the log, where it is one of the past.
    pub(crate) fn at(&self) -> Option<Seq> {
        self.past.as_ref().map(Past::seq)
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Entry>> {
        match &self.past {
            Some(past) => past.get(key).await,
            None => self.source.get(key).await,
        }
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        match &self.past {
            Some(past) => past.list(prefix).await,
            None => self.source.list(prefix).await,
        }
    }

    /// This state, fixed while the store goes on, and the head of the log there.
    pub(crate) async fn fixed(self) -> Result<(Self, Head)> {
        let past = match self.past {
            Some(past) => past,
            None => self.source.at(univrs_state::history::Point::Head).await?,
        };
        let head = past.head();
        Ok((Self { source: self.source, past: Some(past) }, head))
    }

    /// The keys that are deleted.
    pub(crate) async fn list_deleted(&self, prefix: &str) -> Result<Vec<DeletedKey>> {
        match &self.past {
            Some(past) => past.list_deleted(prefix).await,
            None => self.source.list_deleted(prefix).await,
        }
    }

    /// A page; a value that is gone leaves its key in [`Page::erased`].
    pub(crate) async fn scan(&self, scan: Scan) -> Result<Page> {
        let scan = scan.skip_erased();
        match &self.past {
            Some(past) => past.scan(scan).await,
            None => self.source.scan(scan).await,
        }
    }

    /// The newest change of a key in this state.
    pub(crate) async fn newest(&self, key: &str) -> Result<Option<Change>> {
        let before = self.at().map(Seq::next);
        Ok(self.source.history(key, before, 1).await?.into_iter().next())
    }
}
