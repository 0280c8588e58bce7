//! Sends the lines of a queue in batches, one after another, each with an idempotency key.
//!
//! A batch is sent as soon as there is a line. Lines that come while it is under way are the next one:
//! a line of a slow input does not wait, and those of a fast input share requests.

use std::{fmt::Write as _, io};

use super::{ExitError, queue::Queue, retry::Retrying, status::grouped};

/// What the server has acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uploaded {
    /// The number of lines that are stored.
    pub(super) taken: u64,
    /// How many of them are not as they were sent.
    pub(super) altered: u64,
}

/// Sends what is in the queue until it is closed and empty. `uploaded` is right at any time.
///
/// # Errors
/// When the server refuses a batch for good, the limit is over, or the spool fails.
pub(super) async fn upload(
    retrying: &Retrying<'_>,
    queue: &Queue,
    uploaded: &mut Uploaded,
) -> Result<(), ExitError> {
    let spool = |error: io::Error| ExitError::Failed(format!("the spool cannot be used: {error}"));
    while let Some(batch) = queue.next().await.map_err(spool)? {
        retrying.status.progress(|| uploaded.progress(queue.waiting()));
        let answer = retrying.lines(&batch).await?;
        queue.acknowledge().map_err(spool)?;
        uploaded.taken += batch.count;
        uploaded.altered += answer.altered;
        if let Err(error) = queue.compact() {
            retrying.status.note(&format!(
                "the spool cannot be made smaller, until all lines in it are acknowledged: {error}"
            ));
        }
    }
    Ok(())
}

impl Uploaded {
    fn progress(self, waiting: u64) -> String {
        let mut text = format!("{} lines acknowledged", grouped(self.taken));
        if waiting > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, ", {} waiting", grouped(waiting));
        }
        text
    }
}
