//! Running the policy on a schedule, on a thread of its own.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::pace::Pace;
use super::report::Scheduled;
use super::running::Pacing;
use crate::error::{Result, StateError};
use crate::log::Timestamp;
use crate::store::open_store::OpenStore;
use crate::store::threads::spawn;
use crate::sync::{Mutex, lock};

/// The first run comes no later than this after the opening, so that programs which run for less than the interval drop
/// something, too.
const FIRST: Duration = Duration::from_secs(60);
/// How often a run looks whether somebody has the store open still.
const LOOK: Duration = Duration::from_millis(50);

/// The schedule of an opening. It ends when it is dropped.
pub(crate) struct Schedule {
    last: Arc<Mutex<Option<Scheduled>>>,
    _stop: Sender<()>,
}

impl Schedule {
    /// The last run.
    pub(crate) fn last(&self) -> Option<Scheduled> {
        lock(&self.last).clone()
    }
}

/// Refuses a schedule without a pause.
pub(crate) fn check(every: Option<Duration>) -> Result<()> {
    if every == Some(Duration::ZERO) {
        return Err(StateError::InvalidArgument(
            "option retain_every is zero: name a time between two runs, or leave it out".into(),
        ));
    }
    Ok(())
}

/// Runs the policy of a store again and again, until the opening ends.
pub(crate) fn start(open: &Arc<OpenStore>, every: Duration) -> Result<()> {
    let (stop, stopped) = channel();
    let last = Arc::new(Mutex::new(None));
    let runs = Runs {
        open: Arc::downgrade(open),
        every,
        opened: Instant::now(),
        pacing: Pacing {
            opened: (open.shared.head().seq, open.engine.clock().shown()?),
            floor: Pace::default(),
            rules: HashMap::new(),
        },
        last: last.clone(),
    };
    spawn("univrs-state retention", move || runs.go_on(&stopped))?;
    open.shared.keep(Schedule { last, _stop: stop });
    Ok(())
}

struct Runs {
    open: Weak<OpenStore>,
    every: Duration,
    opened: Instant,
    pacing: Pacing,
    last: Arc<Mutex<Option<Scheduled>>>,
}

impl Runs {
    fn go_on(mut self, stopped: &Receiver<()>) {
        let mut wait = self.every.min(FIRST);
        while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let Some(open) = self.open.upgrade() else { return };
            if open.shared.check_open().is_err() {
                return;
            }
            let clock = open.engine.clock().shown();
            let lasted = self.opened.elapsed();
            let Some(result) = self.run(open, lasted) else { return };
            *lock(&self.last) = Some(Scheduled { at: clock.unwrap_or(Timestamp::EPOCH), result });
            wait = self.every;
        }
    }

    /// One run; `None` if nobody else has the store open any more. What it has dropped then is dropped, and whoever opens the
    /// store next goes on.
    fn run(&mut self, open: Arc<OpenStore>, lasted: Duration) -> Option<Result<super::Retained>> {
        let alone = {
            let open = Arc::downgrade(&open);
            move || open.strong_count() <= 1
        };
        let pacing = &mut self.pacing;
        let run = pin!(async move { open.retain_paced(pacing, lasted).await });
        complete(run, alone)
    }
}

/// Runs a future on this thread, until it is ready or there is no more need for it.
fn complete<T>(
    mut future: std::pin::Pin<&mut impl Future<Output = T>>,
    needless: impl Fn() -> bool,
) -> Option<T> {
    let waker = Waker::from(Arc::new(Bell(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(ready) = future.as_mut().poll(&mut context) {
            return Some(ready);
        }
        thread::park_timeout(LOOK);
        if needless() {
            return None;
        }
    }
}

/// Wakes the thread.
struct Bell(Thread);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
