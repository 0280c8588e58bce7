//! Publishing line by line, as the lines arrive.

mod decoder;
mod reserved;
mod whole;

use std::{borrow::Cow, sync::Arc};

use axum::{Json, body::Body};

pub(crate) use self::whole::publish_whole;
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

/// What stands for the rest of a line that was cut.
const CUT: &str = "…";

/// What becomes of a line that cannot be a message as it is: too long, or not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// It is made one: a log holds what it holds, and one line must not end an upload that lasts.
    Altered,
    /// It ends the upload with a refusal (`?lines=strict`).
    Strict,
}

/// `POST /streams/{name}?lines`
pub(crate) async fn publish(
    publishing: &Publishing,
    client: Client,
    may: MayPublish,
    lines: Lines,
    body: Body,
) -> Result<Json<LinesStored>, Problem> {
    let mut upload = Upload { publishing, may, lines, taken: LinesStored::default() };
    let outcome = upload.run(client, body).await;
    outcome.map(|()| Json(upload.taken)).map_err(|problem| problem.after(upload.taken))
}

impl LinesStored {
    /// Counts lines that are stored, the last of them with this id; tells for each whether it was
    /// altered.
    fn count(&mut self, altered: &[bool], last: Option<EventId>) {
        self.taken += altered.len() as u64;
        self.altered += altered.iter().filter(|altered| **altered).count() as u64;
        self.last_id = last.or(self.last_id);
    }
}

struct Upload<'p> {
    publishing: &'p Publishing,
    may: MayPublish,
    lines: Lines,
    taken: LinesStored,
}

impl Upload<'_> {
    async fn run(&mut self, client: Client, body: Body) -> Result<(), Problem> {
        let publisher = self.may.publisher().clone();
        let mut lines = ReservedLines::new(self.publishing, client, publisher, body);
        loop {
            let LineBatch { lines, memory, refused } = lines.next_batch().await?;
            if lines.is_empty() && refused.is_none() {
                return Ok(());
            }
            self.store(lines, memory).await?;
            if let Some(problem) = refused {
                return Err(problem);
            }
        }
    }

    /// Stores lines up to the first that is refused.
    async fn store(
        &mut self,
        lines: Vec<Line>,
        memory: Option<Arc<MemoryPermit>>,
    ) -> Result<(), Problem> {
        self.publishing.bodies.refuse_when_draining()?;
        self.may.still_holds()?;
        let mut refused = None;
        let (batch, altered): (Vec<_>, Vec<_>) = lines
            .into_iter()
            .map(|line| message(self.publishing, self.lines, line))
            .map_while(|line| line.map_err(|problem| refused = Some(problem)).ok())
            .unzip();
        if !batch.is_empty() {
            let (log, stream) = (self.publishing.log.clone(), self.may.stream().clone());
            let append = async move { log.append_all(stream, batch, None).await };
            let appended = match memory {
                Some(memory) => hold_until_done(memory, append).await,
                None => append.await,
            };
            match appended {
                Ok(appended) => self.taken.count(&altered, Some(appended.last)),
                Err(AppendAllError { stored, last, error }) => {
                    self.taken.count(altered.get(..stored).unwrap_or(&altered), last);
                    return Err(error.into());
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

/// A line as a message, and whether it had to be altered for that.
fn message(
    publishing: &Publishing,
    lines: Lines,
    Line { bytes, cut }: Line,
) -> Result<(MessageText, bool), Problem> {
    let max = publishing.max_message_bytes;
    match lines {
        Lines::Strict if cut => Err(publishing.too_large()),
        Lines::Strict => Ok((publishing.text(bytes)?, false)),
        Lines::Altered => {
            let (text, altered) = fitting(&bytes, cut, max);
            Ok((publishing.text(text.into_bytes())?, altered))
        }
    }
}

/// A text of at most `max` bytes: replacement characters stand for what is not UTF-8, and [`CUT`] for
/// what did not fit.
fn fitting(bytes: &[u8], cut: bool, max: usize) -> (String, bool) {
    let text = String::from_utf8_lossy(bytes);
    let replaced = matches!(text, Cow::Owned(_));
    let mut text = text.into_owned();
    // What was cut off in the middle of a character is no byte that is wrong.
    let cut = cut || text.len() > max;
    if cut {
        let mark = if max < CUT.len() { "" } else { CUT };
        text.truncate(text.floor_char_boundary(max - mark.len()));
        text.push_str(mark);
    }
    (text, replaced || cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_becomes() {
        for (bytes, cut, max, text, altered) in [
            (&b"plain"[..], false, 10, "plain", false),
            ("✅ naïve".as_bytes(), false, 20, "✅ naïve", false),
            (b"caf\xe9!", false, 20, "caf\u{fffd}!", true),
            (b"0123456789", true, 10, "0123456…", true),
            // Replaced, it no longer fits.
            (b"\xff\xff\xff\xff", false, 9, "\u{fffd}\u{fffd}…", true),
            // Not within a character.
            ("aé✅✅".as_bytes(), true, 9, "aé✅…", true),
            (b"abc", true, 2, "ab", true),
            (b"with \0 in it", false, 20, "with \0 in it", false),
        ] {
            assert_eq!(fitting(bytes, cut, max), (text.to_owned(), altered), "{bytes:?}");
            assert!(fitting(bytes, cut, max).0.len() <= max, "{bytes:?}");
        }
    }
}
