//! Publishing lines with an idempotency key: as a whole, or not at all.

use axum::body::Body;
use futures::TryStreamExt as _;
use tokio::time::timeout;

use super::{
    super::{
        App,
        access::MayPublish,
        data::Data,
        encoding,
        error::{LinesStored, Problem},
        log::{IdempotencyKey, MAX_KEYED_BATCH},
        publish::too_late,
    },
    Lines, decoded, message,
};
use crate::problem;

/// How many bytes of text an upload with a key may have, since all of it waits in memory for its end.
/// One message is taken whatever its size.
const MAX_BYTES: usize = 1024 * 1024;

/// `POST /streams/{name}?lines` with an `Idempotency-Key`; tells whether it was stored before.
pub(in super::super) async fn publish_whole(
    app: &App,
    may: MayPublish,
    lines: Lines,
    body: Body,
    key: IdempotencyKey,
) -> Result<(LinesStored, bool), Problem> {
    app.takes_messages()?;
    let batch = tokio::select! {
        batch = timeout(app.body_timeout, collect(app, lines, body)) => {
            batch.map_err(|_| too_late(app))??
        }
        () = app.shutdown.wait() => return Err(Problem::draining()),
    };
    let (batch, altered): (Vec<Data>, Vec<bool>) = batch.into_iter().unzip();
    let mut stored = LinesStored::default();
    if batch.is_empty() {
        return Ok((stored, false));
    }
    let mut wanted = batch.len();
    while wanted > 0 {
        wanted -= app.limits.publish_some(may.publisher(), wanted).await;
    }
    app.takes_messages()?;
    may.still_holds()?;
    let appended = app.log.append_all(may.stream().clone(), batch, Some(key)).await;
    let appended = appended.map_err(|failed| failed.refusal)?;
    if appended.replayed {
        app.metrics.replayed();
    }
    stored.count(&altered, Some(appended.last));
    Ok((stored, appended.replayed))
}

/// All lines as messages, and for each whether it had to be altered.
async fn collect(app: &App, lines: Lines, body: Body) -> Result<Vec<(Data, bool)>, Problem> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut decoded = decoded(app, body);
    while let Some(line) = decoded.try_next().await.map_err(|error| encoding::unreadable(&error))? {
        bytes += line.bytes.len();
        if batch.len() == MAX_KEYED_BATCH || (!batch.is_empty() && bytes > MAX_BYTES) {
            return Err(Problem::new(
                problem::TOO_MUCH_FOR_A_KEY,
                "Nothing was stored. Send at most 1024 lines and 1 MiB with one Idempotency-Key, \
                 and the rest with other keys.",
            ));
        }
        batch.push(message(app, lines, line)?);
    }
    Ok(batch)
}
