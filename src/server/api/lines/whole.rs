//! Publishing lines with an idempotency key: atomically, all lines or none.

use std::io;

use axum::body::{Body, HttpBody as _};
use futures::TryStreamExt as _;
use tokio_util::{codec::FramedRead, io::StreamReader};

use super::{LineMode, decoder::LineDecoder, to_message};
use crate::{
    problem,
    server::{
        api::{content_encoding, publishing::Publishing},
        client::Client,
        error::{LinesStored, Problem},
        guard::{MAX_HOLD, MayPublish, MemoryPart, hold_until_done},
        log::{IdempotencyKey, MAX_KEYED_BATCH, message_text::MessageText},
    },
};

/// The most bytes of text in an upload with a key, since all of it is buffered. A single message may be
/// larger.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// `POST /streams/{name}?lines` with an `Idempotency-Key`. Also returns whether it was a retry that is
/// already stored.
///
/// # Errors
/// When there are more than 1,024 lines or 1 MiB, and as for the other uploads. Then nothing is stored.
pub(crate) async fn publish_atomic(
    publishing: &Publishing,
    client: Client,
    may: MayPublish,
    mode: LineMode,
    body: Body,
    key: IdempotencyKey,
) -> Result<(LinesStored, bool), Problem> {
    publishing.bodies.refuse_when_draining()?;
    let max = max_memory(publishing, &body);
    let mut memory =
        publishing.bodies.memory.acquire(client.address, MemoryPart::Bodies, max).await?;
    let batch = tokio::select! {
        biased;
        batch = collect(publishing, mode, body) => batch?,
        problem = publishing.bodies.abort_reason(&memory) => return Err(problem),
    };
    let (batch, altered): (Vec<MessageText>, Vec<bool>) = batch.into_iter().unzip();
    let mut stored = LinesStored::default();
    if batch.is_empty() {
        return Ok((stored, false));
    }
    // Waiting for the rate limit may take long: hold no more than the text.
    memory.resize(batch.iter().map(|text| text.as_str().len()).sum())?;
    tokio::select! {
        biased;
        () = publishing.limits.wait_to_publish(may.publisher(), batch.len()) => {}
        () = memory.overdue() => {
            let detail = "Other requests are waiting for memory. Send fewer lines at a time.";
            return Err(Problem::new(problem::TOO_MANY_MESSAGES, detail).retry_after(MAX_HOLD));
        }
        () = publishing.bodies.shutdown.wait() => return Err(Problem::draining()),
    }
    publishing.bodies.refuse_when_draining()?;
    may.check_not_expired()?;
    let (log, stream) = (publishing.log.clone(), may.stream().clone());
    let append = async move { log.append_all(stream, batch, Some(key)).await };
    let appended = hold_until_done(memory, append).await.map_err(|failed| failed.error)?;
    if appended.replayed {
        publishing.metrics.replayed();
    }
    stored.count(&altered, Some(appended.last));
    Ok((stored, appended.replayed))
}

/// The most bytes that the messages of a body take, with the line that is being read.
fn max_memory(publishing: &Publishing, body: &Body) -> usize {
    let max = MAX_BYTES.max(publishing.max_message_bytes) + 2 * publishing.max_message_bytes;
    // The length of a chunked or compressed body is not known beforehand. A replacement character takes
    // 3 bytes in place of 1.
    let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    length.map_or(max, |length| length.saturating_mul(3).min(max))
}

/// Reads all lines as messages, each with whether it was altered.
async fn collect(
    publishing: &Publishing,
    mode: LineMode,
    body: Body,
) -> Result<Vec<(MessageText, bool)>, Problem> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let reader = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let mut decoded = FramedRead::new(reader, LineDecoder::new(publishing.max_message_bytes));
    while let Some(line) =
        decoded.try_next().await.map_err(|error| content_encoding::body_error(&error))?
    {
        let (text, altered) = to_message(publishing, mode, line)?;
        bytes += text.as_str().len();
        if batch.len() == MAX_KEYED_BATCH || (!batch.is_empty() && bytes > MAX_BYTES) {
            return Err(Problem::new(
                problem::TOO_MUCH_FOR_A_KEY,
                "Nothing was stored. Send at most 1024 lines and 1 MiB with one Idempotency-Key, \
                 and the rest with other keys.",
            ));
        }
        batch.push((text, altered));
    }
    Ok(batch)
}
