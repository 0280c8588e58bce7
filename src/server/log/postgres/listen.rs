//! Follows the changes of other servers: notifications say which streams have changed, and a regular
//! comparison finds what a notification did not say.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::Notification;

use super::{
    feed::{Delivered, Feed, Marked},
    pool::Readers,
    read::{NextPage, Reader, signed},
    session::{Connector, OnNotification},
    statements::CHANNEL,
    write::wait_for,
};
use crate::server::log::{Bound, FreshnessSender, ReadError, StreamName};

/// How often the followed streams are compared with the database.
const COMPARE_INTERVAL: Duration = Duration::from_secs(2);
/// How long a comparison may take.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(3);
/// Without a comparison for this time, what is in memory may be old.
const STALE_AFTER: Duration = Duration::from_secs(5);
/// The pause before the next attempt after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long the first notification may take to arrive.
const TEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How many streams are read at once, and how much of each.
const CONCURRENT_READS: usize = 4;
const PAGE: Bound = Bound { messages: 4096, bytes: 1024 * 1024 };
/// How long the change of a stream that lost messages may take.
const RENEW_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens for the notifications of other servers.
pub(super) struct Listener {
    pub(super) connector: Connector,
    pub(super) server: i64,
    pub(super) feed: Feed,
    pub(super) freshness: FreshnessSender,
    /// A notification of this server has arrived.
    pub(super) tested: Arc<Notify>,
}

impl Listener {
    /// Opens a session that receives notifications.
    pub(super) async fn open(&self) -> anyhow::Result<Reader> {
        let (server, feed) = (self.server.to_string(), self.feed.clone());
        let tested = Arc::clone(&self.tested);
        let on_notification: OnNotification = Arc::new(move |notification: &Notification| {
            let mut words = notification.payload().split(' ');
            // What this server stores is delivered without a notification.
            if words.next() == Some(&server) {
                tested.notify_one();
            } else {
                feed.note_activity();
                feed.mark(words.filter_map(|name| name.parse().ok()));
            }
        });
        let session = self.connector.connect("tidings listener", Some(on_notification)).await?;
        session.client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        Ok(Reader::new(session).await?)
    }

    /// Checks that notifications arrive: not through a pooler in transaction mode.
    ///
    /// # Errors
    /// When they do not.
    pub(super) async fn test(&self, readers: &Readers) -> anyhow::Result<()> {
        let session = readers.get().await?;
        let payload = self.server.to_string();
        session.client().execute("SELECT pg_notify($1, $2)", &[&CHANNEL, &payload]).await?;
        timeout(TEST_TIMEOUT, self.tested.notified()).await.map_err(|_| {
            anyhow::anyhow!(
                "notifications (LISTEN) do not arrive. Connect to PostgreSQL itself, or through a \
                 pooler in session mode: one in transaction mode does not pass them on"
            )
        })
    }

    /// Compares regularly; reconnects when the session is lost.
    pub(super) async fn run(self, first: Reader) {
        let mut next = Some(first);
        let mut compared_at = Instant::now();
        loop {
            let reader = match next.take() {
                Some(reader) => Ok(reader),
                None => timeout(COMPARE_TIMEOUT, self.open())
                    .await
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("the database does not answer"))),
            };
            match reader {
                // At once: notifications may have been lost before.
                Ok(reader) => {
                    while self.compare(&reader).await {
                        compared_at = Instant::now();
                        // What is known to have changed may not be read yet.
                        self.freshness.set_stale(self.feed.is_behind(STALE_AFTER));
                        sleep(COMPARE_INTERVAL).await;
                    }
                }
                Err(error) => tracing::debug!(error = format!("{error:#}"), "cannot listen"),
            }
            if compared_at.elapsed() > STALE_AFTER {
                self.freshness.set_stale(true);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Marks the streams that differ from what was delivered; returns whether the database answers.
    async fn compare(&self, reader: &Reader) -> bool {
        if !reader.is_usable() {
            return false;
        }
        let mut delivered = self.feed.delivered();
        let names: Vec<&str> = delivered.keys().map(StreamName::as_str).collect();
        let Ok(Ok(stored)) = timeout(COMPARE_TIMEOUT, reader.heads(&names)).await else {
            return false;
        };
        let mut different = Vec::new();
        for (stream, head) in stored {
            if delivered.remove(&stream) != Some(head) {
                different.push(stream);
            }
        }
        let deleted = delivered.into_iter().filter(|(_, last)| *last != Delivered::NO_STREAM);
        different.extend(deleted.map(|(stream, _)| stream));
        self.feed.mark(different);
        true
    }
}

/// Reads what follows the delivered changes of each marked stream, and delivers it.
pub(super) async fn deliver_marked(feed: Feed, readers: Readers) {
    loop {
        let marked = feed.marked().await;
        stream::iter(marked)
            .for_each_concurrent(CONCURRENT_READS, |marked| deliver(&feed, &readers, marked))
            .await;
    }
}

async fn deliver(feed: &Feed, readers: &Readers, marked: Marked) {
    let Marked { stream, delivered, .. } = &marked;
    let read = readers.read(async |reader| reader.page_after(stream, *delivered, PAGE).await).await;
    match read {
        Ok(NextPage::Lost) => {
            let renewed = timeout(RENEW_TIMEOUT, renew_generation(readers, stream, *delivered));
            let renewed = renewed.await.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer")));
            if let Err(error) = renewed {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the readers of a stream that lost messages cannot be told yet"
                );
                sleep(RETRY_PAUSE).await;
            }
            feed.mark([marked.stream]);
        }
        Ok(NextPage::Read(Ok(page))) => wait_for(feed.deliver_page(marked, page)).await,
        Ok(NextPage::Read(Err(ReadError::NoStream | ReadError::UnknownCursor))) => {
            feed.deliver_deleted(marked);
        }
        // Its followers begin again, and their watchers read the log.
        Ok(NextPage::Read(Err(ReadError::Trimmed))) => feed.interrupt(stream),
        Ok(NextPage::Read(Err(ReadError::Behind | ReadError::Unavailable(_)))) | Err(_) => {
            sleep(RETRY_PAUSE).await;
            feed.mark([marked.stream]);
        }
    }
}

/// Makes a stream another generation. A promoted standby lacks its newest messages, which readers have
/// received, and their sequences are assigned again: every cursor must become unknown.
async fn renew_generation(
    readers: &Readers,
    stream: &StreamName,
    delivered: Delivered,
) -> anyhow::Result<()> {
    let Some(generation) = delivered.position.generation else { return Ok(()) };
    let mut session = readers.get().await?;
    let tx = session.client_mut().transaction().await?;
    tx.batch_execute("SET LOCAL synchronous_commit = on").await?;
    // Another server may have done it. The stream is locked first, as by every server.
    let lock = "SELECT stream, seq, millis FROM tidings.streams WHERE name = $1 AND generation = $2 \
                FOR NO KEY UPDATE";
    let Some(row) = tx.query_opt(lock, &[&stream.as_str(), &generation.0]).await? else {
        return Ok(());
    };
    let number: i64 = row.try_get(0)?;
    let (seq, millis) = (signed(delivered.position.seq), signed(delivered.millis));
    let is_head = (row.try_get::<_, i64>(1)?, row.try_get::<_, i64>(2)?) == (seq, millis);
    let find = "SELECT FROM tidings.messages WHERE stream = $1 AND seq = $2 AND millis = $3";
    if is_head || tx.query_opt(find, &[&number, &seq, &millis]).await?.is_some() {
        return Ok(());
    }
    let next = "UPDATE tidings.store SET generation = generation + 1 RETURNING generation";
    let next: i64 = tx.query_one(next, &[]).await?.try_get(0)?;
    let update = "UPDATE tidings.streams SET generation = $2 WHERE stream = $1";
    tx.execute(update, &[&number, &next]).await?;
    tx.commit().await?;
    tracing::error!(%stream, "the database has lost messages that readers have received");
    Ok(())
}
