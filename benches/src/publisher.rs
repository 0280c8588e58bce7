//! The load of publishers: one at a fixed rate, or many as fast as possible.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use crate::{
    parts::as_f64,
    text,
    transport::{Connection, Connector},
};

/// One publisher on one keep-alive connection.
pub(crate) struct Publisher {
    connection: Box<dyn Connection>,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Publisher {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { connection: Box::new(connect(address)?), address, buffer: Vec::new() })
    }

    /// Connects over TLS, if the connector does.
    pub(crate) fn over(connector: &Connector) -> anyhow::Result<Self> {
        let connection = connector.connect_publisher()?;
        Ok(Self { connection, address: connector.address, buffer: Vec::new() })
    }

    /// Publishes `messages`, one per request and `rate` a second. A message carries the time when
    /// it was due, so that a slow answer counts as delay too: this avoids coordinated omission.
    pub(crate) fn publish_evenly(&mut self, messages: u64, rate: u32) -> anyhow::Result<()> {
        let period = u64::from(1_000_000 / rate);
        let start = text::now();
        for number in 0..messages {
            let due = start + number * period;
            thread::sleep(Duration::from_micros(due.saturating_sub(text::now())));
            self.buffer.clear();
            request(&mut self.buffer, self.address, number, due);
            self.connection.write_all(&self.buffer)?;
            self.answered()?;
        }
        Ok(())
    }

    /// Publishes `messages` as the lines of one upload, as fast as the server takes them.
    pub(crate) fn publish_lines(&mut self, messages: u64) -> anyhow::Result<()> {
        let length = messages * (text::LENGTH as u64 + 1);
        self.buffer.clear();
        head(&mut self.buffer, self.address, "?lines", length);
        for number in 0..messages {
            text::write(&mut self.buffer, number, text::now());
            self.buffer.push(b'\n');
            if self.buffer.len() > 8 * 1024 || number + 1 == messages {
                self.connection.write_all(&self.buffer).context("the upload was refused")?;
                self.buffer.clear();
            }
        }
        self.answered()
    }

    /// Waits for the answer.
    fn answered(&mut self) -> anyhow::Result<()> {
        self.buffer.clear();
        let mut read = [0; 4096];
        while !is_answer(&self.buffer)? {
            let length = self.connection.read(&mut read)?;
            ensure!(length > 0, "the server closed a publisher's connection");
            self.buffer.extend_from_slice(&read[..length]);
        }
        Ok(())
    }
}

pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let connection = TcpStream::connect(address).context("the publisher cannot connect")?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// Concurrent publishers, each with one request at a time.
pub(crate) struct Load {
    pub(crate) publishers: usize,
    /// The number of streams that they publish to in turn.
    pub(crate) streams: u64,
    /// The length of each message, in bytes.
    pub(crate) length: usize,
    pub(crate) until: Until,
}

/// When the publishers stop.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After this number of messages.
    Published(u64),
}

/// The results.
pub(crate) struct Published {
    /// Messages a second.
    pub(crate) rate: f64,
    /// The latency of an answer, in microseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Load {
    /// Publishes to one server, or to several: each publisher to one of them.
    pub(crate) fn publish(&self, servers: &[SocketAddr]) -> anyhow::Result<Published> {
        let mut poll = Poll::new()?;
        let mut open = Vec::new();
        for (index, address) in servers.iter().copied().cycle().take(self.publishers).enumerate() {
            let connection = connect(address)?;
            connection.set_nonblocking(true)?;
            let mut connection = mio::net::TcpStream::from_std(connection);
            poll.registry().register(&mut connection, Token(index), Interest::READABLE)?;
            open.push(Open { connection, address, buffer: Vec::new(), sent: None });
        }
        let mut latency = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        let (mut number, mut published) = (0, 0);
        let start = Instant::now();
        for one in &mut open {
            self.send(one, &mut number)?;
        }
        let mut events = Events::with_capacity(1024);
        let mut read = [0; 4096];
        while !self.is_done(start, published) {
            poll.poll(&mut events, Some(Duration::from_secs(5)))?;
            for event in &events {
                let one = &mut open[event.token().0];
                match one.connection.read(&mut read) {
                    Ok(0) => bail!("the server closed a publisher's connection"),
                    Ok(length) => one.buffer.extend_from_slice(&read[..length]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => bail!(error),
                }
                if let Some(sent) = one.sent
                    && is_answer(&one.buffer)?
                {
                    published += 1;
                    latency.saturating_record(u64::try_from(sent.elapsed().as_micros())?);
                    self.send(one, &mut number)?;
                }
            }
        }
        Ok(Published { rate: as_f64(published) / start.elapsed().as_secs_f64(), latency })
    }

    fn is_done(&self, start: Instant, published: u64) -> bool {
        match self.until {
            Until::Elapsed(time) => start.elapsed() >= time,
            Until::Published(messages) => published >= messages,
        }
    }

    /// Sends the next message, if there is one left.
    fn send(&self, one: &mut Open, number: &mut u64) -> anyhow::Result<()> {
        one.buffer.clear();
        one.sent = None;
        if matches!(self.until, Until::Published(messages) if *number >= messages) {
            return Ok(());
        }
        let stream = match self.streams {
            1 => String::new(),
            streams => format!("-{}", *number % streams),
        };
        head(&mut one.buffer, one.address, &stream, self.length as u64);
        text::write_long(&mut one.buffer, *number, text::now(), self.length);
        *number += 1;
        one.sent = Some(Instant::now());
        write_all(&mut one.connection, &one.buffer)?;
        one.buffer.clear();
        Ok(())
    }
}

/// A publisher's connection.
struct Open {
    connection: mio::net::TcpStream,
    /// That of the server.
    address: SocketAddr,
    buffer: Vec<u8>,
    /// The time of the request that is not answered yet, if there is one.
    sent: Option<Instant>,
}

/// Sends a request. A small one fits into the send buffer at once: the one before it was answered.
fn write_all(connection: &mut mio::net::TcpStream, mut bytes: &[u8]) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        match connection.write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => bail!(error),
        }
    }
    Ok(())
}

fn head(buffer: &mut Vec<u8>, address: SocketAddr, query: &str, length: u64) {
    // Writing to memory cannot fail.
    let _ = write!(
        buffer,
        "POST /streams/bench{query} HTTP/1.1\r\nhost: {address}\r\ncontent-type: text/plain\r\n\
         content-length: {length}\r\n\r\n"
    );
}

fn request(buffer: &mut Vec<u8>, address: SocketAddr, number: u64, sent: u64) {
    head(buffer, address, "", text::LENGTH as u64);
    text::write(buffer, number, sent);
}

/// Whether `bytes` are a complete answer. An answer without a success status is an error.
fn is_answer(bytes: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(&bytes[..end])?.to_ascii_lowercase();
    let length: usize = head
        .split_once("content-length: ")
        .and_then(|(_, rest)| rest.split("\r\n").next())
        .context("an answer without content-length")?
        .parse()?;
    if bytes.len() < end + 4 + length {
        return Ok(false);
    }
    let answer = String::from_utf8_lossy(bytes);
    ensure!(head.starts_with("http/1.1 2"), "publishing was refused: {answer}");
    Ok(true)
}
