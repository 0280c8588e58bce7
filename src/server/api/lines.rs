//! Publishing with `?lines`: each line of a streaming upload is a message, stored as it arrives.

mod decoder;
mod reserved;
mod whole;

use std::{borrow::Cow, sync::Arc};

use axum::{Json, body::Body};

pub(crate) use self::whole::{MAX_BYTES, publish_atomic};
use self::{
    decoder::Line,
    reserved::{LineBatch, ReservedLines},
};
use super::publishing::Publishing;
use crate::{
    message::EventId,
    server::{
        client::Client,
        error::{LinesStored, Problem},
        guard::{MayPublish, MemoryPermit, hold_until_done},
        log::{AppendAllError, message_text::MessageText},
    },
};

/// The end of a line that was truncated.
const ELLIPSIS: &str = "…";

/// How to handle a line that is too long for a message, or not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineMode {
    /// Truncate it, and replace invalid UTF-8: one bad line must not end a long-running upload.
    Lossy,
    /// End the upload with an error (`?lines=strict`).
    Strict,
}

/// `POST /streams/{name}?lines`
pub(crate) async fn publish(
    publishing: &Publishing,
    client: Client,
    may: MayPublish,
    mode: LineMode,
    body: Body,
) -> Result<Json<LinesStored>, Problem> {
    let mut upload = Upload { publishing, may, mode, stored: LinesStored::default() };
    let outcome = upload.run(client, body).await;
    outcome.map(|()| Json(upload.stored)).map_err(|problem| problem.after(upload.stored))
}

impl LinesStored {
    /// Counts stored lines. `altered` has an entry for each of them, `last` is the id of the last one.
    fn count(&mut self, altered: &[bool], last: Option<EventId>) {
        self.taken += altered.len() as u64;
        self.altered += altered.iter().filter(|altered| **altered).count() as u64;
        self.last_id = last.or(self.last_id);
    }
}

struct Upload<'p> {
    publishing: &'p Publishing,
    may: MayPublish,
    mode: LineMode,
    stored: LinesStored,
}

impl Upload<'_> {
    async fn run(&mut self, client: Client, body: Body) -> Result<(), Problem> {
        let publisher = self.may.publisher().clone();
        let mut lines = ReservedLines::new(self.publishing, client, publisher, body);
        loop {
            let LineBatch { lines, memory, error } = lines.next_batch().await?;
            if lines.is_empty() && error.is_none() {
                return Ok(());
            }
            self.store(lines, memory).await?;
            if let Some(problem) = error {
                return Err(problem);
            }
        }
    }

    /// Stores the lines before the first that is refused.
    async fn store(
        &mut self,
        lines: Vec<Line>,
        memory: Option<Arc<MemoryPermit>>,
    ) -> Result<(), Problem> {
        self.publishing.bodies.refuse_when_draining()?;
        self.may.check_not_expired()?;
        let mut rejected = None;
        let (batch, altered): (Vec<_>, Vec<_>) = lines
            .into_iter()
            .map(|line| to_message(self.publishing, self.mode, line))
            .map_while(|line| line.map_err(|problem| rejected = Some(problem)).ok())
            .unzip();
        if !batch.is_empty() {
            let (log, stream) = (self.publishing.log.clone(), self.may.stream().clone());
            let append = async move { log.append_all(stream, batch, None).await };
            let appended = match memory {
                Some(memory) => hold_until_done(memory, append).await,
                None => append.await,
            };
            match appended {
                Ok(appended) => self.stored.count(&altered, Some(appended.last)),
                Err(AppendAllError { stored, last, error }) => {
                    self.stored.count(altered.get(..stored).unwrap_or(&altered), last);
                    return Err(error.into());
                }
            }
        }
        rejected.map_or(Ok(()), Err)
    }
}

/// Makes a message of a line. Also returns whether the line was altered.
fn to_message(
    publishing: &Publishing,
    mode: LineMode,
    Line { bytes, truncated }: Line,
) -> Result<(MessageText, bool), Problem> {
    let max = publishing.max_message_bytes;
    match mode {
        LineMode::Strict if truncated => Err(publishing.too_large()),
        LineMode::Strict => Ok((publishing.text(bytes)?, false)),
        LineMode::Lossy => {
            let (text, altered) = decode_lossy(&bytes, truncated, max);
            Ok((publishing.text(text.into_bytes())?, altered))
        }
    }
}

/// Decodes a line to at most `max` bytes of text: invalid UTF-8 becomes U+FFFD, and a truncated text
/// ends with [`ELLIPSIS`]. Also returns whether the text differs from the line.
fn decode_lossy(bytes: &[u8], truncated: bool, max: usize) -> (String, bool) {
    let text = String::from_utf8_lossy(bytes);
    let replaced = matches!(text, Cow::Owned(_));
    let mut text = text.into_owned();
    // Truncating also removes the U+FFFD of a character that the decoder cut in half.
    let truncated = truncated || text.len() > max;
    if truncated {
        let ellipsis = if max < ELLIPSIS.len() { "" } else { ELLIPSIS };
        text.truncate(text.floor_char_boundary(max - ellipsis.len()));
        text.push_str(ellipsis);
    }
    (text, replaced || truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_truncated_and_decoded_lossily() {
        for (bytes, truncated, max, text, altered) in [
            (&b"plain"[..], false, 10, "plain", false),
            ("✅ naïve".as_bytes(), false, 20, "✅ naïve", false),
            (b"caf\xe9!", false, 20, "caf\u{fffd}!", true),
            (b"0123456789", true, 10, "0123456…", true),
            // With replacement characters it is too long.
            (b"\xff\xff\xff\xff", false, 9, "\u{fffd}\u{fffd}…", true),
            // Truncated at a character boundary.
            ("aé✅✅".as_bytes(), true, 9, "aé✅…", true),
            (b"abc", true, 2, "ab", true),
            (b"with \0 in it", false, 20, "with \0 in it", false),
        ] {
            assert_eq!(
                decode_lossy(bytes, truncated, max),
                (text.to_owned(), altered),
                "{bytes:?}"
            );
            assert!(decode_lossy(bytes, truncated, max).0.len() <= max, "{bytes:?}");
        }
    }
}
