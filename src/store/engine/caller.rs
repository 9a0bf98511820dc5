//! The callers that wait for what becomes of their batches.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::Result;
use crate::store::feed::undisturbed;
use crate::store::receipt::Receipt;

/// A caller that waits for the result of its batch, and the batch's share of the queue.
///
/// Both wake tasks of the program, also when they are dropped: the caller, and those that wait for room in the
/// queue. A waker that panics must neither end the writer nor cost another caller its answer.
pub(crate) struct Caller {
    reply: Option<oneshot::Sender<Result<Receipt>>>,
    room: Option<OwnedSemaphorePermit>,
}

impl Caller {
    pub(crate) fn new(reply: oneshot::Sender<Result<Receipt>>, room: OwnedSemaphorePermit) -> Self {
        Self { reply: Some(reply), room: Some(room) }
    }

    /// Sends the caller its result, and gives the room back.
    pub(crate) fn answer(mut self, result: Result<Receipt>) {
        if let Some(reply) = self.reply.take() {
            undisturbed(|| drop(reply.send(result)));
        }
    }
}

/// A caller without an answer learns that its batch was dropped before anything was done with it.
impl Drop for Caller {
    fn drop(&mut self) {
        let (reply, room) = (self.reply.take(), self.room.take());
        undisturbed(|| drop(reply));
        undisturbed(|| drop(room));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Wake, Waker};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::error::StateError;

    struct Broken;

    impl Wake for Broken {
        fn wake(self: Arc<Self>) {
            panic!("planted");
        }
    }

    /// Ends a caller while one task waits for its answer and another one for its room; the answer.
    fn ended_by(end: impl FnOnce(Caller)) -> Option<Result<Receipt>> {
        let queue = Arc::new(Semaphore::new(1));
        let (reply, receiver) = oneshot::channel();
        let caller = Caller::new(reply, queue.clone().try_acquire_owned().unwrap());
        let (mut receiver, mut waiting) = (pin!(receiver), pin!(queue.clone().acquire_owned()));
        let waker = Waker::from(Arc::new(Broken));
        let mut context = Context::from_waker(&waker);
        assert!(receiver.as_mut().poll(&mut context).is_pending());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        end(caller);
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_ready(), "the room is given back");
        receiver.try_recv().ok()
    }

    #[test]
    fn wakers_that_panic_disturb_neither_an_answer_nor_the_room() {
        let answer = ended_by(|caller| caller.answer(Err(StateError::Closed)));
        assert_eq!(answer.unwrap().unwrap_err(), StateError::Closed);
    }

    #[test]
    fn wakers_that_panic_disturb_no_caller_that_is_dropped() {
        assert!(ended_by(drop).is_none(), "a batch that was dropped got no answer");
    }
}
