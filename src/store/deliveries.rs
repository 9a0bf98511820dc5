//! Telling callers and watches what became of their batches.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use super::Receipt;
use super::bell::Bell;
use super::readers::spawn;
use super::shared::Shared;
use super::waiting::Gathered;
use crate::error::Result;

/// Groups of fewer batches are told of by the writer itself: to wake a thread takes longer than that.
const FEW: usize = 128;

/// What a published group leaves to be done. Nobody waits for it but those whom it tells.
pub(super) struct Delivery {
    pub(super) gathered: Gathered,
    pub(super) results: Vec<Result<Receipt>>,
    pub(super) bells: Vec<Bell>,
}

impl Delivery {
    fn run(self, shared: &Shared) {
        self.gathered.answer(self.results);
        self.bells.into_iter().for_each(Bell::ring);
        shared.prepare();
    }
}

/// Delivers beside the writer, which goes on with the next group: on a thread that is started when
/// there is a large group for the first time.
pub(super) struct Deliveries {
    shared: Arc<Shared>,
    thread: Option<(Sender<Delivery>, JoinHandle<()>)>,
}

impl Deliveries {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, thread: None }
    }

    pub(super) fn deliver(&mut self, delivery: Delivery) {
        if delivery.results.len() >= FEW && self.thread.is_none() {
            let shared = self.shared.clone();
            let (sender, deliveries) = bounded::<Delivery>(1);
            let run = move || deliveries.into_iter().for_each(|delivery| delivery.run(&shared));
            // Where there is no thread to be had, it is done here.
            self.thread = spawn("univrs-state delivery", run).ok().map(|thread| (sender, thread));
        }
        match &self.thread {
            Some((sender, _)) if delivery.results.len() >= FEW => {
                if let Err(unsent) = sender.send(delivery) {
                    unsent.into_inner().run(&self.shared);
                }
            }
            _ => delivery.run(&self.shared),
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
