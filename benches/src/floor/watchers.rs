//! Writes messages to watchers.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, ErrorKind, Write as _},
};

use mio::{Interest, Registry, Token, event::Event, net::TcpStream};

use crate::Batch;

/// The watchers of a thread.
pub(crate) struct Watchers {
    registry: Registry,
    sockets: Vec<Watcher>,
    /// Where in `sockets` a token's watcher is.
    places: HashMap<Token, usize>,
    /// The batches that some watcher has not got yet.
    waiting: VecDeque<Batch>,
    /// The number of batches before those.
    before: usize,
    /// The number of watchers whose socket is full.
    full: usize,
}

struct Watcher {
    token: Token,
    socket: TcpStream,
    /// The number of batches that it has got, or that came before it.
    got: usize,
    /// How many bytes of the next one it has got.
    begun: usize,
    is_full: bool,
}

impl Watchers {
    pub(crate) fn new(registry: Registry) -> Self {
        let (sockets, places) = (Vec::new(), HashMap::new());
        Self { registry, sockets, places, waiting: VecDeque::new(), before: 0, full: 0 }
    }

    pub(crate) fn add(&mut self, token: Token, mut socket: TcpStream) {
        const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                              transfer-encoding: chunked\r\n\r\n";
        if socket.write_all(HEAD).is_err() {
            return;
        }
        let got = self.before + self.waiting.len();
        self.places.insert(token, self.sockets.len());
        self.sockets.push(Watcher { token, socket, got, begun: 0, is_full: false });
    }

    /// Writes a batch to each socket that is not full.
    pub(crate) fn deliver(&mut self, batch: Batch) -> io::Result<()> {
        self.waiting.push_back(batch);
        let mut index = 0;
        while let Some(watcher) = self.sockets.get(index) {
            if watcher.is_full || self.write(index)? {
                index += 1;
            }
        }
        self.trim();
        Ok(())
    }

    /// Goes on with a socket that takes bytes again, or has been closed.
    pub(crate) fn resume(&mut self, event: &Event) -> io::Result<()> {
        let Some(&index) = self.places.get(&event.token()) else { return Ok(()) };
        if event.is_read_closed() || event.is_error() {
            self.remove(index);
        } else if event.is_writable() && self.sockets[index].is_full {
            self.write(index)?;
        }
        Ok(())
    }

    /// Writes what a watcher has not got, until its socket is full. Returns whether it is still
    /// there.
    fn write(&mut self, index: usize) -> io::Result<bool> {
        let watcher = &mut self.sockets[index];
        let is_full = loop {
            let Some(batch) = self.waiting.get(watcher.got - self.before) else { break false };
            match watcher.socket.write(&batch[watcher.begun..]) {
                Ok(length) if watcher.begun + length == batch.len() => {
                    watcher.got += 1;
                    watcher.begun = 0;
                }
                Ok(length) => watcher.begun += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.remove(index);
                    return Ok(false);
                }
            }
        };
        if is_full != watcher.is_full {
            watcher.is_full = is_full;
            let interest =
                if is_full { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            self.registry.reregister(&mut watcher.socket, watcher.token, interest)?;
            self.full = if is_full { self.full + 1 } else { self.full - 1 };
        }
        Ok(true)
    }

    fn remove(&mut self, index: usize) {
        let gone = self.sockets.swap_remove(index);
        self.places.remove(&gone.token);
        self.full -= usize::from(gone.is_full);
        if let Some(moved) = self.sockets.get(index) {
            self.places.insert(moved.token, index);
        }
    }

    /// Drops the batches that every watcher has got.
    fn trim(&mut self) {
        let all = self.before + self.waiting.len();
        let slowest = match self.full {
            0 => all,
            _ => self.sockets.iter().map(|watcher| watcher.got).min().unwrap_or(all),
        };
        self.waiting.drain(..slowest - self.before);
        self.before = slowest;
    }
}
