//! The floor of the benchmarks: what it costs to write each message to each socket once, as soon as
//! it is there, with nothing else to do.
//!
//! One thread a core, each with its own poll, listener and watchers. A message is encoded once and
//! given to every thread, which writes it to all of its sockets, one call for each. What arrives
//! while a thread writes is written together afterwards. A socket that is full gets the rest when
//! it takes bytes again. Nothing is stored, nothing expires, there are no pings, and of HTTP only
//! what the load sends is understood. It has the paths of Tidings, so that it gets the same load,
//! and ignores its arguments.

mod request;
mod watchers;

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use mio::{Events, Interest, Poll, Token, Waker, net::TcpListener};
use socket2::{Domain, Socket, Type};

use self::{
    request::{Connection, Request},
    watchers::Watchers,
};

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
                    self.connections.insert(token, Connection::new(socket));
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
