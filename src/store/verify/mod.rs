//! Verifying a store: what is checked, and in which order.

mod corruption;
mod levels;
mod long;
mod observer;
mod quick;
mod request;
mod second_look;
mod sums;

#[cfg(test)]
pub(crate) use levels::verify;
pub use request::Verify;
