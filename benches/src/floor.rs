//! The floor of the benchmarks: what it costs to write each message to each socket once, as soon as
//! it is there, with nothing else to do.
//!
//! One thread a core, each with its own poll, listener and watchers. A message is encoded once and
//! given to every thread, which writes it to all of its sockets, one call for each. What arrives
//! while a thread writes is written together afterwards. A socket that is full gets the rest when
//! it takes bytes again. Nothing is stored, nothing expires, there are no pings, and of HTTP only
//! what the load sends is understood. It has the paths of Tidings, so that it gets the same load,
//! and ignores its arguments.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use mio::{
    Events, Interest, Poll, Registry, Token, Waker,
    event::Event,
    net::{TcpListener, TcpStream},
};
use socket2::{Domain, Socket, Type};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// The backlog of a listener.
const BACKLOG: i32 = 1024;

/// How many bytes of messages are taken before they are written.
const BATCH: usize = 64 * 1024;

/// One message, or several that were there at the same time, as they are written: a chunk for each.
type Batch = Arc<[u8]>;

fn main() -> io::Result<()> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let first = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..cores {
        listeners.push(listen(address)?);
    }
    let (mut threads, mut inboxes) = (Vec::new(), Vec::new());
    for listener in listeners {
        let poll = Poll::new()?;
        let (sender, received) = channel();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        inboxes.push(Inbox { sender, waker });
        threads.push((poll, listener, received));
    }
    println!("The floor is at http://{address}");
    let mut running = Vec::new();
    for (index, (poll, listener, received)) in threads.into_iter().enumerate() {
        let mut others = inboxes.clone();
        others.remove(index);
        let worker = Worker {
            watchers: Watchers::new(poll.registry().try_clone()?),
            poll,
            listener,
            received,
            published: Vec::new(),
            others,
            connections: HashMap::new(),
            joined: 0,
            buffer: vec![0; 64 * 1024].into(),
        };
        running.push(thread::spawn(|| worker.run()));
    }
    for thread in running {
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    }
    Ok(())
}

/// A listener that shares its address with those of the other threads: the kernel deals the
/// connections out.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Where another thread takes messages from.
#[derive(Clone)]
struct Inbox {
    sender: Sender<Batch>,
    waker: Arc<Waker>,
}

/// A thread.
struct Worker {
    poll: Poll,
    listener: TcpListener,
    /// What the other threads have received.
    received: Receiver<Batch>,
    /// What was published here and is not written yet.
    published: Vec<u8>,
    others: Vec<Inbox>,
    /// Publishers, and connections without a request so far.
    connections: HashMap<Token, Connection>,
    watchers: Watchers,
    /// The number of connections so far, from which their tokens come.
    joined: usize,
    /// The shared read buffer.
    buffer: Box<[u8]>,
}

/// A connection whose requests are read.
struct Connection {
    socket: TcpStream,
    /// What has arrived of an incomplete head, body or line.
    begun: Vec<u8>,
    body: Option<Body>,
}

/// The body of the request that is being read.
struct Body {
    /// The number of its bytes that have not arrived yet.
    missing: usize,
    /// Whether each line is a message.
    has_lines: bool,
}

/// What a request turned out to be.
enum Request {
    /// There is more to come.
    Incomplete,
    Watch,
    Publish(Body),
}

impl Worker {
    fn run(mut self) -> io::Result<()> {
        self.poll.registry().register(&mut self.listener, LISTENER, Interest::READABLE)?;
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    WAKER => self.take_received()?,
                    token => match self.connections.remove(&token) {
                        Some(connection) => self.serve(token, connection)?,
                        None => self.watchers.resume(event)?,
                    },
                }
            }
            self.publish()?;
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut socket, _)) => {
                    // Without this the kernel delays small writes for up to 40 ms.
                    let _ = socket.set_nodelay(true);
                    let token = Token(self.joined);
                    self.joined += 1;
                    self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
                    let connection = Connection { socket, begun: Vec::new(), body: None };
                    self.connections.insert(token, connection);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what has arrived from a connection that has no watcher, and answers.
    fn serve(&mut self, token: Token, mut connection: Connection) -> io::Result<()> {
        loop {
            match connection.socket.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => connection.begun.extend_from_slice(&self.buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Ok(()),
            }
            if connection.body.is_none() {
                match connection.request() {
                    Some(Request::Incomplete) => {}
                    Some(Request::Publish(body)) => connection.body = Some(body),
                    Some(Request::Watch) => {
                        self.watchers.add(token, connection.socket);
                        return Ok(());
                    }
                    None => return Ok(()),
                }
            }
            if connection.body.is_some() {
                if let Some(status) = connection.messages(&mut self.published) {
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    // It fits: the answer before was read, or there was none.
                    if connection.socket.write_all(answer.as_bytes()).is_err() {
                        return Ok(());
                    }
                    // The next request is read after this message is written: the load sends it
                    // when it has the answer, and the poll reports it.
                    break;
                }
                if self.published.len() > BATCH {
                    self.publish()?;
                }
            }
        }
        self.connections.insert(token, connection);
        Ok(())
    }

    /// Gives what was published to the other threads, and writes it to the watchers of this one.
    fn publish(&mut self) -> io::Result<()> {
        if self.published.is_empty() {
            return Ok(());
        }
        let batch = Batch::from(&*self.published);
        self.published.clear();
        for other in &self.others {
            if other.sender.send(batch.clone()).is_ok() {
                other.waker.wake()?;
            }
        }
        self.watchers.deliver(batch)
    }

    fn take_received(&mut self) -> io::Result<()> {
        let Ok(mut batch) = self.received.try_recv() else { return Ok(()) };
        for next in self.received.try_iter() {
            batch = [&*batch, &*next].concat().into();
        }
        self.watchers.deliver(batch)
    }
}

impl Connection {
    /// Parses the head if it is complete, and removes it from what has arrived. `None` for a
    /// request that the load does not send.
    fn request(&mut self) -> Option<Request> {
        const END: &[u8] = b"\r\n\r\n";
        let Some(end) = memchr::memmem::find(&self.begun, END) else {
            return Some(Request::Incomplete);
        };
        let head = str::from_utf8(&self.begun[..end]).ok()?.to_ascii_lowercase();
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let request = match (words.next()?, words.next()?) {
            ("get", path) if path.ends_with("/events") => Request::Watch,
            ("post", path) => {
                let missing = lines.find_map(|line| line.strip_prefix("content-length: "))?;
                let missing = missing.parse().ok()?;
                Request::Publish(Body { missing, has_lines: path.ends_with("?lines") })
            }
            _ => return None,
        };
        self.begun.drain(..end + END.len());
        Some(request)
    }

    /// Appends the messages that are complete to `published`. Returns the status of the answer at
    /// the end of the body.
    fn messages(&mut self, published: &mut Vec<u8>) -> Option<&'static str> {
        let body = self.body.as_mut()?;
        if body.has_lines {
            let complete = memchr::memrchr(b'\n', &self.begun).map_or(0, |end| end + 1);
            body.missing = body.missing.saturating_sub(complete);
            let lines = self.begun[..complete].split(|&byte| byte == b'\n');
            for line in lines.filter(|line| !line.is_empty()) {
                encode(line, published);
            }
            self.begun.drain(..complete);
            self.body.take_if(|body| body.missing == 0).map(|_| "200 OK")
        } else {
            let message = self.begun.get(..body.missing)?;
            encode(message, published);
            self.begun.drain(..body.missing);
            self.body = None;
            Some("201 Created")
        }
    }
}

/// Appends a chunk with one event.
fn encode(message: &[u8], published: &mut Vec<u8>) {
    // "data: " and two line ends are part of the chunk. Writing to memory cannot fail.
    let _ = write!(published, "{:x}\r\ndata: ", message.len() + 8);
    published.extend_from_slice(message);
    published.extend_from_slice(b"\n\n\r\n");
}

/// The watchers of a thread.
struct Watchers {
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
    fn new(registry: Registry) -> Self {
        let (sockets, places) = (Vec::new(), HashMap::new());
        Self { registry, sockets, places, waiting: VecDeque::new(), before: 0, full: 0 }
    }

    fn add(&mut self, token: Token, mut socket: TcpStream) {
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
    fn deliver(&mut self, batch: Batch) -> io::Result<()> {
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
    fn resume(&mut self, event: &Event) -> io::Result<()> {
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
