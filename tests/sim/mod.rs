//! A disk in memory that can lose its power and fail, and SQLite on it.
//!
//! Compiled into the unit tests of the library, so that it reaches the backend; no user builds it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod disk;
mod draft;
mod image;
mod kept;
mod plain;
mod rng;
mod vfs;

pub(crate) use disk::{Disk, Event, Fault, Files, Op, Times, stamp};
pub(crate) use draft::PlainNewFile;
pub(crate) use image::{Replay, VARIANTS, Variant};
pub(crate) use kept::{head_file, loss};
pub(crate) use plain::Plain;
pub(crate) use rng::Rng;
