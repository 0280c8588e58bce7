//! Response bodies with a memory reservation, which is revoked when the client reads too slowly.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio_util::task::AbortOnDropHandle;

use super::MemoryPermit;
use crate::server::chunked_body::ChunkedBody;

/// A body that is sent in copied small chunks, so that dropping it frees its memory. It is dropped at its
/// end, or when the client reads too slowly while others wait for memory; then it fails with an error.
pub(crate) struct ReservedBody {
    held: Arc<Mutex<Option<Held>>>,
    /// Drops the body when it is overdue. A task, because a body is not polled while its client does not
    /// read.
    _eviction: AbortOnDropHandle<()>,
}

struct Held {
    body: ChunkedBody,
    memory: MemoryPermit,
}

impl ReservedBody {
    pub(crate) fn new(body: Body, memory: MemoryPermit) -> Self {
        let overdue = memory.overdue();
        let held = Arc::new(Mutex::new(Some(Held { body: ChunkedBody::new(body, None), memory })));
        let to_evict = Arc::downgrade(&held);
        let eviction = tokio::spawn(async move {
            overdue.await;
            if let Some(held) = to_evict.upgrade() {
                drop(lock(&held).take());
            }
        });
        Self { held, _eviction: AbortOnDropHandle::new(eviction) }
    }
}

fn lock(held: &Mutex<Option<Held>>) -> MutexGuard<'_, Option<Held>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HttpBody for ReservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut held = lock(&self.held);
        let Some(Held { body, memory }) = &mut *held else {
            let slow = "the memory of a slow reader was needed by others";
            let error = io::Error::new(io::ErrorKind::TimedOut, slow);
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        };
        let frame = Pin::new(body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            memory.advance(frame.data_ref().map_or(0, Bytes::len));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.held).as_ref().is_some_and(|held| held.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.held).as_ref().map_or_else(SizeHint::default, |held| held.body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::IpAddr, time::Duration};

    use super::*;
    use crate::server::guard::memory::{MemoryBudget, MemoryPart};

    const MIB: usize = 1024 * 1024;

    /// Reserves nearly the whole share of a client.
    async fn reserve(budget: &MemoryBudget, client: u8) -> MemoryPermit {
        let address = IpAddr::from([192, 0, 2, client]).into();
        budget.acquire(address, MemoryPart::Answers, 7 * MIB).await.expect("memory")
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_loses_its_memory_when_others_wait() {
        let budget = MemoryBudget::new(64 * MIB as u64, 64 * 1024);
        let memory = reserve(&budget, 0).await;
        let mut slow = ReservedBody::new(vec![b'x'; 7 * MIB].into(), memory);
        for _ in 0..60 {
            let piece = poll_fn(|context| Pin::new(&mut slow).poll_frame(context)).await;
            assert!(piece.expect("more").is_ok(), "no request waits");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // The budget has room for four of them.
        let _others = [reserve(&budget, 1).await, reserve(&budget, 2).await];
        let _last = (reserve(&budget, 3).await, reserve(&budget, 4).await);
        assert!(!slow.is_end_stream());
        let piece = poll_fn(|context| Pin::new(&mut slow).poll_frame(context)).await;
        assert!(piece.expect("an error").is_err(), "it must not look complete");
    }
}
