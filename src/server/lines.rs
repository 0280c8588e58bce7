//! Publishing line by line, as the lines arrive.

mod decoder;
mod whole;

use std::{borrow::Cow, io};

use axum::{Json, body::Body};
use futures::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _};
use tokio_util::{codec::FramedRead, io::StreamReader};

use self::decoder::{Line, LineDecoder};
pub(super) use self::whole::publish_whole;
use super::{
    App,
    access::MayPublish,
    data::Data,
    encoding,
    error::{LinesStored, Problem},
    log::PartlyAppended,
    publish,
};
use crate::message::EventId;

/// How many lines are stored at a time, and about how many bytes of them wait for that.
const MAX_BATCH: usize = 1024;
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// What stands for the rest of a line that was cut.
const CUT: &str = "…";

/// What becomes of a line that cannot be a message as it is: too long, or not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// It is made one: a log holds what it holds, and one line must not end an upload that lasts.
    Altered,
    /// It ends the upload with a refusal (`?lines=strict`).
    Strict,
}

/// `POST /streams/{name}?lines`
pub(super) async fn publish(
    app: &App,
    may: MayPublish,
    lines: Lines,
    body: Body,
) -> Result<Json<LinesStored>, Problem> {
    let mut upload = Upload { app, may, lines, taken: LinesStored::default() };
    let outcome = upload.run(body).await;
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

/// The lines of a body.
fn decoded(app: &App, body: Body) -> impl Stream<Item = io::Result<Line>> + Unpin {
    let reader = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    FramedRead::new(reader, LineDecoder::new(app.max_message_bytes))
}

struct Upload<'app> {
    app: &'app App,
    may: MayPublish,
    lines: Lines,
    taken: LinesStored,
}

impl Upload<'_> {
    /// Between two bytes there may be silence for ever: a log says nothing for as long as nothing
    /// happens, and the system asks whether the connection is still there.
    async fn run(&mut self, body: Body) -> Result<(), Problem> {
        let mut lines = decoded(self.app, body).fuse();
        loop {
            let next = tokio::select! {
                biased;
                () = self.app.shutdown.wait() => return Err(Problem::draining()),
                next = lines.next() => next,
            };
            let Some(first) = next else { return Ok(()) };
            let (batch, broken) = batch(first, &mut lines);
            self.store(batch).await?;
            if let Some(error) = broken {
                return Err(encoding::unreadable(&error));
            }
        }
    }

    /// Stores lines up to the first that is refused.
    async fn store(&mut self, lines: Vec<Line>) -> Result<(), Problem> {
        let mut lines =
            lines.into_iter().map(|line| message(self.app, self.lines, line)).peekable();
        while lines.peek().is_some() {
            let mut refused = None;
            // A publisher that uploads faster than it may is read more slowly.
            let some = self
                .app
                .limits
                .publish_some(self.may.publisher(), lines.len().min(MAX_BATCH))
                .await;
            self.app.takes_messages()?;
            self.may.still_holds()?;
            let (batch, altered): (Vec<_>, Vec<_>) = lines
                .by_ref()
                .take(some)
                .map_while(|line| line.map_err(|problem| refused = Some(problem)).ok())
                .unzip();
            if !batch.is_empty() {
                let stream = self.may.stream().clone();
                let appended = match self.app.log.append_all(stream, batch, None).await {
                    Ok(appended) => {
                        self.taken.count(&altered, Some(appended.last));
                        Ok(())
                    }
                    Err(PartlyAppended { stored, last, refusal }) => {
                        self.taken.count(altered.get(..stored).unwrap_or(&altered), last);
                        Err(refusal)
                    }
                };
                appended?;
            }
            if let Some(problem) = refused {
                return Err(problem);
            }
        }
        Ok(())
    }
}

/// A line and those behind it that have come already, up to an error.
fn batch<E>(
    first: Result<Line, E>,
    lines: &mut (impl Stream<Item = Result<Line, E>> + Unpin),
) -> (Vec<Line>, Option<E>) {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut next = Some(first);
    while let Some(line) = next {
        match line {
            Ok(line) => {
                bytes += line.bytes.len();
                batch.push(line);
            }
            Err(error) => return (batch, Some(error)),
        }
        let is_full = batch.len() >= MAX_BATCH || bytes >= MAX_BATCH_BYTES;
        next = if is_full { None } else { lines.next().now_or_never().flatten() };
    }
    (batch, None)
}

/// A line as a message, and whether it had to be altered for that.
fn message(app: &App, lines: Lines, Line { bytes, cut }: Line) -> Result<(Data, bool), Problem> {
    let most = app.max_message_bytes;
    match lines {
        Lines::Strict if cut => Err(publish::too_large(most)),
        Lines::Strict => Ok((publish::data(app, bytes)?, false)),
        Lines::Altered => {
            let (text, altered) = fitting(&bytes, cut, most);
            Ok((publish::data(app, text.into_bytes())?, altered))
        }
    }
}

/// A text of at most `most` bytes: replacement characters stand for what is not UTF-8, and [`CUT`] for
/// what did not fit.
fn fitting(bytes: &[u8], cut: bool, most: usize) -> (String, bool) {
    let text = String::from_utf8_lossy(bytes);
    let replaced = matches!(text, Cow::Owned(_));
    let mut text = text.into_owned();
    // What was cut off in the middle of a character is no byte that is wrong.
    let cut = cut || text.len() > most;
    if cut {
        let mark = if most < CUT.len() { "" } else { CUT };
        text.truncate(text.floor_char_boundary(most - mark.len()));
        text.push_str(mark);
    }
    (text, replaced || cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_becomes() {
        for (bytes, cut, most, text, altered) in [
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
            assert_eq!(fitting(bytes, cut, most), (text.to_owned(), altered), "{bytes:?}");
            assert!(fitting(bytes, cut, most).0.len() <= most, "{bytes:?}");
        }
    }
}
