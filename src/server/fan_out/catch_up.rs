//! A watcher with a task of its own: until it has caught up, and from its end on.

use std::{future::poll_fn, io, task::Poll};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

use super::{Connection, Count, FanOut, LiveWatcher, chunk};
use crate::server::{
    hub::{CatchUpFrames, Watcher},
    sse::{EventBody, response::BATCH_BYTES},
};

/// An event stream whose reader lacks something.
pub(super) struct CatchUp {
    pub(super) fan_out: FanOut,
    pub(super) connection: Connection,
    pub(super) body: EventBody<CatchUpFrames>,
    pub(super) count: Option<Count>,
}

enum Next {
    Frames(Bytes),
    CaughtUp(Box<Watcher>),
    End,
    Disconnected,
}

impl CatchUp {
    /// Sends what the connection did not take before, and then the same as [`run`](Self::run).
    pub(super) async fn run_after_rest(mut self) {
        match self.connection.write_all_rest().await {
            Ok(()) => self.run(BytesMut::new()).await,
            Err(error) => log_error(&error),
        }
    }

    /// Sends `head`, and then the frames of the body, until its watcher has caught up: then a group gets
    /// it. When the event stream ends, so does the connection.
    pub(super) async fn run(self, head: BytesMut) {
        let Self { fan_out, mut connection, mut body, count } = self;
        match send(&mut connection, head, &mut body).await {
            Ok(Some(cursor)) => {
                let subscription = body.into_subscription();
                fan_out.add(LiveWatcher { connection, cursor, subscription, count });
            }
            Ok(None) => {
                drop(body);
                connection.close().await;
            }
            Err(error) => log_error(&error),
        }
    }
}

/// Returns the watcher once it has caught up, or none at the end of the event stream. `out` is sent with
/// the first frames.
async fn send(
    connection: &mut Connection,
    mut out: BytesMut,
    body: &mut EventBody<CatchUpFrames>,
) -> io::Result<Option<Box<Watcher>>> {
    loop {
        match next(connection, body).await {
            // In pieces: a client may take long for each, and what it does not take is held twice.
            Next::Frames(mut frames) => {
                while !frames.is_empty() {
                    let piece = frames.split_to(frames.len().min(BATCH_BYTES));
                    chunk::push(&mut out, &piece);
                    drop(piece);
                    connection.write_all(&mut out).await?;
                }
            }
            Next::CaughtUp(watcher) => {
                connection.write_all(&mut out).await?;
                return Ok(Some(watcher));
            }
            Next::End => {
                out.extend_from_slice(chunk::LAST);
                connection.write_all(&mut out).await?;
                return Ok(None);
            }
            Next::Disconnected => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

async fn next(connection: &mut Connection, body: &mut EventBody<CatchUpFrames>) -> Next {
    poll_fn(|context| {
        if connection.poll_closed(context).is_ready() {
            return Poll::Ready(Next::Disconnected);
        }
        Poll::Ready(match body.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(frames))) => Next::Frames(frames),
            // The message is incomplete, and so is the response.
            Poll::Ready(Some(Err(_))) => Next::Disconnected,
            Poll::Ready(None) => Next::End,
            Poll::Pending => match body.idle_frames().and_then(CatchUpFrames::take) {
                Some(watcher) => Next::CaughtUp(watcher),
                None => return Poll::Pending,
            },
        })
    })
    .await
}

fn log_error(error: &io::Error) {
    tracing::debug!(%error, "a connection failed");
}
