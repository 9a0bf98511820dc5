//! The promises of the store, each in a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod examples;
mod kept_names;
mod read_only;
mod readme;
mod smoke;
mod tidy;
mod commit_id;
mod conditions;
mod conformance;
mod disk_full;
mod input;
mod lifecycle;
mod paths;
mod provided;
mod scan;
mod smoke;
mod support;
