//! A denial-of-service attacker: eleven kinds of attack at once, each with its own rate and its own
//! loopback address, or many, so that a limit that stops one does not stop the others.

use std::{
    fmt,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

/// The maximum number of connections that the attacker holds.
pub(crate) const MAX_CONNECTIONS: usize = WAYS.len() * HELD;
/// The maximum for one kind of attack.
const HELD: usize = HANDS as usize * HELD_BY_ONE;
/// How many threads share the rate of an attack. A single thread would wait for its answers, and so
/// slow down with the server, which a real attacker does not.
const HANDS: u8 = 32;
const HELD_BY_ONE: usize = 32;
/// The receive buffer of a connection, in bytes: the server has to hold the rest.
const WINDOW: usize = 4 * 1024;
/// The timeout for an answer.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A kind of attack: its name, its rate per second, and one attempt.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    rate: u32,
    act: fn(&mut Attacker) -> io::Result<Outcome>,
}

/// Where the limit per address is a rate, these are five to ten times that limit.
const WAYS: [Way; 11] = [
    Way { name: "publishing", rate: 1_000, act: publish },
    Way { name: "watching, with retries at once", rate: 200, act: watch },
    Way { name: "connections without a request", rate: 100, act: ask_slowly },
    Way { name: "bodies that come byte by byte", rate: 100, act: send_slowly },
    Way { name: "signing in", rate: 50, act: sign_in },
    Way { name: "bytes that are not HTTP", rate: 200, act: babble },
    Way { name: "bodies of a megabyte", rate: 20, act: send_much },
    Way { name: "bodies that stop, from many addresses", rate: 200, act: stop_sending },
    Way { name: "unread history", rate: 100, act: leave_history_unread },
    Way { name: "unread pages", rate: 100, act: leave_page_unread },
    Way { name: "the list of streams", rate: 200, act: list },
];

/// The outcome of an attempt.
enum Outcome {
    /// The server answered with this status.
    Answered(u16),
    /// The connection is still open, without an answer.
    Held,
}

/// An attack that runs until `end`.
pub(crate) struct Attack {
    stop: Arc<AtomicBool>,
    /// The threads of each kind of attack.
    ways: Vec<(Way, Vec<JoinHandle<Report>>)>,
}

/// The results of one kind of attack.
#[derive(Default)]
struct Report {
    took: Duration,
    /// Statuses, and the count of each.
    answers: Vec<(u16, u32)>,
    held: u32,
    /// Connections that were refused, or closed without an answer.
    closed: u32,
}

impl Attack {
    pub(crate) fn begin(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ways = (1..).zip(WAYS).map(|(number, way)| {
            let from = Ipv4Addr::new(127, 0, 2, number);
            let hand = |hand| {
                let attacker = Attacker { address, from, hand, held: Vec::new(), turn: 0 };
                let stop = Arc::clone(&stop);
                thread::spawn(move || attacker.attack(way, &stop))
            };
            (way, (0..HANDS).map(hand).collect())
        });
        Self { ways: ways.collect(), stop }
    }

    /// Ends the attack, and prints its results.
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for (way, hands) in self.ways {
            let mut report = Report::default();
            for hand in hands.into_iter().filter_map(|hand| hand.join().ok()) {
                report.add(hand);
            }
            eprintln!("    attack: {}, {} a second intended: {report}", way.name, way.rate);
        }
    }
}

/// One thread of one kind of attack.
struct Attacker {
    address: SocketAddr,
    from: Ipv4Addr,
    /// The number of this thread.
    hand: u8,
    /// Connections that are kept open.
    held: Vec<TcpStream>,
    /// The index of the next held connection to send on.
    turn: usize,
}

impl Attacker {
    fn attack(mut self, way: Way, stop: &AtomicBool) -> Report {
        let start = Instant::now();
        let between = Duration::from_secs(1) / way.rate;
        let period = between * u32::from(HANDS);
        let mut report = Report::default();
        // Threads start one after the other.
        let mut due = start + between * self.hand.into();
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // Missed attempts are not made up for: that would exceed the rate.
            due = (due + period).max(Instant::now());
            match (way.act)(&mut self) {
                Ok(Outcome::Held) => report.held += 1,
                Ok(Outcome::Answered(status)) => report.answered(status, 1),
                Err(_) => report.closed += 1,
            }
        }
        report.took = start.elapsed();
        report
    }

    fn connect(&self) -> io::Result<TcpStream> {
        self.connect_from(self.from)
    }

    fn connect_from(&self, from: Ipv4Addr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(WINDOW)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect_timeout(&self.address.into(), TIMEOUT)?;
        let connection = TcpStream::from(socket);
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        Ok(connection)
    }

    /// Keeps a connection open; closes the oldest when there are too many.
    fn hold(&mut self, connection: TcpStream) {
        if self.held.len() == HELD_BY_ONE {
            self.held.remove(0);
        }
        self.held.push(connection);
    }

    /// Sends a few bytes on one of the held connections, in turn.
    fn drip(&mut self, bytes: &[u8]) {
        if self.held.is_empty() {
            return;
        }
        self.turn = (self.turn + 1) % self.held.len();
        if self.held[self.turn].write_all(bytes).is_err() {
            self.held.swap_remove(self.turn);
        }
    }

    /// Sends a request on a new connection, and waits for the status.
    fn ask(&self, request: &[u8]) -> io::Result<Outcome> {
        let mut connection = self.connect()?;
        connection.write_all(request)?;
        status(&mut connection).map(Outcome::Answered)
    }

    /// Sends a request on a new connection, and keeps the connection without reading the body.
    fn leave_unread(&mut self, path: &str) -> io::Result<Outcome> {
        let mut connection = self.connect()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {}\r\naccept: text/html\r\n\r\n", self.address);
        connection.write_all(request.as_bytes())?;
        let mut begun = [0; 12];
        connection.read_exact(&mut begun)?;
        self.hold(connection);
        let status = begun.strip_prefix(b"HTTP/1.1 ").and_then(|one| str::from_utf8(one).ok());
        let status = status.and_then(|status| status.parse().ok());
        status.map(Outcome::Answered).ok_or_else(|| ErrorKind::InvalidData.into())
    }

    fn post(&self, path: &str, kind: &str, body: &str) -> String {
        let (address, length) = (self.address, body.len());
        format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\norigin: http://{address}\r\n\
             content-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    }
}

/// Publishes far beyond the rate limit, to the attacker's own stream.
fn publish(attacker: &mut Attacker) -> io::Result<Outcome> {
    let request = attacker.post("/streams/attack", "text/plain", "something");
    let mut connection = match attacker.held.pop() {
        Some(connection) => connection,
        None => attacker.connect()?,
    };
    connection.write_all(request.as_bytes())?;
    let status = status(&mut connection)?;
    attacker.held.push(connection);
    Ok(Outcome::Answered(status))
}

/// Opens event streams without reading them; a refused one is retried at once.
fn watch(attacker: &mut Attacker) -> io::Result<Outcome> {
    let mut connection = attacker.connect()?;
    let request =
        format!("GET /streams/bench/events HTTP/1.1\r\nhost: {}\r\n\r\n", attacker.address);
    connection.write_all(request.as_bytes())?;
    let status = status(&mut connection)?;
    if status == 200 {
        attacker.hold(connection);
    }
    Ok(Outcome::Answered(status))
}

/// Slowloris: connections whose request head never ends.
fn ask_slowly(attacker: &mut Attacker) -> io::Result<Outcome> {
    let mut connection = attacker.connect()?;
    connection.write_all(b"GET / HTTP/1.1\r\nx-slow: ")?;
    attacker.hold(connection);
    attacker.drip(b"x");
    Ok(Outcome::Held)
}

/// Requests whose body arrives byte by byte and never ends.
fn send_slowly(attacker: &mut Attacker) -> io::Result<Outcome> {
    let mut connection = attacker.connect()?;
    let head = attacker.post("/streams/attack", "text/plain", "");
    let head = head.replace("content-length: 0", "content-length: 1000");
    connection.write_all(head.as_bytes())?;
    attacker.hold(connection);
    attacker.drip(b"x");
    Ok(Outcome::Held)
}

/// Guesses a token with the sign-in form, which is answered with a page.
fn sign_in(attacker: &mut Attacker) -> io::Result<Outcome> {
    let form = "application/x-www-form-urlencoded\r\naccept: text/html";
    let request = attacker.post("/api/sign-in", form, "token=aaaa.bbbb.cccc&to=%2F");
    attacker.ask(request.as_bytes())
}

/// Sends bytes that are not HTTP.
fn babble(attacker: &mut Attacker) -> io::Result<Outcome> {
    attacker.ask(b"\x16\x03\x01 \xff\xfe BLA /../../ HTTP/9.9\r\nx\r\n: y\r\n\r\n")
}

/// Sends a body that is far too large.
fn send_much(attacker: &mut Attacker) -> io::Result<Outcome> {
    let mut connection = attacker.connect()?;
    let request = attacker.post("/streams/attack", "text/plain", &"x".repeat(1 << 20));
    // The server may answer and close before it has received the whole body.
    let _ = connection.write_all(request.as_bytes());
    let status = status(&mut connection)?;
    let _ = connection.shutdown(Shutdown::Both);
    Ok(Outcome::Answered(status))
}

/// Bodies that stop before their last byte, each from its own address.
fn stop_sending(attacker: &mut Attacker) -> io::Result<Outcome> {
    attacker.turn += 1;
    let [low, high, ..] = attacker.turn.to_le_bytes();
    let from = Ipv4Addr::new(127, 10 + attacker.hand, high, low.max(1));
    let mut connection = attacker.connect_from(from)?;
    let head = attacker.post("/streams/attack", "text/plain", "");
    let head = head.replace("content-length: 0", "content-length: 65536");
    connection.write_all(head.as_bytes())?;
    let _ = connection.write_all(&vec![b'x'; 65_535]);
    attacker.hold(connection);
    Ok(Outcome::Held)
}

/// A page of history, of which only the beginning is read.
fn leave_history_unread(attacker: &mut Attacker) -> io::Result<Outcome> {
    attacker.leave_unread("/streams/bench/messages?limit=1000")
}

/// A page, of which only the beginning is read.
fn leave_page_unread(attacker: &mut Attacker) -> io::Result<Outcome> {
    attacker.leave_unread("/streams/bench")
}

/// The page that is most expensive to render.
fn list(attacker: &mut Attacker) -> io::Result<Outcome> {
    let request = format!("GET /streams HTTP/1.1\r\nhost: {}\r\n\r\n", attacker.address);
    attacker.ask(request.as_bytes())
}

/// Reads the status of an answer.
fn status(connection: &mut TcpStream) -> io::Result<u16> {
    let mut answer = [0; 4096];
    let length = connection.read(&mut answer)?;
    let status = answer[..length].strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    status.ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

impl Report {
    fn answered(&mut self, status: u16, more: u32) {
        match self.answers.iter_mut().find(|(known, _)| *known == status) {
            Some((_, times)) => *times += more,
            None => self.answers.push((status, more)),
        }
    }

    /// Adds the results of another thread.
    fn add(&mut self, hand: Self) {
        self.took = self.took.max(hand.took);
        self.held += hand.held;
        self.closed += hand.closed;
        for (status, times) in hand.answers {
            self.answered(status, times);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all =
            self.held + self.closed + self.answers.iter().map(|(_, times)| times).sum::<u32>();
        write!(f, "{:.0} done", f64::from(all) / self.took.as_secs_f64())?;
        for (status, times) in &self.answers {
            write!(f, ", {times} \u{d7} {status}")?;
        }
        write!(f, ", {} open, {} closed without an answer", self.held, self.closed)
    }
}
