//! Unreliable networks (invariant 3 of the design): after any history of cut connections, a reader has
//! what the log holds.

use std::{net::SocketAddr, time::Duration};

use futures::{StreamExt as _, future::join_all};
use reqwest::Client;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::support::{
    TestApp, seeded_rng,
    text::{random_text, with_lf_line_ends},
};

const MESSAGES: usize = 1_000;
const READERS: usize = 24;

/// An unreliable TCP proxy: it cuts connections after a random number of bytes, delays data, and forwards
/// it in other pieces. Returns its address.
async fn start_unreliable_proxy(server: SocketAddr, mut rng: fastrand::Rng) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((reader, _)) = listener.accept().await {
            tokio::spawn(forward(reader, server, rng.fork()));
        }
    });
    address
}

/// Forwards one connection; any error ends it.
async fn forward(
    reader: TcpStream,
    server: SocketAddr,
    mut rng: fastrand::Rng,
) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let ((mut from_reader, mut to_reader), (mut from_server, mut to_server)) =
        (reader.into_split(), server.into_split());
    let requests =
        tokio::spawn(async move { tokio::io::copy(&mut from_reader, &mut to_server).await });
    let mut left = if rng.u8(0..10) == 0 { rng.usize(0..300) } else { rng.usize(0..9_000) };
    let mut piece = vec![0; 4096];
    while left > 0 {
        let max = rng.usize(1..=left.min(piece.len()));
        let read = from_server.read(&mut piece[..max]).await?;
        if read == 0 {
            break;
        }
        if rng.u8(0..20) == 0 {
            sleep(Duration::from_millis(rng.u64(0..5))).await;
        }
        to_reader.write_all(&piece[..read]).await?;
        left -= read;
    }
    requests.abort();
    Ok(())
}

/// The state of a browser's event source (HTML standard, section 9.2.6), kept across connections.
#[derive(Default)]
struct Browser {
    /// The bytes since the last line end.
    line: Vec<u8>,
    event: String,
    data: Option<String>,
    id: String,
    /// The cursor that it sends when it reconnects.
    last_id: String,
    /// The first cursor that it received.
    first_id: Option<String>,
    messages: Vec<(String, String)>,
    /// The number of ends that it received.
    ends: usize,
    connections: usize,
}

impl Browser {
    /// Starts a new connection: an incomplete event of the last one is discarded.
    fn start_connection(&mut self) {
        self.connections += 1;
        self.line.clear();
        (self.event, self.data, self.id) = (String::new(), None, self.last_id.clone());
    }

    fn parse(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = String::from_utf8(std::mem::take(&mut self.line)).expect("UTF-8");
                self.parse_line(&line);
            } else {
                self.line.push(*byte);
            }
        }
    }

    fn parse_line(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(": ").expect("a field");
        match field {
            "event" => value.clone_into(&mut self.event),
            "id" => value.clone_into(&mut self.id),
            "data" => {
                let data = self.data.get_or_insert_default();
                data.push_str(value);
                data.push('\n');
            }
            "retry" => {}
            other => panic!("unknown field {other}"),
        }
    }

    fn dispatch(&mut self) {
        self.last_id.clone_from(&self.id);
        if self.first_id.is_none() && !self.id.is_empty() {
            self.first_id = Some(self.id.clone());
        }
        let event = std::mem::take(&mut self.event);
        let Some(mut data) = self.data.take() else { return };
        data.pop();
        match event.as_str() {
            "new_message" => self.messages.push((self.id.clone(), data)),
            "end_event" => self.ends += 1,
            "ping" => {}
            other => panic!("{other} after {:?}: {data}", self.messages.last()),
        }
    }

    /// Reads to the end of one stream, or of several, through the proxy, reconnecting as often as needed.
    async fn read(mut self, proxy: SocketAddr, streams: &'static str, query: &'static str) -> Self {
        let client = Client::builder().no_proxy().build().expect("a client");
        while self.ends < streams.split(',').count() {
            let request = client.get(format!("http://{proxy}/streams/{streams}/events{query}"));
            let response = match self.last_id.as_str() {
                "" => request.send().await,
                id => request.header("last-event-id", id).send().await,
            };
            let Ok(response) = response else { continue };
            assert_eq!(response.status(), 200);
            self.start_connection();
            let mut pieces = response.bytes_stream();
            while let Some(Ok(piece)) = pieces.next().await {
                self.parse(&piece);
            }
        }
        self
    }
}

#[tokio::test]
async fn cuts_at_any_byte_neither_lose_nor_repeat_messages() {
    let mut rng = seeded_rng();
    let app = TestApp::start(&[]).await;
    let server = app.url.strip_prefix("http://").expect("a URL").parse().expect("an address");
    let proxy = start_unreliable_proxy(server, rng.fork()).await;
    app.publish("news", "the first").await;
    let readers: Vec<_> = (0..READERS)
        .map(|n| if n % 3 == 0 { "?last_event_id=latest" } else { "" })
        .map(|query| tokio::spawn(Browser::default().read(proxy, "news", query)))
        .collect();
    for _ in 0..MESSAGES {
        app.publish("news", &random_text(&mut rng)).await;
    }
    app.end("news").await;
    let mut log = app.log("news").await;
    for (_, data) in &mut log {
        *data = with_lf_line_ends(data);
    }
    let mut connections = 0;
    for (n, reader) in join_all(readers).await.into_iter().enumerate() {
        let reader = reader.expect("no panic");
        connections += reader.connections;
        let is_first = |(id, _): &(String, String)| Some(id) == reader.first_id.as_ref();
        let from = if n % 3 == 0 {
            // If it was cut before it received a cursor, it may have started after the last message.
            log.iter().position(is_first).map_or(log.len(), |first| {
                first + usize::from(reader.messages.first() != Some(&log[first]))
            })
        } else {
            0
        };
        assert_eq!(reader.messages.len(), log[from..].len(), "reader {n}");
        assert!(reader.messages == log[from..], "reader {n} has other messages");
    }
    assert!(connections > 10 * READERS, "only {connections} connections");
}

#[tokio::test]
async fn cuts_of_a_connection_with_three_streams_neither_lose_nor_repeat_messages() {
    let mut rng = seeded_rng();
    let app = TestApp::start(&[]).await;
    let server = app.url.strip_prefix("http://").expect("a URL").parse().expect("an address");
    let proxy = start_unreliable_proxy(server, rng.fork()).await;
    let streams = ["a", "b", "c"];
    let readers: Vec<_> =
        (0..READERS).map(|_| tokio::spawn(Browser::default().read(proxy, "a,b,c", ""))).collect();
    for n in 0..MESSAGES {
        // A stream that has ended is not watched any more, and still is a part of each id.
        let open = if n < MESSAGES / 2 { 3 } else { 2 };
        app.publish(streams[rng.usize(..open)], &random_text(&mut rng)).await;
        if n == MESSAGES / 2 {
            app.end("c").await;
        }
    }
    app.end("a").await;
    app.end("b").await;
    let readers = join_all(readers).await;
    for name in streams {
        let mut log = app.log(name).await;
        for (_, data) in &mut log {
            *data = with_lf_line_ends(data);
        }
        for (n, reader) in readers.iter().enumerate() {
            let reader = reader.as_ref().expect("no panic");
            let own = |id: &str| {
                let (first, _) = id.split_once(',').unwrap_or((id, ""));
                Some(first.strip_prefix(name)?.strip_prefix('=')?.to_owned())
            };
            let received: Vec<_> = reader
                .messages
                .iter()
                .filter_map(|(id, data)| Some((own(id)?, data.clone())))
                .collect();
            assert_eq!(received.len(), log.len(), "reader {n} of {name}");
            assert!(received == log, "reader {n} has other messages of {name}");
        }
    }
    let connections = readers.iter().flatten().map(|reader| reader.connections);
    assert!(connections.sum::<usize>() > 10 * READERS, "there were too few connections");
}
