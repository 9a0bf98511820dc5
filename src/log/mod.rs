//! The log: changes, their positions, the hash chain and its encoding.
//!
//! Nothing here reads a clock, draws randomness or does I/O.

mod anchor;
mod base_digest;
mod cbor;
mod change;
mod commit;
mod cursor;
mod draft;
mod float;
mod follow;
mod follow_base;
mod hash;
mod head;
mod header;
mod hex;
mod jump;
mod last_meta;
mod meta;
mod numbered;
mod reserved;
mod seal;
mod store_id;
mod time;
mod until;
mod view;

pub use anchor::Anchor;
pub use change::{Change, ChangeKind, SALT_BYTES};
pub use commit::Commit;
pub use cursor::Cursor;
pub use follow::{Break, Follow};
pub use hash::Hash;
pub use head::Head;
pub use meta::Meta;
pub use store_id::StoreId;
pub use time::Timestamp;
pub use until::Until;

pub(crate) use base_digest::BaseDigest;
pub(crate) use cbor::{Decoder, Encoder, Flaw};
pub(crate) use draft::{Draft, Prev};
pub(crate) use follow_base::FollowBase;
#[cfg(feature = "sqlite")]
pub(crate) use hash::Domain;
pub(crate) use hash::header as header_hash;
pub(crate) use head::Tip;
pub(crate) use jump::jump_version;
pub(crate) use last_meta::LastMeta;
pub(crate) use reserved::cause;
pub(crate) use seal::seal;
pub(crate) use view::ChangeView;

#[cfg(test)]
mod vectors;
