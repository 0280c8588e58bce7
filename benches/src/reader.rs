//! SSE parser of a watcher: finds the data of events in the bytes of an HTTP/1.1 response. It
//! copies only lines that are split across reads, since thousands of watchers share the processor
//! with the measured server.

use anyhow::{Context as _, ensure};

/// The parser state of one response.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
    /// The beginning of an incomplete head, or of an incomplete line of the body.
    begun: Vec<u8>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// The length of the next chunk, from the digits so far.
    Length(usize),
    /// The remaining bytes of the chunk.
    Chunk(usize),
    /// The line end after a chunk.
    ChunkEnd,
    /// After the last chunk.
    End,
    /// A body without chunks, which lasts until the connection closes: that of nchan.
    Whole,
}

impl Reader {
    /// For the bytes of a body, of which another parser has taken the chunks.
    pub(crate) fn of_body() -> Self {
        Self { state: State::Whole, begun: Vec::new() }
    }

    /// Whether the head has arrived.
    pub(crate) fn has_head(&self) -> bool {
        !matches!(self.state, State::Head)
    }

    /// Whether the answer is complete.
    pub(crate) fn is_at_end(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// Parses bytes that have arrived, and calls `on_data` with each data line in them.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        on_data: &mut impl FnMut(&[u8]),
    ) -> anyhow::Result<()> {
        while let Some(&first) = bytes.first() {
            match self.state {
                State::Head => bytes = self.head(bytes)?,
                State::Length(length) => {
                    bytes = &bytes[1..];
                    self.state = match char::from(first).to_digit(16) {
                        Some(digit) => State::Length(16 * length + digit as usize),
                        None if first == b'\r' => State::Length(length),
                        None if first == b'\n' && length == 0 => State::End,
                        None if first == b'\n' => State::Chunk(length),
                        None => anyhow::bail!("byte {first} in the length of a chunk"),
                    };
                }
                State::Chunk(length) => {
                    let (part, rest) = bytes.split_at(length.min(bytes.len()));
                    self.lines(part, on_data);
                    self.state = if part.len() == length {
                        State::ChunkEnd
                    } else {
                        State::Chunk(length - part.len())
                    };
                    bytes = rest;
                }
                State::ChunkEnd => {
                    bytes = &bytes[1..];
                    if first == b'\n' {
                        self.state = State::Length(0);
                    }
                }
                State::End => break,
                State::Whole => {
                    self.lines(bytes, on_data);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Parses the head, if it is complete, and returns the bytes after it.
    fn head<'a>(&mut self, bytes: &'a [u8]) -> anyhow::Result<&'a [u8]> {
        const END: &[u8] = b"\r\n\r\n";
        let before = self.begun.len();
        self.begun.extend_from_slice(bytes);
        let Some(end) = memchr::memmem::find(&self.begun, END) else { return Ok(&[]) };
        let head = std::str::from_utf8(&self.begun[..end]).context("the head is not UTF-8")?;
        let head = head.to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200 "), "refused: {head}");
        let is_chunked = head.contains("transfer-encoding: chunked");
        ensure!(is_chunked || !head.contains("content-length"), "not a stream: {head}");
        self.begun.clear();
        self.state = if is_chunked { State::Length(0) } else { State::Whole };
        Ok(&bytes[end + END.len() - before..])
    }

    fn lines(&mut self, mut bytes: &[u8], on_data: &mut impl FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.begun.is_empty() {
                data(line, on_data);
            } else {
                self.begun.extend_from_slice(line);
                data(&self.begun, on_data);
                self.begun.clear();
            }
            bytes = rest;
        }
        self.begun.extend_from_slice(bytes);
    }
}

fn data(line: &[u8], on_data: &mut impl FnMut(&[u8])) {
    if let Some(data) = line.strip_prefix(b"data: ") {
        on_data(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                            e\r\nretry: 15000\n\n\r\n\
                            19\r\nid: 1\ndata: one\n\nid: 2\nda\r\n\
                            0A\r\nta: two\n\n:\r\n0\r\n\r\n";

    #[test]
    fn finds_the_data_wherever_reads_cut() {
        for length in 1..=RESPONSE.len() {
            let mut found = Vec::new();
            let mut reader = Reader::default();
            for read in RESPONSE.as_bytes().chunks(length) {
                let mut on_data = |data: &[u8]| found.push(data.to_owned());
                assert!(reader.take(read, &mut on_data).is_ok(), "reads of {length}");
            }
            assert_eq!(found, [b"one", b"two"], "reads of {length}");
            assert!(reader.is_at_end(), "reads of {length}");
        }
    }

    #[test]
    fn reads_a_body_without_chunks() -> anyhow::Result<()> {
        let mut found = Vec::new();
        let mut reader = Reader::default();
        for read in ["HTTP/1.1 200 OK\r\n\r\ndata: o", "ne\n\nid: 2\ndata: two\n\n"] {
            reader.take(read.as_bytes(), &mut |data| found.push(data.to_owned()))?;
        }
        assert_eq!(found, [b"one", b"two"]);
        Ok(())
    }

    #[test]
    fn refuses_a_refusal() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";
        assert!(Reader::default().take(answer, &mut |_| {}).is_err());
    }
}
