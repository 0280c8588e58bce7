//! Publishing line by line, as the lines arrive.

use axum::{Json, body::Body};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::{
    App,
    access::MayPublish,
    error::{Problem, Taken},
    log::Append,
    publish,
};
/// How many lines are stored at a time.
const BATCH: usize = 1024;

/// `POST /streams/{name}?lines`
pub(super) async fn publish(
    app: &App,
    may: MayPublish,
    body: Body,
) -> Result<Json<Taken>, Problem> {
    let mut upload = Upload { app, may, taken: Taken::default() };
    let outcome = upload.run(body).await;
    outcome.map(|()| Json(upload.taken)).map_err(|problem| problem.after(upload.taken))
}

struct Upload<'app> {
    app: &'app App,
    may: MayPublish,
    taken: Taken,
}

impl Upload<'_> {
    async fn run(&mut self, body: Body) -> Result<(), Problem> {
        let most = self.app.max_message_bytes;
        let mut pieces = body.into_data_stream();
        let mut lines = Lines::default();
        // By when the line must end that has begun. Between two lines there may be silence for ever.
        let mut deadline = None;
        loop {
            let piece = tokio::select! {
                biased;
                () = self.app.shutdown.wait() => return Err(Problem::draining()),
                piece = in_time(pieces.next(), deadline) => piece,
            };
            let piece = piece.ok_or_else(|| publish::too_late(self.app))?;
            let Some(piece) = piece else { return self.store(lines.finish()).await };
            // A line that breaks off is not one.
            let piece = piece.map_err(|_| publish::incomplete())?;
            let complete = lines.take(&piece);
            let has_begun_one = deadline.is_none() || !complete.is_empty();
            self.store(complete).await?;
            // From here on, since we take our time to store.
            if lines.0.is_empty() {
                deadline = None;
            } else if has_begun_one {
                deadline = Some(Instant::now() + self.app.body_timeout);
            }
            // One more for the carriage return.
            if lines.0.len() > most + 1 {
                return Err(publish::too_large(most));
            }
        }
    }

    /// Stores lines up to the first that is refused.
    async fn store(&mut self, lines: Vec<Vec<u8>>) -> Result<(), Problem> {
        let mut lines = lines.into_iter().map(|line| publish::data(self.app, line)).peekable();
        while lines.peek().is_some() {
            let mut refused = None;
            // Who uploads faster than they may is read more slowly.
            let some =
                self.app.limits.publish_some(self.may.publisher(), lines.len().min(BATCH)).await;
            self.app.takes_messages()?;
            self.may.still_holds()?;
            let batch: Vec<_> = lines
                .by_ref()
                .take(some)
                .map_while(|line| line.map_err(|problem| refused = Some(problem)).ok())
                .collect();
            let count = batch.len() as u64;
            if count > 0 {
                let append = Append { stream: self.may.stream().clone(), batch, key: None };
                let appended = self.app.log.append(append).await?;
                self.taken.taken += count;
                self.taken.last_id = Some(appended.last);
            }
            if let Some(problem) = refused {
                return Err(problem);
            }
        }
        Ok(())
    }
}

/// What comes, unless it is too late.
async fn in_time<T>(next: impl Future<Output = T>, deadline: Option<Instant>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, next).await.ok(),
        None => Some(next.await),
    }
}

/// Cuts what arrives into lines, without their ends. Empty lines are left out.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// The lines that are complete with this piece.
    fn take(&mut self, piece: &[u8]) -> Vec<Vec<u8>> {
        let Some(end) = piece.iter().rposition(|&byte| byte == b'\n') else {
            self.0.extend_from_slice(piece);
            return Vec::new();
        };
        self.0.extend_from_slice(&piece[..end]);
        let complete = std::mem::replace(&mut self.0, piece[end + 1..].to_vec());
        complete.split(|&byte| byte == b'\n').filter_map(line).collect()
    }

    /// What is left when nothing more comes: a last line without an end is one too.
    fn finish(self) -> Vec<Vec<u8>> {
        line(&self.0).into_iter().collect()
    }
}

fn line(bytes: &[u8]) -> Option<Vec<u8>> {
    let line = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    (!line.is_empty()).then(|| line.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However an upload is cut into pieces, its lines are the same.
        #[test]
        fn cuts_do_not_matter(text in "[a\r\n]{0,40}", cuts in prop::collection::vec(1..8_usize, 1..20)) {
            let expected: Vec<_> = text.as_bytes().split(|&byte| byte == b'\n').filter_map(line).collect();
            let mut lines = Lines::default();
            let mut found = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.into_iter().cycle() {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                found.extend(lines.take(piece));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            found.extend(lines.finish());
            prop_assert_eq!(found, expected);
        }
    }
}
