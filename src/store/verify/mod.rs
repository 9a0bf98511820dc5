//! Verifying a store: what is checked, and in which order.

mod base;
mod corruption;
mod levels;
mod long;
mod observer;
#[cfg(feature = "sqlite")]
mod opening;
mod quick;
mod request;
mod second_look;
mod sums;

#[cfg(test)]
pub(crate) use levels::verify;
#[cfg(feature = "sqlite")]
pub(crate) use opening::judge;
pub use request::Verify;
