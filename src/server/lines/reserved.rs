//! Lines as they are uploaded, with memory reserved while there is more than a little of them.
//!
//! An upload may last for ever and say nothing for hours: meanwhile it must not hold memory that
//! others wait for. One that sends long lines, or many at a time, holds a reservation as long as it
//! does so.

use std::io;

use axum::body::Body;
use bytes::BytesMut;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::sleep_until;
use tokio_util::codec::{Decoder, FramedRead};

use super::{
    super::{
        App,
        body::Pace,
        client::Client,
        encoding,
        error::Problem,
        limits::{MemoryPart, MemoryPermit},
    },
    BodyReader,
    decoder::{Line, LineDecoder},
    reader,
};

/// How many lines are stored at a time, and about how many bytes of them wait for that.
const MAX_BATCH: usize = 1024;
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// How many bytes of lines, and of one that has begun, are held without a reservation.
const UNRESERVED_BYTES: usize = 2048;

/// The lines of a body.
pub(super) struct ReservedLines<'app> {
    app: &'app App,
    client: Client,
    lines: futures::stream::Fuse<FramedRead<BodyReader, ReservingDecoder>>,
    memory: Option<MemoryPermit>,
}

impl<'app> ReservedLines<'app> {
    pub(super) fn new(app: &'app App, client: Client, body: Body) -> Self {
        let decoder =
            ReservingDecoder { lines: LineDecoder::new(app.max_message_bytes), is_reserved: false };
        let lines = FramedRead::new(reader(body), decoder).fuse();
        Self { app, client, lines, memory: None }
    }

    /// A line and those behind it that have come already, up to an error; none at the end.
    ///
    /// # Errors
    /// When the server stops, there is no memory, or a long line comes too slowly.
    pub(super) async fn next_batch(&mut self) -> Result<(Vec<Line>, Option<Problem>), Problem> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut next = self.next().await?;
        loop {
            match next {
                Some(Ok(Decoded::Line(line))) => {
                    bytes += line.bytes.len();
                    batch.push(line);
                }
                Some(Ok(Decoded::Long)) if batch.is_empty() => {
                    self.reserve().await?;
                    next = self.next().await?;
                    continue;
                }
                // It comes once more.
                Some(Ok(Decoded::Long)) | None => break,
                Some(Err(error)) => return Ok((batch, Some(encoding::unreadable(&error)))),
            }
            if bytes >= UNRESERVED_BYTES
                && self.memory.is_none()
                && let Err(problem) = self.reserve().await
            {
                return Ok((batch, Some(problem)));
            }
            if batch.len() >= MAX_BATCH || bytes >= MAX_BATCH_BYTES {
                break;
            }
            match self.lines.next().now_or_never() {
                Some(ready) => next = ready,
                None => break,
            }
        }
        Ok((batch, None))
    }

    /// The next line. As long as none has come, and not much of one, no memory is reserved.
    async fn next(&mut self) -> Result<Option<io::Result<Decoded>>, Problem> {
        if let Some(ready) = self.lines.next().now_or_never() {
            return Ok(ready);
        }
        if self.begun() <= UNRESERVED_BYTES {
            self.release();
        }
        let (mut pace, mut begun) = (Pace::begin(self.app.body_timeout), self.begun());
        loop {
            // Between two bytes there may be silence for ever: a log says nothing for as long as nothing
            // happens, and the system asks whether the connection is still there. Only a line that
            // holds memory has to come to its end.
            tokio::select! {
                biased;
                () = self.app.shutdown.wait() => return Err(Problem::draining()),
                next = self.lines.next() => return Ok(next),
                () = sleep_until(pace.next_check()), if self.memory.is_some() => {}
            }
            pace.advance(self.begun().saturating_sub(begun));
            begun = self.begun();
            pace.check(&self.app.memory)?;
        }
    }

    /// How much there is of a line whose end has not come.
    fn begun(&self) -> usize {
        self.lines.get_ref().read_buffer().len()
    }

    async fn reserve(&mut self) -> Result<(), Problem> {
        let bytes = MAX_BATCH_BYTES + 2 * self.app.max_message_bytes;
        let memory = &self.app.memory;
        self.memory = Some(memory.acquire(self.client.address, MemoryPart::Bodies, bytes).await?);
        self.lines.get_mut().decoder_mut().is_reserved = true;
        Ok(())
    }

    fn release(&mut self) {
        self.memory = None;
        self.lines.get_mut().decoder_mut().is_reserved = false;
    }
}

/// Decodes lines, and stops at one that is long until memory is reserved for it.
struct ReservingDecoder {
    lines: LineDecoder,
    is_reserved: bool,
}

/// What has come.
enum Decoded {
    /// A line.
    Line(Line),
    /// The beginning of a line that is long.
    Long,
}

impl Decoder for ReservingDecoder {
    type Item = Decoded;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Decoded>> {
        let line = self.lines.decode(buffer)?.map(Decoded::Line);
        let is_long = !self.is_reserved && buffer.len() > UNRESERVED_BYTES;
        Ok(line.or_else(|| is_long.then_some(Decoded::Long)))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Decoded>> {
        Ok(self.lines.decode_eof(buffer)?.map(Decoded::Line))
    }
}
