//! What is told while opening a store takes long, because it has to be verified first.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::context::{Context, write_note};
use crate::progress::{Progress, Unit};

/// A verification that takes less is not told of.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells that the store at a path is verified before it is used, once that takes long, and how far it is.
pub(crate) fn told(
    context: &Context,
    path: &Path,
) -> impl Fn(univrs_state::verify::Progress) + Send + Sync + use<> {
    let bar = Progress::of(context, "verifying", Unit::Changes);
    let (quiet, color) = (context.quiet, context.color_notes);
    let note = format!(
        "{} was not closed, and its database may not be the one that its log belongs to: it is verified in full first; \
         a command that writes settles that",
        path.display()
    );
    let told = once_it_takes(PATIENCE, move || {
        if !quiet {
            write_note(color, &note);
        }
    });
    move |progress| {
        told();
        bar.at(progress.done, progress.total);
        if progress.done == progress.total {
            bar.end();
        }
    }
}

/// Calls `tell` once, if so much time has passed since the first call.
fn once_it_takes(patience: Duration, tell: impl Fn() + Send + Sync) -> impl Fn() + Send + Sync {
    let (begun, told) = (OnceLock::new(), AtomicBool::new(false));
    move || {
        let begun = *begun.get_or_init(Instant::now);
        if begun.elapsed() >= patience && !told.swap(true, Ordering::Relaxed) {
            tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn told(patience: Duration) -> usize {
        let count = AtomicUsize::new(0);
        let tell = once_it_takes(patience, || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (0..3).for_each(|_| tell());
        drop(tell);
        count.into_inner()
    }

    #[test]
    fn what_takes_long_is_told_once_and_what_does_not_never() {
        assert_eq!((told(Duration::ZERO), told(Duration::MAX)), (1, 0));
    }
}
