//! A connection that hyper has let go: its socket, written and read without waiting.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    mem,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};

use super::WRITE_TIMEOUT;
use crate::server::guard::Permit;

/// How many bytes a client may send after its request: they are discarded. One that sends more is
/// disconnected.
const MAX_DISCARDED: usize = 16 * 1024;
/// How long a client may take to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An HTTP/1.1 connection whose response is an event stream.
pub(crate) struct Connection {
    socket: TcpStream,
    /// What could not be written yet.
    unsent: Bytes,
    /// Since when the client has taken nothing.
    blocked_since: Option<Instant>,
    discarded: usize,
    _permit: Permit,
    /// The server waits until that of each connection is dropped.
    _shutdown: watch::Receiver<()>,
}

impl Connection {
    /// `discarded` bytes of the client have been read and will not be used. `permit` and `shutdown` are
    /// held until the connection is closed.
    pub(crate) fn new(
        socket: TcpStream,
        discarded: usize,
        permit: Permit,
        shutdown: watch::Receiver<()>,
    ) -> Self {
        Self {
            socket,
            unsent: Bytes::new(),
            blocked_since: None,
            discarded,
            _permit: permit,
            _shutdown: shutdown,
        }
    }

    /// Since when the client has taken nothing, if it does not.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// Writes as much as the client takes now, and keeps the rest. Then the task is woken when the client
    /// can take more.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(super) fn write(&mut self, bytes: &Bytes, context: &mut Context<'_>) -> io::Result<()> {
        let written = self.try_write(bytes)?;
        if written == bytes.len() {
            return Ok(());
        }
        self.unsent = bytes.slice(written..);
        self.blocked_since = Some(Instant::now());
        self.write_rest(context)
    }

    /// Writes more of the rest, if the client takes it now. Otherwise the task is woken when it can.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(super) fn write_rest(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let written = self.try_write(&self.unsent)?;
            if written > 0 {
                self.unsent.advance(written);
                self.blocked_since = Some(Instant::now());
                continue;
            }
            match self.socket.poll_write_ready(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready?,
            }
        }
        self.unsent = Bytes::new();
        self.blocked_since = None;
        Ok(())
    }

    /// Writes until the client takes no more; returns how much.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.socket.try_write(&bytes[written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Writes everything.
    ///
    /// # Errors
    /// When the connection is closed, or the client takes nothing for [`WRITE_TIMEOUT`].
    pub(super) async fn write_all(&self, bytes: &mut (impl Buf + Send)) -> io::Result<()> {
        while bytes.has_remaining() {
            let written = self.try_write(bytes.chunk())?;
            bytes.advance(written);
            if bytes.has_remaining() {
                timeout(WRITE_TIMEOUT, self.socket.writable()).await??;
            }
        }
        Ok(())
    }

    /// Writes the rest of what the client did not take before.
    ///
    /// # Errors
    /// When the connection is closed, or the client takes nothing for [`WRITE_TIMEOUT`].
    pub(super) async fn write_all_rest(&mut self) -> io::Result<()> {
        self.blocked_since = None;
        let mut rest = mem::take(&mut self.unsent);
        self.write_all(&mut rest).await
    }

    /// Closes the connection once the client has closed it too, or soon: a client whose last bytes arrive
    /// meanwhile would be sent a reset, and lose the end of the response.
    pub(super) async fn close(mut self) {
        if self.socket.shutdown().await.is_ok() {
            let _ = timeout(CLOSE_TIMEOUT, poll_fn(|context| self.poll_closed(context))).await;
        }
    }

    /// Ready when the client has closed the connection, or sends too much. What it sends is discarded.
    pub(super) fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut buffer = [0; 1024];
        loop {
            match self.socket.try_read(&mut buffer) {
                Ok(0) => return Poll::Ready(()),
                Ok(length) => {
                    self.discarded += length;
                    if self.discarded > MAX_DISCARDED {
                        return Poll::Ready(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    match self.socket.poll_read_ready(context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Poll::Ready(()),
            }
        }
    }
}
