//! Loading a page: what the log holds for an address.

use std::sync::Arc;

use super::Pages;
use crate::{
    app::{Address, Draft, Page, view::View},
    filter::Filter,
    message::{EventId, Message, Snapshot, SnapshotMessage, StreamName, StreamNames, Summary},
    problem,
    server::{
        api::{
            cursor,
            response::MAX_TEXT_BYTES,
            search::{Found, SEARCH_COST, malformed_filter, search},
        },
        client::Client,
        error::Problem,
        guard::Identity,
        log::{Bound, Range, ReadCursor, ReadError},
        mount,
        pages::sign_in::safe_local_path,
        stream_list::Entry,
        stream_path::parse_names,
    },
};

/// How many messages a page is rendered with, and about how many bytes of them.
const NEWEST: Bound = Bound { messages: 100, bytes: MAX_TEXT_BYTES };
/// How many messages a permanent link shows before its own, and from there on.
const NEIGHBOURS: Bound = Bound { messages: 50, bytes: MAX_TEXT_BYTES / 2 };
/// How many streams the list of streams shows.
const STREAMS: usize = 1000;

impl Pages {
    /// The page at an address.
    ///
    /// # Errors
    /// When there is none, or none for this visitor.
    pub(super) async fn load(
        &self,
        client: Client,
        identity: &Identity,
        address: Address,
    ) -> Result<Page, Problem> {
        match address {
            Address::Counter => Ok(Page::Counter(self.counter.snapshot())),
            Address::Streams => self.streams(identity).await,
            Address::Stream { name, before, at, find, view } => {
                let names = parse_names(&name)?;
                for name in names.as_slice() {
                    self.access.watch(identity, name)?;
                }
                let view = view.map(|view| view.parse()).transpose().map_err(|_| {
                    Problem::new(problem::MALFORMED_QUERY, "A view is \"log\" or \"text\".")
                })?;
                let Some(name) = names.single().cloned() else {
                    return match (at, before, find) {
                        (None, None, None) => self.newest_of_several(names, view).await,
                        _ => Err(Problem::new(
                            problem::MALFORMED_QUERY,
                            "A message is on the page of its own stream: name that one alone.",
                        )),
                    };
                };
                match (at, before, find) {
                    (None, before, Some(find)) => {
                        self.found(client, name, find, before, view).await
                    }
                    (Some(_), _, Some(_)) => Err(Problem::new(
                        problem::MALFORMED_QUERY,
                        "Use either at or find, not both.",
                    )),
                    (Some(id), _, None) => self.around(name, &id, view).await,
                    (None, Some(id), None) => self.before(name, &id, view).await,
                    (None, None, None) => self.newest(identity, name, None, view).await,
                }
            }
            Address::SignIn { to } => {
                let to = safe_local_path(to.as_deref());
                Ok(Page::SignIn { to, notice: None, refused: None })
            }
            Address::Problems => Ok(Page::Problems),
            Address::Unknown => Err(Problem::new(
                problem::NOT_FOUND,
                "No page has this address. It may have been mistyped, or the page has gone.",
            )),
        }
    }

    /// The streams that the visitor may watch.
    async fn streams(&self, identity: &Identity) -> Result<Page, Problem> {
        let rights = identity.watch_fingerprint();
        let may_watch = |stream: &StreamName| self.access.may_watch(identity, stream);
        let page = self.list.newest(STREAMS, rights, may_watch).await?;
        let summary = |entry: &Arc<Entry>| Summary {
            name: entry.info.name.clone(),
            messages: entry.info.messages,
            watchers: entry.watchers,
            ended: entry.info.ended,
            last: entry.info.last.clone(),
        };
        Ok(Page::Streams {
            streams: page.entries.iter().map(summary).collect(),
            more: page.more,
            cursor: page.cursor,
            may_publish: identity.may_publish_somewhere(),
        })
    }

    /// A stream as it is now. One read gives the messages and the place where the subscription begins.
    pub(super) async fn newest(
        &self,
        identity: &Identity,
        name: StreamName,
        draft: Option<Draft>,
        view: Option<View>,
    ) -> Result<Page, Problem> {
        let events = mount::address(&format!("/streams/{name}/events"));
        let pages = vec![mount::address(&format!("/streams/{name}"))];
        let (messages, older) =
            match self.log.read(&name, Range::Before(ReadCursor::Latest), NEWEST).await {
                Ok(page) => (snapshot_messages(page.messages, page.end, 0), page.more),
                // People open the page first and publish afterwards.
                Err(ReadError::NoStream) => (Vec::new(), false),
                Err(error) => return Err(error.into()),
            };
        let snapshot = Snapshot { events, pages, messages, older, ..Snapshot::default() };
        let watchers = self.hub.watchers(&name);
        let may_publish = self.access.publish(identity, &name).is_ok();
        Ok(Page::Stream { name, snapshot, watchers, may_publish, draft, view })
    }

    /// Several streams as they are now: the newest messages of each, of one read of each, in the order of
    /// time. Each has its share of a page, so that none pushes the others out, and the cursor of each is
    /// that of its last message here. Large messages fill the page, up to one beyond [`MAX_TEXT_BYTES`];
    /// what is subscribed to begins with the first message where a stream has none here.
    async fn newest_of_several(
        &self,
        names: StreamNames,
        view: Option<View>,
    ) -> Result<Page, Problem> {
        let streams = names.as_slice();
        let share = Bound {
            messages: NEWEST.messages / streams.len(),
            bytes: NEWEST.bytes / streams.len(),
        };
        let (mut merged, mut bytes) = (Vec::new(), 0);
        for (stream, name) in streams.iter().enumerate() {
            if bytes >= MAX_TEXT_BYTES {
                break;
            }
            let page = match self.log.read(name, Range::Before(ReadCursor::Latest), share).await {
                Ok(page) => page,
                Err(ReadError::NoStream) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut messages = snapshot_messages(page.messages, page.end, stream);
            let mut first = messages.len();
            while first > 0 && bytes < MAX_TEXT_BYTES {
                first -= 1;
                bytes += messages[first].message.data.len();
            }
            // The messages of a stream keep their order, even if the clock was set back between them.
            let mut time = 0;
            for message in messages.drain(first..) {
                time = message.message.id.millis.max(time);
                merged.push((time, message));
            }
        }
        merged.sort_by_key(|(time, _)| *time);
        let messages = merged.into_iter().map(|(_, message)| message).collect();
        let events = mount::address(&format!("/streams/{names}/events"));
        let pages =
            streams.iter().map(|name| mount::address(&format!("/streams/{name}"))).collect();
        let snapshot = Snapshot { events, pages, messages, ..Snapshot::default() };
        Ok(Page::Several { names, snapshot, view })
    }

    /// The messages before one.
    async fn before(
        &self,
        name: StreamName,
        id: &str,
        view: Option<View>,
    ) -> Result<Page, Problem> {
        let place = cursor::parse_cursor(id)?;
        let page = self.log.read(&name, Range::Before(place), NEWEST).await?;
        let (messages, older) = (page.messages, page.more);
        Ok(Page::Archive { name, messages, at: None, older, newer: true, end: None, view })
    }

    /// What a filter finds before a message, or among the newest ones.
    async fn found(
        &self,
        client: Client,
        name: StreamName,
        find: String,
        before: Option<String>,
        view: Option<View>,
    ) -> Result<Page, Problem> {
        let filter = Filter::parse(&find).map_err(|error| malformed_filter("find", error))?;
        let newest = before.is_none();
        let place = before.map_or(Ok(ReadCursor::Latest), |id| cursor::parse_cursor(&id))?;
        let Found { messages, examined, next, .. } = if filter.is_empty() {
            Found::default()
        } else {
            self.limits.read(client.address, SEARCH_COST)?;
            search(&self.log, &name, Range::Before(place), &filter, NEWEST.messages).await?
        };
        let find = if filter.is_empty() { String::new() } else { find };
        Ok(Page::Found { name, find, messages, examined, next, newest, view })
    }

    /// A message among its neighbours.
    async fn around(
        &self,
        name: StreamName,
        id: &str,
        view: Option<View>,
    ) -> Result<Page, Problem> {
        let at: EventId = id.parse().map_err(|_| {
            Problem::new(problem::MALFORMED_CURSOR, "The address of a message ends with its id.")
        })?;
        let before = self.log.read(&name, Range::Before(ReadCursor::Id(at)), NEIGHBOURS).await?;
        let from =
            before.messages.last().map_or(ReadCursor::Earliest, |last| ReadCursor::Id(last.id));
        let after = self.log.read(&name, Range::After(from), NEIGHBOURS).await?;
        let mut messages = before.messages;
        messages.extend(after.messages);
        let end = after.end.filter(|_| !after.more);
        Ok(Page::Archive {
            name,
            messages,
            at: Some(at),
            older: before.more,
            newer: after.more,
            end,
            view,
        })
    }
}

/// The messages of a stream, and its end.
fn snapshot_messages(
    messages: Vec<Message>,
    end: Option<Message>,
    stream: usize,
) -> Vec<SnapshotMessage> {
    let end = end.map(|message| SnapshotMessage { message, stream, end: true });
    let message = |message| SnapshotMessage { message, stream, end: false };
    messages.into_iter().map(message).chain(end).collect()
}
