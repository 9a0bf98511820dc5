//! How far a long job is, shown on a terminal while it runs.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::context::Context;
use crate::value::{count, size};

/// Jobs that take less show nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Changes,
    Bytes,
}

/// A bar that appears when a job takes long, and goes with its last clone. Where nobody would see
/// it, there is none.
#[derive(Clone)]
pub(crate) struct Progress(Option<Arc<Bar>>);

struct Bar {
    drawn: ProgressBar,
    begun: Instant,
    patience: Duration,
    shown: AtomicBool,
    target: fn() -> ProgressDrawTarget,
}

impl Progress {
    /// Of a job that is called `doing`, such as `verifying`.
    pub(crate) fn of(context: &Context, doing: &'static str, unit: Unit) -> Self {
        let seen = !context.quiet && io::stderr().is_terminal();
        Self(seen.then(|| Arc::new(Bar::new(doing, unit, PATIENCE, ProgressDrawTarget::stderr))))
    }

    /// None, where something else says how far it is.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// So much is done; where the total is 0, it is not known.
    pub(crate) fn at(&self, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.at(done, total);
        }
    }

    /// The job is done: the bar goes, though somebody may still hold it.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.drawn.finish_and_clear();
        }
    }
}

impl Bar {
    fn new(doing: &'static str, unit: Unit, patience: Duration, target: fn() -> ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_message(doing);
        bar.set_style(style(unit));
        Self { drawn: bar, begun: Instant::now(), patience, shown: AtomicBool::new(false), target }
    }

    fn at(&self, done: u64, total: u64) {
        if self.begun.elapsed() < self.patience {
            return;
        }
        if total > 0 {
            self.drawn.set_length(total);
        }
        if !self.shown.swap(true, Ordering::Relaxed) {
            self.drawn.set_draw_target((self.target)());
        }
        self.drawn.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.drawn.finish_and_clear();
    }
}

/// `verifying  ━━━━━━━━        12 000 of 18 241 changes, 2s left`
fn style(unit: Unit) -> ProgressStyle {
    let amount = move |number: u64| match unit {
        Unit::Changes => count(number),
        Unit::Bytes => size(number),
    };
    let much = move |state: &ProgressState, out: &mut dyn Write| {
        let done = amount(state.pos());
        let of = state.len().map(|total| format!(" of {}", amount(total))).unwrap_or_default();
        let noun = if matches!(unit, Unit::Changes) { " changes" } else { "" };
        // A bar that cannot be drawn is no failure.
        let _ = write!(out, "{done}{of}{noun}");
    };
    let style = ProgressStyle::with_template("{msg}  {bar:24}  {much}, {eta} left");
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━ ").with_key("much", much)
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::InMemoryTerm;
    use std::sync::OnceLock;

    static TERMINAL: OnceLock<InMemoryTerm> = OnceLock::new();

    fn terminal() -> &'static InMemoryTerm {
        TERMINAL.get_or_init(|| InMemoryTerm::new(4, 100))
    }

    #[test]
    fn a_bar_shows_when_a_job_takes_long_and_goes_with_it() {
        let target = || ProgressDrawTarget::term_like_with_hz(Box::new(terminal().clone()), 255);
        let quick = Bar::new("verifying", Unit::Changes, Duration::MAX, target);
        quick.at(500, 1_000);
        assert_eq!(terminal().contents(), "");

        let slow = Bar::new("verifying", Unit::Changes, Duration::ZERO, target);
        slow.at(12_000, 18_241);
        let shown = terminal().contents();
        assert!(
            shown.starts_with("verifying  ━━━") && shown.contains("12 000 of 18 241 changes, "),
            "{shown}"
        );
        drop(slow);
        assert_eq!(terminal().contents(), "");

        let unknown = Bar::new("importing", Unit::Bytes, Duration::ZERO, target);
        unknown.at(3 << 20, 0);
        assert!(terminal().contents().contains("3.0 MiB"), "{}", terminal().contents());
    }
}
