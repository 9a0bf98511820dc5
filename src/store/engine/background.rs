//! The thread of the follower. It follows the commits of other processes, and loads the state into memory.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::follower::Follower;
use super::loader::Loader;
use crate::backend::sqlite::Sqlite;
use crate::error::{Result, StateError};
use crate::store::resident::Shared;
use crate::store::threads::spawn;

/// Starts a follower and its thread. The thread ends when the follower is stopped.
pub(super) fn start(sqlite: Sqlite, shared: Arc<Shared>) -> Result<Arc<Follower>> {
    let (follower, woken) = Follower::new(sqlite, shared);
    let follower = Arc::new(follower);
    let follows = follower.clone();
    spawn("univrs-state follower", move || follow_until_stopped(&follows, &woken))?;
    Ok(follower)
}

fn follow_until_stopped(follower: &Follower, woken: &Receiver<()>) {
    let mut failing = false;
    let mut loader = Loader::default();
    loop {
        follower.look_if_due();
        match follower.follow().and_then(|()| loader.load_if_due(follower)) {
            Err(StateError::Closed) => return,
            Ok(()) | Err(StateError::Busy(_)) => failing = false,
            // The watches are made to read the log, so that each ends with the cause of the failure.
            Err(_) if !failing => {
                failing = true;
                follower.look(); // The cause may be that other files are there now.
                follower.shared().registry().alarm();
            }
            Err(_) => {}
        }
        if !follower.sleep(woken) {
            return;
        }
    }
}
