//! The publishing half of the load.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use mio::{Events, Interest, Poll, Token};

use crate::text;

/// One publisher on one connection that stays open.
pub(crate) struct Publisher {
    connection: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Publisher {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let connection = TcpStream::connect(address).context("the publisher can not connect")?;
        connection.set_nodelay(true)?;
        Ok(Self { connection, address, buffer: Vec::new() })
    }

    /// Publishes `messages`, one a request and `rate` a second. A message's time is when it was
    /// due, so that a server that is slow to answer does not hide what that delays.
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

/// How many messages a second `publishers` publish together, each with one request at a time,
/// over the time `during`.
pub(crate) fn rate(
    address: SocketAddr,
    publishers: usize,
    during: Duration,
) -> anyhow::Result<f64> {
    let mut poll = Poll::new()?;
    let mut open = Vec::new();
    for index in 0..publishers {
        let connection = Publisher::connect(address)?.connection;
        connection.set_nonblocking(true)?;
        let mut connection = mio::net::TcpStream::from_std(connection);
        poll.registry().register(&mut connection, Token(index), Interest::READABLE)?;
        open.push((connection, Vec::new()));
    }
    let mut published = 0;
    let mut number = 0;
    let mut send = |connection: &mut mio::net::TcpStream, buffer: &mut Vec<u8>| {
        buffer.clear();
        request(buffer, address, number, text::now());
        number += 1;
        // So small a request always finds room: the one before it has been answered.
        let sent = connection.write_all(buffer);
        buffer.clear();
        sent
    };
    let start = Instant::now();
    for (connection, buffer) in &mut open {
        send(connection, buffer)?;
    }
    let mut events = Events::with_capacity(1024);
    let mut read = [0; 4096];
    while start.elapsed() < during {
        poll.poll(&mut events, Some(during))?;
        for event in &events {
            let (connection, buffer) = &mut open[event.token().0];
            match connection.read(&mut read) {
                Ok(0) => bail!("the server closed a publisher's connection"),
                Ok(length) => buffer.extend_from_slice(&read[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => bail!(error),
            }
            if is_answer(buffer)? {
                published += 1;
                send(connection, buffer)?;
            }
        }
    }
    Ok(f64::from(published) / start.elapsed().as_secs_f64())
}

fn head(buffer: &mut Vec<u8>, address: SocketAddr, query: &str, length: u64) {
    // Nothing can go wrong in memory.
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

/// Whether `bytes` are a whole answer. One that is not a success is an error.
fn is_answer(bytes: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(&bytes[..end])?.to_ascii_lowercase();
    let length: usize = head
        .split_once("content-length: ")
        .and_then(|(_, rest)| rest.split("\r\n").next())
        .context("an answer without a length")?
        .parse()?;
    if bytes.len() < end + 4 + length {
        return Ok(false);
    }
    let answer = String::from_utf8_lossy(bytes);
    ensure!(head.starts_with("http/1.1 2"), "publishing was refused: {answer}");
    Ok(true)
}
