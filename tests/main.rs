//! The promises of the store, each in a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod archive;
mod background;
mod clock;
mod commit_id;
mod compaction;
mod compaction_others;
mod conditions;
mod conformance;
mod consumer;
mod consumer_input;
mod consumer_kill;
mod consumer_model;
mod consumer_time;
mod damage;
mod disk_full;
mod doubt;
mod dropped;
mod earlier;
mod examples;
mod foreign;
mod fork;
mod fuzz;
mod head_file;
mod histories;
mod import;
mod input;
mod invariants;
mod kept_names;
mod kill;
mod lifecycle;
mod marks;
mod model;
mod moved;
mod openings;
mod options;
mod past;
mod paths;
mod predecessor;
mod provided;
mod read_only;
mod readme;
mod rehearse;
mod resident;
mod retention;
mod scan;
mod schema;
mod second_name;
#[cfg(unix)]
mod side_files;
mod smoke;
mod snapshot_watch;
mod streams;
mod support;
#[cfg(target_os = "linux")]
mod syncs;
mod thinning;
mod tidy;
mod verify;
mod wal;
mod watch;
mod watch_budget;
mod watch_end;
mod watch_others;
mod watch_rare;
