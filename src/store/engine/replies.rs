//! Telling callers and watches what became of their batches.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use super::queue::CommitGroup;
use crate::error::Result;
use crate::store::feed::Wakers;
use crate::store::receipt::Receipt;
use crate::store::resident::Shared;
use crate::store::threads::spawn;

/// Groups of fewer batches are told of by the writer itself: to wake a thread takes longer than that.
const FEW: usize = 128;

/// What a published group leaves to be done. Nobody waits for it but those whom it tells.
pub(super) struct Replies {
    pub(super) group: CommitGroup,
    pub(super) results: Vec<Result<Receipt>>,
    pub(super) wakers: Vec<Wakers>,
}

impl Replies {
    fn answer(self, shared: &Shared) {
        self.group.answer(self.results);
        self.wakers.into_iter().for_each(Wakers::wake);
        shared.prepare();
    }
}

/// Answers beside the writer, which goes on with the next group: on a thread that is started when
/// there is a large group for the first time.
pub(super) struct Replier {
    shared: Arc<Shared>,
    thread: Option<(Sender<Replies>, JoinHandle<()>)>,
}

impl Replier {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, thread: None }
    }

    pub(super) fn reply(&mut self, replies: Replies) {
        if replies.results.len() >= FEW && self.thread.is_none() {
            let shared = self.shared.clone();
            let (sender, all) = bounded::<Replies>(1);
            let run = move || all.into_iter().for_each(|replies| replies.answer(&shared));
            // Where there is no thread to be had, it is done here.
            self.thread = spawn("univrs-state replies", run).ok().map(|thread| (sender, thread));
        }
        match &self.thread {
            Some((sender, _)) if replies.results.len() >= FEW => {
                if let Err(unsent) = sender.send(replies) {
                    unsent.into_inner().answer(&self.shared);
                }
            }
            _ => replies.answer(&self.shared),
        }
    }

    /// Ends the thread, once everybody is told.
    pub(super) fn stop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}
