//! Reads requests: as much of HTTP as the load needs.

use std::io::Write as _;

use mio::net::TcpStream;

/// A connection whose requests are read.
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    /// What has arrived of an incomplete head, body or line.
    pub(crate) begun: Vec<u8>,
    pub(crate) body: Option<Body>,
}

/// The body of the request that is being read.
pub(crate) struct Body {
    /// The number of its bytes that have not arrived yet.
    missing: usize,
    /// Whether each line is a message.
    has_lines: bool,
}

/// What a request turned out to be.
pub(crate) enum Request {
    /// There is more to come.
    Incomplete,
    Watch,
    Publish(Body),
}

impl Connection {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket, begun: Vec::new(), body: None }
    }

    /// Parses the head if it is complete, and removes it from what has arrived. `None` for a
    /// request that the load does not send.
    pub(crate) fn request(&mut self) -> Option<Request> {
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
    pub(crate) fn messages(&mut self, published: &mut Vec<u8>) -> Option<&'static str> {
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
