//! Reads whose results somebody waits for.

use tokio::sync::oneshot;

use super::Read;
use crate::backend::Snapshot;
use crate::error::Result;
use crate::store::feed::undisturbed;

/// A read that sends its result.
pub(crate) fn answered<T: Send + 'static>(
    read: impl FnOnce(&dyn Snapshot) -> Result<T> + Send + 'static,
) -> (Read, oneshot::Receiver<Result<T>>) {
    let (reply, receiver) = oneshot::channel();
    let read = move |snapshot: Result<&dyn Snapshot>| {
        // If the caller is gone, the read is skipped.
        if !reply.is_closed() {
            let answer = snapshot.and_then(|snapshot| {
                let answer = read(snapshot);
                snapshot.check_unchanged()?;
                answer
            });
            undisturbed(|| drop(reply.send(answer)));
        }
    };
    (Box::new(read), receiver)
}
