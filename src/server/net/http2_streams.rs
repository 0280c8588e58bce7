//! The streams of an HTTP/2 connection: counted, and each with a write timeout of its own.

use std::{
    cell::Cell,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    body::{Frame, SizeHint},
    rt::Executor,
};
use tokio::time::{Instant, sleep_until};

use crate::server::{chunked_body::ChunkedBody, fan_out::WRITE_TIMEOUT};

tokio::task_local! {
    /// When the body of this stream's response was last ready and since then not polled; `None` while
    /// the body is pending.
    static STALLED_SINCE: Cell<Option<Instant>>;
}

/// The executor of one connection: spawns a task per stream, and counts them.
#[derive(Clone, Debug, Default)]
pub(super) struct Http2Streams(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    started: AtomicU64,
    ended: AtomicU64,
}

impl Http2Streams {
    /// The number of streams that have started.
    pub(super) fn started(&self) -> u64 {
        self.0.started.load(Ordering::Relaxed)
    }

    /// The number of streams that have not ended.
    pub(super) fn open(&self) -> u64 {
        // Loaded before `started`, so that a stream that starts in between is counted.
        let ended = self.0.ended.load(Ordering::Acquire);
        self.started().saturating_sub(ended)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Http2Streams {
    fn execute(&self, stream: F) {
        self.0.started.fetch_add(1, Ordering::Relaxed);
        let open = StreamGuard(Arc::clone(&self.0));
        tokio::spawn(STALLED_SINCE.scope(Cell::default(), async move {
            let _open = open;
            abort_if_stalled(stream).await;
        }));
    }
}

struct StreamGuard(Arc<Counts>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

/// Aborts a stream whose reader takes nothing for [`WRITE_TIMEOUT`]. The write timeout of the socket
/// does not apply while other streams of the connection make progress.
async fn abort_if_stalled(stream: impl Future<Output = ()>) {
    let mut stream = pin!(stream);
    loop {
        let since = STALLED_SINCE.with(Cell::get);
        if since.is_some_and(|since| since.elapsed() >= WRITE_TIMEOUT) {
            tracing::debug!("a stream was aborted: its reader takes nothing");
            return;
        }
        tokio::select! {
            biased;
            () = &mut stream => return,
            () = sleep_until(since.unwrap_or_else(Instant::now) + WRITE_TIMEOUT) => {}
        }
    }
}

/// A body that records, for its stream, since when it has not been polled for more.
pub(super) struct StallDetectingBody(ChunkedBody);

impl StallDetectingBody {
    /// To be called in the task of its stream; the time that the reader takes counts from now on.
    pub(super) fn new(body: ChunkedBody) -> Self {
        let _ = STALLED_SINCE.try_with(|since| since.set(Some(Instant::now())));
        Self(body)
    }
}

impl hyper::body::Body for StallDetectingBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.0).poll_frame(context);
        let stalled_since = frame.is_ready().then(Instant::now);
        // Outside of such a task no stall is detected.
        let _ = STALLED_SINCE.try_with(|since| since.set(stalled_since));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        time::Duration,
    };

    use axum::body::Body;
    use futures::{StreamExt as _, stream};
    use hyper::{Response, body::Body as _};

    use super::*;

    /// Polls a body for `frames` frames, as a connection does for a reader that takes them, and then
    /// no more. Returns whether the stream is aborted.
    async fn is_aborted(frames: usize) -> bool {
        let two = stream::iter(["one", "two"]).map(Ok::<_, std::convert::Infallible>);
        let reading = async move {
            let body = Body::from_stream(two.chain(stream::pending()));
            let body = ChunkedBody::from_response(Response::new(body)).into_body();
            let mut body = StallDetectingBody::new(body);
            for _ in 0..frames {
                poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            }
            pending::<()>().await;
        };
        let stream = STALLED_SINCE.scope(Cell::default(), abort_if_stalled(reading));
        tokio::time::timeout(Duration::from_hours(1), stream).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_aborted_if_its_reader_takes_nothing_of_a_body_that_is_ready() {
        assert!(is_aborted(0).await);
        assert!(is_aborted(1).await);
        assert!(is_aborted(2).await);
        assert!(!is_aborted(3).await, "the body is pending, not the reader");
        let without_response = STALLED_SINCE.scope(Cell::default(), abort_if_stalled(pending()));
        let is_aborted =
            tokio::time::timeout(Duration::from_hours(1), without_response).await.is_ok();
        assert!(!is_aborted, "there is no response yet");
    }
}
