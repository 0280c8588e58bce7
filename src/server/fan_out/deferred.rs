//! An event stream that has begun, and whose connection is not known yet.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{body::Body, response::Response};
use bytes::{Bytes, BytesMut};
use futures::{
    FutureExt as _, Stream, StreamExt as _,
    future::{lazy, ready},
};

use super::{CatchUp, Connection, Count, FanOut};
use crate::server::{
    hub::{Watcher, count_frame},
    sse::{Batch, EventBody, Subscription, response::respond_with},
};

/// An extension of the response: what takes the event stream out of it serves it in place of hyper.
#[derive(Clone)]
pub(crate) struct DeferredStream(Arc<Mutex<Option<EventStream>>>);

/// An event stream, with its first frames.
pub(crate) struct EventStream {
    fan_out: FanOut,
    subscription: Subscription,
    first: Batch<String>,
    cursor: Box<Watcher>,
    /// Whether the reader wants to know the number of watchers.
    wants_count: bool,
}

impl FanOut {
    /// The response of an event stream, served by hyper unless its [`DeferredStream`] is taken.
    pub(crate) fn respond(
        &self,
        subscription: Subscription,
        first: Batch<String>,
        watcher: Watcher,
        wants_count: bool,
    ) -> Response {
        let (fan_out, cursor) = (self.clone(), Box::new(watcher));
        let stream = EventStream { fan_out, subscription, first, cursor, wants_count };
        let deferred = DeferredStream(Arc::new(Mutex::new(Some(stream))));
        let here = deferred.clone();
        let body = lazy(move |_| here.take()).into_stream();
        let frames = body.filter_map(ready).flat_map(EventStream::into_frames);
        respond_with(Body::from_stream(frames), deferred)
    }
}

impl DeferredStream {
    pub(crate) fn take(&self) -> Option<EventStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl EventStream {
    fn into_frames(self) -> impl Stream<Item = Result<Bytes, axum::Error>> {
        let Self { fan_out, subscription, first, cursor, wants_count } = self;
        let (hub, stream) = (cursor.hub().clone(), cursor.stream().clone());
        let frames = cursor.frames();
        let frames = if wants_count {
            hub.with_watcher_counts(&stream, frames).boxed()
        } else {
            frames.boxed()
        };
        let (events, freshness) = (fan_out.events(), fan_out.freshness().clone());
        EventBody::new(events, freshness, subscription, frames).with_first(first)
    }

    /// Sends the response on a connection: its `head`, then the events. Returns when the connection is
    /// closed, or when a group has it.
    pub(crate) async fn serve(self, connection: Connection, head: BytesMut) {
        let Self { fan_out, subscription, mut first, cursor, wants_count } = self;
        let mut count = None;
        if wants_count && let (now, Some(number)) = cursor.hub().follow_count(cursor.stream()) {
            // After a large message, whose memory is reserved, and what is read before the watcher has
            // caught up, the group tells the number.
            let is_told = first.memory.is_none() && !cursor.has_ended();
            if is_told {
                first.frames.push_str(&count_frame(now));
            }
            count = Some(Count { number, told: if is_told { now } else { 0 } });
        }
        let body = fan_out.body(subscription, cursor).with_first(first);
        CatchUp { fan_out, connection, body, count }.run(head).await;
    }
}
