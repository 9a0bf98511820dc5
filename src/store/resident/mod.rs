//! The published state in memory: as much of the projection as fits, and how to tell whether it is the
//! newest.

mod entry_cache;
mod published;
mod shared;
mod standby;

#[cfg(feature = "sqlite")]
pub(crate) use entry_cache::EntryCache;
#[cfg(feature = "sqlite")]
pub(crate) use published::Token;
pub(crate) use published::{InMemory, Pinned, Published};
pub(crate) use shared::Shared;
