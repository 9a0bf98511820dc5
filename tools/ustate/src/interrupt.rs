//! Waiting for work that drops something: a signal ends the waiting, and says how to go on.

use univrs_state::{LocalStore, SqliteStore, StateError};

use crate::context::Context;
use crate::signals::Signals;
use crate::stop::{Done, Stop};

/// Waits for some work. After a signal, `resume` is the command that finishes what was begun.
pub(crate) async fn interruptible<T>(
    context: &Context,
    store: &SqliteStore,
    resume: &str,
    work: impl Future<Output = Result<T, StateError>>,
) -> Done<T> {
    let mut signals = Signals::new()?;
    let number = tokio::select! {
        done = work => return Ok(done?),
        number = signals.next() => number,
    };
    drop(store.close().await);
    context.note(&format!("what was begun may not be finished; {} finishes it", context.hint(resume)));
    Err(Stop::Signal(number))
}
