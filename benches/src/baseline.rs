//! The baseline of the benchmarks: SSE as in the examples of axum, with a `broadcast` channel that
//! every reader subscribes to, and `Sse` with `KeepAlive`.
//!
//! It stores nothing, sends no ids, and a reader that lags by more than the channel's capacity
//! misses messages. It has the paths of Tidings, so that both get the same load, and ignores its
//! arguments.

use std::{convert::Infallible, io, sync::Arc};

use axum::{
    Router,
    extract::{FromRequest as _, RawQuery, Request, State},
    http::StatusCode,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
    serve::ListenerExt as _,
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, future::ready};
use tokio::{io::AsyncBufReadExt as _, net::TcpListener, sync::broadcast};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::io::StreamReader;

/// How many messages the channel holds for the slowest reader.
const CAPACITY: usize = 1024;

type Messages = broadcast::Sender<Arc<str>>;

#[tokio::main]
async fn main() -> io::Result<()> {
    let messages = Messages::new(CAPACITY);
    let router = Router::new()
        .route("/streams/{name}", post(publish))
        .route("/streams/{name}/events", get(events))
        .with_state(messages);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("The baseline is at http://{}", listener.local_addr()?);
    // Without this the kernel delays small writes for up to 40 ms.
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    axum::serve(listener, router).await
}

/// The body is the message; with `?lines`, each of its lines is one, as it arrives.
async fn publish(
    State(messages): State<Messages>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    if query.as_deref() == Some("lines") {
        let body = request.into_body().into_data_stream().map_err(io::Error::other);
        let mut lines = StreamReader::new(body).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            // Without subscribers this fails, which is fine.
            let _ = messages.send(line.into());
        }
        return StatusCode::OK.into_response();
    }
    match String::from_request(request, &()).await {
        Ok(message) => {
            let _ = messages.send(message.into());
            StatusCode::CREATED.into_response()
        }
        Err(rejection) => rejection.into_response(),
    }
}

async fn events(
    State(messages): State<Messages>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    // `Lagged`, which reports missed messages, is skipped.
    let received = BroadcastStream::new(messages.subscribe()).filter_map(|next| ready(next.ok()));
    let events = received.map(|message| Ok(Event::default().data(message)));
    Sse::new(events).keep_alive(KeepAlive::default())
}
