//! Publishing lines with an idempotency key: as a whole, or not at all.

use std::io;

use axum::body::{Body, HttpBody as _};
use futures::TryStreamExt as _;
use tokio_util::{codec::FramedRead, io::StreamReader};

use super::{Lines, decoder::LineDecoder, message};
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

/// How many bytes of text an upload with a key may have, since all of it waits in memory for its end.
/// One message is taken whatever its size.
const MAX_BYTES: usize = 1024 * 1024;

/// `POST /streams/{name}?lines` with an `Idempotency-Key`; tells whether it was stored before.
pub(crate) async fn publish_whole(
    publishing: &Publishing,
    client: Client,
    may: MayPublish,
    lines: Lines,
    body: Body,
    key: IdempotencyKey,
) -> Result<(LinesStored, bool), Problem> {
    publishing.bodies.refuse_when_draining()?;
    let max = max_memory(publishing, &body);
    let mut memory =
        publishing.bodies.memory.acquire(client.address, MemoryPart::Bodies, max).await?;
    let batch = tokio::select! {
        biased;
        batch = collect(publishing, lines, body) => batch?,
        problem = publishing.bodies.cut_off(&memory) => return Err(problem),
    };
    let (batch, altered): (Vec<MessageText>, Vec<bool>) = batch.into_iter().unzip();
    let mut stored = LinesStored::default();
    if batch.is_empty() {
        return Ok((stored, false));
    }
    // As little as can be, for as long as it takes.
    memory.resize(batch.iter().map(|data| data.as_str().len()).sum())?;
    tokio::select! {
        biased;
        () = publishing.limits.publish_in_turn(may.publisher(), batch.len()) => {}
        () = memory.overdue() => {
            let detail = "Others wait for memory: send fewer lines at a time.";
            return Err(Problem::new(problem::TOO_MANY_MESSAGES, detail).retry_after(MAX_HOLD));
        }
        () = publishing.bodies.shutdown.wait() => return Err(Problem::draining()),
    }
    publishing.bodies.refuse_when_draining()?;
    may.still_holds()?;
    let (log, stream) = (publishing.log.clone(), may.stream().clone());
    let append = async move { log.append_all(stream, batch, Some(key)).await };
    let appended = hold_until_done(memory, append).await.map_err(|failed| failed.error)?;
    if appended.replayed {
        publishing.metrics.replayed();
    }
    stored.count(&altered, Some(appended.last));
    Ok((stored, appended.replayed))
}

/// What the messages of a body may take, and the line that is being read, in bytes.
fn max_memory(publishing: &Publishing, body: &Body) -> usize {
    let max = MAX_BYTES.max(publishing.max_message_bytes) + 2 * publishing.max_message_bytes;
    // A body in chunks, or a compressed one, does not say how long it is. A replacement character takes
    // three times as much as the byte that it stands for.
    let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    length.map_or(max, |length| length.saturating_mul(3).min(max))
}

/// All lines as messages, and for each whether it had to be altered.
async fn collect(
    publishing: &Publishing,
    lines: Lines,
    body: Body,
) -> Result<Vec<(MessageText, bool)>, Problem> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let reader = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let mut decoded = FramedRead::new(reader, LineDecoder::new(publishing.max_message_bytes));
    while let Some(line) =
        decoded.try_next().await.map_err(|error| content_encoding::unreadable(&error))?
    {
        let (data, altered) = message(publishing, lines, line)?;
        bytes += data.as_str().len();
        if batch.len() == MAX_KEYED_BATCH || (!batch.is_empty() && bytes > MAX_BYTES) {
            return Err(Problem::new(
                problem::TOO_MUCH_FOR_A_KEY,
                "Nothing was stored. Send at most 1024 lines and 1 MiB with one Idempotency-Key, \
                 and the rest with other keys.",
            ));
        }
        batch.push((data, altered));
    }
    Ok(batch)
}
