//! Watchers over any transport: hyper on one thread. It uses more of the processors than
//! [`Crowd`](crate::crowd::Crowd), so only figures of the server itself are meaningful.

use std::{any::Any, cell::RefCell, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    runtime::{self, Runtime},
    time::timeout,
};

use crate::{crowd::Tally, reader::Reader, text, transport::Connector};

/// How many connections are opened at a time.
const OPENING: usize = 50;
/// The HTTP/2 flow-control windows of a stream and of a connection, in bytes, as in Chromium: what
/// the server may send before it is read.
const STREAM_WINDOW: u32 = 6 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 15 * 1024 * 1024;
/// How long nothing may arrive before the rest counts as lost.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Watchers with open connections, which close when this value is dropped. Between two calls
/// nothing is read from a connection: then they are stalled readers.
pub(crate) struct TransportCrowd {
    watchers: Vec<Watcher>,
    pub(crate) tally: Tally,
    // Last, so that connections are dropped before it.
    runtime: Runtime,
}

struct Watcher {
    body: Incoming,
    reader: Reader,
    /// The number of the message that should come next.
    next: u64,
    /// Whether the server has closed the connection.
    is_cut: bool,
    /// The sender of its requests, without which hyper closes the connection.
    _sender: Box<dyn Any + Send>,
}

impl TransportCrowd {
    /// Connects `watchers` and waits until each has received the head of its answer. `window` is
    /// the receive buffer of each connection in bytes; by default the kernel decides.
    pub(crate) fn gather(
        connector: &Connector,
        watchers: usize,
        window: Option<u32>,
    ) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let sharing = connector.transport.watchers_of_a_connection();
        let groups = (0..watchers.div_ceil(sharing)).map(|group| {
            let number = sharing.min(watchers - group * sharing);
            open(connector, number, window)
        });
        let opening = stream::iter(groups).buffer_unordered(OPENING).try_concat();
        let watchers = runtime.block_on(opening)?;
        Ok(Self { watchers, tally: Tally::new()?, runtime })
    }

    /// Reads until every watcher has received the last of `messages`, or no longer can.
    pub(crate) fn watch(&mut self, messages: u64) {
        let tally = RefCell::new(&mut self.tally);
        let watching = self.watchers.iter_mut().map(|watcher| watcher.watch(messages, &tally));
        self.runtime.block_on(join_all(watching));
        let never_came = self.watchers.iter().map(|watcher| messages.saturating_sub(watcher.next));
        self.tally.missed += never_came.sum::<u64>();
    }
}

/// Opens a connection, and as many watchers on it.
async fn open(
    connector: &Connector,
    watchers: usize,
    window: Option<u32>,
) -> anyhow::Result<Vec<Watcher>> {
    let address = connector.address;
    let io = TokioIo::new(connector.connect(window).await?);
    // The connections end with the crowd.
    if connector.transport.is_http2() {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(io)
            .await?;
        tokio::spawn(connection);
        let answers = (0..watchers).map(|_| {
            let mut sender = sender.clone();
            async move {
                let answer = sender.send_request(request(format!("https://{address}"))?).await?;
                Watcher::new(answer, Box::new(sender))
            }
        });
        return join_all(answers).await.into_iter().collect();
    }
    let (mut sender, connection) = http1::handshake(io).await?;
    tokio::spawn(connection);
    let mut request = request(String::new())?;
    request.headers_mut().insert("host", address.to_string().parse()?);
    let answer = sender.send_request(request).await?;
    Ok(vec![Watcher::new(answer, Box::new(sender))?])
}

fn request(server: String) -> anyhow::Result<Request<Empty<Bytes>>> {
    let request = Request::get(server + "/streams/bench/events");
    request.header("accept", "text/event-stream").body(Empty::new()).context("not a request")
}

impl Watcher {
    fn new(answer: Response<Incoming>, sender: Box<dyn Any + Send>) -> anyhow::Result<Self> {
        ensure!(answer.status().is_success(), "a watcher was refused: {}", answer.status());
        let (body, reader) = (answer.into_body(), Reader::of_body());
        Ok(Self { body, reader, next: 0, is_cut: false, _sender: sender })
    }

    async fn watch(&mut self, messages: u64, tally: &RefCell<&mut Tally>) {
        while self.next < messages && !self.is_cut {
            let Ok(frame) = timeout(TIMEOUT, self.body.frame()).await else { return };
            let data = frame.and_then(|frame| frame.ok()?.into_data().ok());
            self.is_cut = data.is_none();
            let now = text::now();
            let mut tally = tally.borrow_mut();
            let next = &mut self.next;
            let mut on_data = |data: &[u8]| {
                if let Some((number, sent)) = text::read(data) {
                    tally.count(next, number, now.saturating_sub(sent));
                }
            };
            self.is_cut |= self.reader.take(&data.unwrap_or_default(), &mut on_data).is_err();
        }
    }
}
