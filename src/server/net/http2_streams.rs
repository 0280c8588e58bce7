//! The streams of an HTTP/2 connection, each a request with its response.

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

use super::socket::WRITE_TIMEOUT;
use crate::server::chunked_body::ChunkedBody;

tokio::task_local! {
    /// Since when the other side has not asked this stream for more, while there may be more.
    static STALLED_SINCE: Cell<Option<Instant>>;
}

/// Runs the streams of one connection, and counts them.
#[derive(Clone, Debug, Default)]
pub(super) struct Http2Streams(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Http2Streams {
    /// How many have begun.
    pub(super) fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// How many of them have not ended.
    pub(super) fn open(&self) -> u64 {
        // In this order: what begins meanwhile is not missing.
        let ended = self.0.ended.load(Ordering::Acquire);
        self.begun().saturating_sub(ended)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Http2Streams {
    fn execute(&self, stream: F) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
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

/// Lets a stream go whose reader takes nothing. The others of the connection may go on, so that the
/// time-out of the socket does not see it.
async fn abort_if_stalled(stream: impl Future<Output = ()>) {
    let mut stream = pin!(stream);
    loop {
        let since = STALLED_SINCE.with(Cell::get);
        if since.is_some_and(|since| since.elapsed() >= WRITE_TIMEOUT) {
            tracing::debug!("a reader took nothing on its stream");
            return;
        }
        tokio::select! {
            biased;
            () = &mut stream => return,
            () = sleep_until(since.unwrap_or_else(Instant::now) + WRITE_TIMEOUT) => {}
        }
    }
}

/// A body that notes, for its stream, when it was last asked for more.
pub(super) struct StallDetectingBody(ChunkedBody);

impl StallDetectingBody {
    /// To be called on the stream that answers with it: from now on it waits for its reader.
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
        // Outside of such a stream nothing watches.
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

    /// Asks a body for so many pieces, as a connection does for a reader that takes them, and then
    /// for no more. Tells whether the stream is let go.
    async fn is_let_go(pieces: usize) -> bool {
        let two = stream::iter(["one", "two"]).map(Ok::<_, std::convert::Infallible>);
        let reading = async move {
            let body = Body::from_stream(two.chain(stream::pending()));
            let body = ChunkedBody::of(Response::new(body)).into_body();
            let mut body = StallDetectingBody::new(body);
            for _ in 0..pieces {
                poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            }
            pending::<()>().await;
        };
        let stream = STALLED_SINCE.scope(Cell::default(), abort_if_stalled(reading));
        tokio::time::timeout(Duration::from_hours(1), stream).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_let_go_that_takes_nothing_though_there_is_more() {
        assert!(is_let_go(0).await);
        assert!(is_let_go(1).await);
        assert!(is_let_go(2).await);
        assert!(!is_let_go(3).await, "it is the body that has nothing");
        let unanswered = STALLED_SINCE.scope(Cell::default(), abort_if_stalled(pending()));
        let let_go = tokio::time::timeout(Duration::from_hours(1), unanswered).await.is_ok();
        assert!(!let_go, "there is no answer yet");
    }
}
