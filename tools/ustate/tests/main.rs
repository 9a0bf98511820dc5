//! What `ustate` promises, exactly as it prints it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::needless_raw_string_hashes)] // as the snapshots are written

mod ask;
mod bisect;
mod blame;
mod carry;
mod change;
mod changed;
mod compacted;
mod cursor_file;
mod diff;
mod doctor;
mod drop;
mod embedded;
mod endless;
mod ends;
mod errors;
mod examples;
mod export;
#[path = "../../../tests/support/forged.rs"]
mod forged;
mod hostile;
mod import;
mod inside;
mod live;
mod load;
mod look;
mod loss;
mod mark;
mod mirror;
mod newer;
mod nobody;
mod options;
mod pages;
mod passed_on;
mod points;
mod rehearsal;
mod remade;
mod replay;
mod restore;
mod resume;
mod retain;
mod secrets;
mod slices;
mod stats;
mod story;
mod support;
mod variables;
mod verify;
mod wide;
mod wrong_clock;
