//! Reading the log for a watcher.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::HubInner;
use crate::{
    message::{END_EVENT, Message, NEW_MESSAGE, StreamName},
    server::{
        client::Address,
        error::Problem,
        guard::{MemoryPart, MemoryPermit},
        log::{Bound, MessagePage, Range, ReadCursor, ReadError},
        sse::{frame, response},
    },
};

/// Timeout of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a watcher cannot be started.
#[derive(Debug)]
pub(crate) enum WatchError {
    /// The log cannot be read.
    Log(ReadError),
    /// The memory budget has no room for a large message.
    Memory(Problem),
}

impl From<ReadError> for WatchError {
    fn from(error: ReadError) -> Self {
        Self::Log(error)
    }
}

impl From<WatchError> for Problem {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Log(error) => error.into(),
            WatchError::Memory(problem) => problem,
        }
    }
}

/// Reads a page of the log for a reader of `sharers` streams. If its first message is large, memory is
/// reserved for it, and the page is read again.
pub(super) async fn read_page(
    hub: Arc<HubInner>,
    stream: StreamName,
    address: Address,
    cursor: ReadCursor,
    sharers: u8,
) -> Result<(MessagePage, Option<Box<MemoryPermit>>), WatchError> {
    let Bound { messages, bytes } = hub.sizes.page;
    let sharers = usize::from(sharers);
    let bound = Bound { messages: messages.div_ceil(sharers), bytes: bytes / sharers };
    let mut memory: Option<Box<MemoryPermit>> = None;
    loop {
        let no_answer = || ReadError::Unavailable("the store does not answer".into());
        let read = hub.log.read(&stream, Range::After(cursor), bound);
        let page = timeout(READ_TIMEOUT, read).await.map_err(|_| no_answer())??;
        let first = page_events(&page, cursor).next();
        let length = first.map_or(0, |(_, first)| frame::max_length(&first.data));
        let is_reserved = memory.as_ref().is_some_and(|memory| memory.fits(length));
        if length <= response::BATCH_BYTES || is_reserved {
            return Ok((page, memory));
        }
        drop((page, memory.take()));
        let permit = hub.memory.acquire(address, MemoryPart::Streams, length).await;
        memory = Some(Box::new(permit.map_err(WatchError::Memory)?));
    }
}

/// The events of a page, each with its kind: the messages, then the end, unless the reader has it.
pub(super) fn page_events(
    page: &MessagePage,
    from: ReadCursor,
) -> impl Iterator<Item = (&'static str, &Message)> {
    let end = page.end.iter().filter(move |end| !page.more && from != ReadCursor::Id(end.id));
    let messages = page.messages.iter().map(|message| (NEW_MESSAGE, message));
    messages.chain(end.map(|end| (END_EVENT, end)))
}
