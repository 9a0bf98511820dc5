//! Is it true? Checks of logs and projections, wherever they come from, and the file that carries a
//! log elsewhere.

mod broken;
mod item;
mod pack;
mod reader;
mod report;
mod tally;
mod verify;
mod writer;

pub use report::{Finding, Level, NotProvable, Progress, Proved, VerifyReport};
pub use writer::Form;

use broken::Broken;

pub(crate) use item::{Start, TELLING_BYTES, is_log_file};
pub(crate) use pack::{Pack, Unpacked};
pub(crate) use reader::{EXPORT, LogReader, Recorded};
pub(crate) use tally::{Lasts, Tally};
pub(crate) use verify::{Verification, contradicts};
pub(crate) use writer::LogWriter;
