//! Search: the messages of a stream that match a filter, by a scan of its log in bounded steps.
//!
//! No index: a stream keeps 16 MiB by default, of which a request examines half. The engines need not know
//! of filters, and a message can be found as soon as it is acknowledged.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::response::MAX_TEXT_BYTES;
use crate::{
    filter::{Filter, FilterError, MAX_BYTES, MAX_WORDS},
    message::{EventId, Message, StreamName},
    problem,
    server::{
        error::Problem,
        log::{Bound, Log, Range, ReadCursor, ReadError},
    },
};

/// What a search counts for in the rate limit of reads, beside the page that it is for.
pub(crate) const SEARCH_COST: NonZeroU32 = NonZeroU32::new(9).expect("not zero");

/// The most messages that a search examines, and about how many bytes of them.
const MAX_EXAMINED: usize = 20_000;
const MAX_EXAMINED_BYTES: usize = 8 * 1024 * 1024;
/// About how long a search takes at most, however slow the store is, unless its first read takes longer.
const MAX_TIME: Duration = Duration::from_secs(2);
/// How much is read at a time. Together with what was found it fits into the memory that is reserved for a
/// page. Between two reads other requests have their turn.
const BATCH: Bound = Bound { messages: 1000, bytes: MAX_TEXT_BYTES };

/// What a search has found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The messages that match, oldest first.
    pub(crate) messages: Vec<Message>,
    /// How many messages were examined.
    pub(crate) examined: usize,
    /// The id of the last one, if there are more to examine in the same direction: where to go on.
    pub(crate) next: Option<EventId>,
    /// The end of the stream, if it has ended. It is not examined.
    pub(crate) end: Option<Message>,
}

/// Examines the messages on one side of a cursor, those that are closest to it first, until `limit` of them
/// match, or until it has examined as many as a request may.
///
/// # Errors
/// As of the first read. Another one that fails, or takes too long, ends the search: the next one, which goes
/// on there, returns the error.
pub(crate) async fn search(
    log: &Log,
    stream: &StreamName,
    mut range: Range,
    filter: &Filter,
    limit: usize,
) -> Result<Found, ReadError> {
    let start = Instant::now();
    let mut found = Found::default();
    let (mut examined_bytes, mut found_bytes) = (0, 0);
    let is_backward = matches!(range, Range::Before(_));
    loop {
        let read = log.read(stream, range, BATCH);
        let mut page = if found.examined == 0 {
            read.await?
        } else {
            match timeout(MAX_TIME.saturating_sub(start.elapsed()), read).await {
                Ok(Ok(page)) => page,
                _ => break,
            }
        };
        found.end = page.end;
        // The closest to the cursor is the last one, to take from the end.
        if !is_backward {
            page.messages.reverse();
        }
        let mut is_done = page.messages.is_empty();
        while !is_done && let Some(message) = page.messages.pop() {
            found.examined += 1;
            examined_bytes += message.data.len();
            found.next = Some(message.id);
            if filter.matches(&message.data) {
                found_bytes += message.data.len();
                found.messages.push(message);
            }
            is_done = found.messages.len() == limit
                || found_bytes >= MAX_TEXT_BYTES
                || found.examined == MAX_EXAMINED
                || examined_bytes >= MAX_EXAMINED_BYTES;
        }
        if page.messages.is_empty() && !page.more {
            found.next = None;
            break;
        }
        let Some(next) = found.next.filter(|_| !is_done && start.elapsed() < MAX_TIME) else {
            break;
        };
        let next = ReadCursor::Id(next);
        range = if is_backward { Range::Before(next) } else { Range::After(next) };
    }
    if is_backward {
        found.messages.reverse();
    }
    Ok(found)
}

/// The problem for words that are not a filter, in these parameters.
pub(crate) fn malformed_filter(parameters: &str, error: FilterError) -> Problem {
    let what = match error {
        FilterError::EmptyWord => "must not be empty".to_owned(),
        FilterError::TooManyWords => format!("may have at most {MAX_WORDS} words"),
        FilterError::TooLong => format!("may have at most {MAX_BYTES} bytes"),
    };
    Problem::new(problem::MALFORMED_QUERY, format!("{parameters} {what}."))
}
