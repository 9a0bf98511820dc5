//! Checks of logs and projections, of any backend, and the log file that an export writes.

mod base_record;
mod broken;
mod change_buffer;
mod earlier;
mod log_item;
mod multiset_hash;
mod proved;
mod reader;
mod report;
mod verify;
mod writer;

pub(crate) use proved::BaseCheck;
pub use proved::{NotProvable, Proved};
pub use report::{Finding, Level, Progress, VerifyReport};
pub use writer::Form;

use broken::Broken;

pub(crate) use change_buffer::{Buffered, ChangeBuffer};
pub(crate) use earlier::{Earlier, contradicts};
pub(crate) use log_item::{Start, TELLING_BYTES, is_log_file};
pub(crate) use multiset_hash::MultisetHash;
pub(crate) use reader::{EXPORT, LogReader, LoggedChange};
pub(crate) use verify::Verification;
pub(crate) use writer::LogWriter;

#[cfg(test)]
#[path = "../../tests/sim/base_file.rs"]
mod base_file;
