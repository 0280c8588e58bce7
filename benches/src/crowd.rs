//! Many watchers on one thread: plain sockets and one poll, so that they use as little as possible
//! of the processors that they share with the server.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use crate::{reader::Reader, text};

/// How many watchers may wait for their answer at a time: fewer than the 128 of a listener's
/// backlog. A connection that does not fit is retried after a second.
const UNANSWERED: usize = 100;
/// How many watchers share a loopback address: a server has limits per address.
const OF_ONE_ADDRESS: usize = 100;
/// How long nothing may arrive before the rest counts as lost.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Watchers with open connections, which close when this value is dropped. Between two calls they
/// do not read: then they are stalled readers.
pub(crate) struct Crowd {
    poll: Poll,
    watchers: Vec<Watcher>,
    /// How many have received the head of their answer.
    answered: usize,
    /// The shared read buffer.
    buffer: Box<[u8]>,
    pub(crate) order: Order,
    pub(crate) tally: Tally,
}

/// The order in which messages must arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// That of their numbers.
    Sent,
    /// Any, since several publishers send at once.
    Any,
}

struct Watcher {
    connection: mio::net::TcpStream,
    reader: Reader,
    /// The number of the message that should come next; in any order, how many have come.
    next: u64,
    /// Whether the server has closed the connection.
    is_cut: bool,
}

/// The totals of all watchers.
pub(crate) struct Tally {
    pub(crate) received: u64,
    /// Messages that were skipped, or never arrived.
    pub(crate) missed: u64,
    /// Messages that arrived twice, or after a later one.
    pub(crate) disordered: u64,
    /// From sending to receiving, in microseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Crowd {
    /// Connects `watchers` and waits until each has received the head of its answer. `window` is
    /// the receive buffer of each in bytes; by default the kernel decides.
    pub(crate) fn gather(
        address: SocketAddr,
        watchers: usize,
        window: Option<usize>,
    ) -> anyhow::Result<Self> {
        let mut crowd = Self {
            poll: Poll::new()?,
            watchers: Vec::with_capacity(watchers),
            answered: 0,
            buffer: vec![0; 64 * 1024].into(),
            order: Order::Sent,
            tally: Tally::new()?,
        };
        let mut events = Events::with_capacity(1024);
        let mut progress = (0, Instant::now());
        while crowd.answered < watchers {
            let joined = crowd.watchers.len();
            for _ in joined..watchers.min(crowd.answered + UNANSWERED) {
                crowd.join(address, window)?;
            }
            crowd.turn(&mut events)?;
            if crowd.answered > progress.0 {
                progress = (crowd.answered, Instant::now());
            }
            ensure!(progress.1.elapsed() < TIMEOUT, "only {} were answered", crowd.answered);
            ensure!(crowd.watchers.iter().all(|watcher| !watcher.is_cut), "a watcher was refused");
        }
        Ok(crowd)
    }

    /// Reads until every watcher has received the last of `messages`, or no longer can.
    pub(crate) fn watch(&mut self, messages: u64) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut progress = (self.tally.received, Instant::now());
        while self.watchers.iter().any(|watcher| watcher.next < messages && !watcher.is_cut) {
            self.turn(&mut events)?;
            if self.tally.received > progress.0 {
                progress = (self.tally.received, Instant::now());
            } else if progress.1.elapsed() > TIMEOUT {
                break;
            }
        }
        let never_came = self.watchers.iter().map(|watcher| messages.saturating_sub(watcher.next));
        self.tally.missed += never_came.sum::<u64>();
        Ok(())
    }

    fn join(&mut self, address: SocketAddr, window: Option<usize>) -> anyhow::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)
            .context("no socket for another watcher")?;
        if let Some(bytes) = window {
            socket.set_recv_buffer_size(bytes)?;
        }
        let from = u8::try_from(1 + self.watchers.len() / OF_ONE_ADDRESS)?;
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 1, from), 0));
        socket.bind(&from.into()).context("no address for another watcher")?;
        socket.connect(&address.into()).context("another watcher cannot connect")?;
        let mut connection = TcpStream::from(socket);
        let request = format!(
            "GET /streams/bench/events HTTP/1.1\r\nhost: {address}\r\n\
             accept: text/event-stream\r\n\r\n"
        );
        connection.write_all(request.as_bytes())?;
        connection.set_nonblocking(true)?;
        let mut connection = mio::net::TcpStream::from_std(connection);
        let token = Token(self.watchers.len());
        self.poll.registry().register(&mut connection, token, Interest::READABLE)?;
        let reader = Reader::default();
        self.watchers.push(Watcher { connection, reader, next: 0, is_cut: false });
        Ok(())
    }

    /// Reads what has arrived, or waits briefly.
    fn turn(&mut self, events: &mut Events) -> anyhow::Result<()> {
        match self.poll.poll(events, Some(Duration::from_millis(100))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => bail!(error),
            _ => {}
        }
        for event in &*events {
            let watcher = &mut self.watchers[event.token().0];
            let had_head = watcher.reader.has_head();
            watcher.read(&mut self.buffer, self.order, &mut self.tally)?;
            self.answered += usize::from(!had_head && watcher.reader.has_head());
        }
        Ok(())
    }
}

impl Watcher {
    fn read(&mut self, buffer: &mut [u8], order: Order, tally: &mut Tally) -> anyhow::Result<()> {
        while !self.is_cut {
            match self.connection.read(buffer) {
                Ok(0) => self.is_cut = true,
                Ok(length) => {
                    let now = text::now();
                    let next = &mut self.next;
                    let mut on_data = |data: &[u8]| {
                        if let Some((number, sent)) = text::read(data) {
                            let number = if order == Order::Any { *next } else { number };
                            tally.count(next, number, now.saturating_sub(sent));
                        }
                    };
                    self.reader.take(&buffer[..length], &mut on_data)?;
                    self.is_cut = self.reader.is_at_end();
                    // The socket is drained; the poll reports new bytes.
                    if length < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.is_cut = true,
            }
        }
        Ok(())
    }
}

impl Tally {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let latency = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        Ok(Self { received: 0, missed: 0, disordered: 0, latency })
    }

    /// Counts a message; `next` is the number of the one that should come.
    pub(crate) fn count(&mut self, next: &mut u64, number: u64, latency: u64) {
        if number < *next {
            self.disordered += 1;
            return;
        }
        self.missed += number - *next;
        self.received += 1;
        *next = number + 1;
        self.latency.saturating_record(latency);
    }
}
