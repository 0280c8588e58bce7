//! A TCP proxy that injects network faults: it cuts, refuses or stalls connections.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long a target may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after a connection could not be accepted.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(10);

/// How much is passed on at once, in bytes.
const BUFFER: usize = 16 * 1024;

/// TCP proxies before the servers of a database. Every connection is closed on drop.
#[derive(Debug)]
pub struct Cutter {
    addresses: Vec<SocketAddr>,
    proxy: Arc<Proxy>,
    listeners: Vec<JoinHandle<()>>,
}

impl Cutter {
    /// Listens on a free port of 127.0.0.1 for each target, and passes everything on.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    pub fn start(targets: Vec<SocketAddr>) -> io::Result<Self> {
        let listen = |_: &SocketAddr| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listeners = targets.iter().map(listen).collect::<io::Result<Vec<_>>>()?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let proxy = Arc::new(Proxy::default());
        let accept = |(listener, target)| {
            let proxy = Arc::clone(&proxy);
            thread::spawn(move || proxy.accept(&listener, target))
        };
        let listeners = listeners.into_iter().zip(targets).map(accept).collect();
        Ok(Self { addresses, proxy, listeners })
    }

    /// Where it listens, in the order of the targets.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Closes every connection at once. What was passed on to a server before still reaches it; answers on
    /// their way to a client may be lost.
    pub fn cut_all(&self) {
        self.proxy.cut(&mut self.proxy.state());
    }

    /// Closes every connection once so many more bytes have passed from clients to servers, counted over
    /// all connections: the servers get exactly these bytes, the clients perhaps no answer to them. With 0,
    /// the next byte that a client sends is the reason to cut, and is lost. Happens once, and replaces what
    /// an earlier call has set.
    pub fn cut_after(&self, bytes: u64) {
        self.proxy.state().bytes_until_cut = Some(bytes);
    }

    /// While down, new connections are closed as soon as they are accepted; open ones stay.
    pub fn set_down(&self, down: bool) {
        self.proxy.state().down = down;
    }

    /// While stalled, connections stay open and are accepted, but nothing is passed on, as when a network
    /// drops packets; afterwards everything is.
    pub fn set_stalled(&self, stalled: bool) {
        self.proxy.state().stalled = stalled;
        self.proxy.changed.notify_all();
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        let mut state = self.proxy.state();
        state.closed = true;
        self.proxy.cut(&mut state);
        drop(state);
        for (address, listener) in self.addresses.iter().zip(self.listeners.drain(..)) {
            // Wakes the thread, which sees that it is to end.
            if TcpStream::connect(address).is_ok() && listener.join().is_err() {
                eprintln!("a thread of a proxy has panicked");
            }
        }
    }
}

/// What the threads share.
#[derive(Debug, Default)]
struct Proxy {
    state: Mutex<State>,
    /// A stall or a connection has ended.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    down: bool,
    stalled: bool,
    /// How many more bytes pass from clients to servers before the cut.
    bytes_until_cut: Option<u64>,
    connections: HashMap<u64, Arc<Connection>>,
    next_id: u64,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

/// What becomes of some bytes.
enum Verdict {
    Pass,
    /// So many pass, then all connections are cut.
    CutAfter(usize),
    /// The connection has been cut.
    Drop,
}

impl Proxy {
    /// Accepts connections until the cutter is dropped. Each has two threads.
    fn accept(self: Arc<Self>, listener: &TcpListener, target: SocketAddr) {
        for client in listener.incoming() {
            let State { closed, down, .. } = *self.state();
            match client {
                _ if closed => return,
                Ok(client) if !down => {
                    let proxy = Arc::clone(&self);
                    thread::spawn(move || proxy.serve(client, target));
                }
                Ok(_) => {}
                Err(_) => thread::sleep(ACCEPT_BACKOFF),
            }
        }
    }

    /// Serves one connection until both sides have closed it or it is cut.
    fn serve(&self, client: TcpStream, target: SocketAddr) {
        // A client whose server does not accept sees its own connection close.
        let Ok(server) = TcpStream::connect_timeout(&target, CONNECT_TIMEOUT) else { return };
        if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
            return;
        }
        let Some((id, connection)) = self.register(Connection { client, server }) else { return };
        let Connection { client, server } = &*connection;
        thread::scope(|scope| {
            scope.spawn(|| self.copy(id, client, server, true));
            self.copy(id, server, client, false);
        });
        self.state().connections.remove(&id);
    }

    fn register(&self, connection: Connection) -> Option<(u64, Arc<Connection>)> {
        let mut state = self.state();
        if state.down || state.closed {
            return None;
        }
        let (id, connection) = (state.next_id, Arc::new(connection));
        state.next_id += 1;
        state.connections.insert(id, Arc::clone(&connection));
        Some((id, connection))
    }

    /// Passes on what one side sends, until it closes its half of the connection.
    fn copy(&self, id: u64, mut from: &TcpStream, mut to: &TcpStream, is_from_client: bool) {
        let mut buffer = vec![0; BUFFER];
        loop {
            // An error is passed on as the end.
            let length = from.read(&mut buffer).unwrap_or(0);
            let verdict = self.verdict(id, length, is_from_client);
            let passed = match verdict {
                Verdict::Pass => length,
                Verdict::CutAfter(passed) => passed,
                Verdict::Drop => return,
            };
            let written = to.write_all(&buffer[..passed]);
            if matches!(verdict, Verdict::CutAfter(_)) {
                let mut state = self.state();
                state.bytes_until_cut = state.bytes_until_cut.filter(|bytes| *bytes > 0);
                return self.cut(&mut state);
            }
            if length == 0 {
                // Fails only if the other side has closed the connection too.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            if written.is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    /// Waits while the network is stalled, then decides what becomes of some bytes, or of the end.
    fn verdict(&self, id: u64, length: usize, is_from_client: bool) -> Verdict {
        let is_held = |state: &mut State| state.stalled && state.connections.contains_key(&id);
        let state = self.changed.wait_while(self.state(), is_held);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if !state.connections.contains_key(&id) {
            return Verdict::Drop;
        }
        let Some(bytes) = state.bytes_until_cut.as_mut().filter(|_| is_from_client && length > 0)
        else {
            return Verdict::Pass;
        };
        let passed = usize::try_from(*bytes).map_or(length, |bytes| bytes.min(length));
        *bytes -= passed as u64;
        if *bytes == 0 { Verdict::CutAfter(passed) } else { Verdict::Pass }
    }

    /// Closes all connections. The servers still get what was written to them.
    fn cut(&self, state: &mut State) {
        for (_, connection) in state.connections.drain() {
            for stream in [&connection.client, &connection.server] {
                // Fails only if the other side has closed it already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
