//! The sessions that read: a pool.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, Timeouts},
};
use tokio::time::timeout;

use super::{options::describe, read::Reader, session::Connector};
use crate::server::log::ReadError;

/// The most sessions that read at once.
const MAX_READERS: usize = 8;
/// How long a read may wait for a session, and for its answer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What clients are told when a read fails. The log has the details.
const UNREADABLE: &str = "the database cannot be read";

/// The sessions that read; a cheap clone.
#[derive(Clone)]
pub(super) struct Readers {
    pool: Pool<Manager>,
    /// Whether the last read failed.
    failing: Arc<AtomicBool>,
}

pub(super) struct Manager(Connector);

/// A session in use. Unless it is given back it leaves the pool: the next read must not wait for the answer
/// of one that failed or was cancelled.
struct Lease(Option<Object<Manager>>);

impl Lease {
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(reader) = self.0.take() {
            drop(Object::take(reader));
        }
    }
}

fn unreadable() -> ReadError {
    ReadError::Unavailable(UNREADABLE.into())
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

impl managed::Manager for Manager {
    type Type = Reader;
    type Error = anyhow::Error;

    async fn create(&self) -> anyhow::Result<Reader> {
        let session = self.0.connect("tidings reader", None).await?;
        Ok(Reader::new(session).await?)
    }

    async fn recycle(&self, reader: &mut Reader, _: &Metrics) -> RecycleResult<anyhow::Error> {
        if !reader.is_usable() {
            return Err(RecycleError::message("the session has ended"));
        }
        Ok(())
    }
}

impl Readers {
    /// # Errors
    /// Never, unless the pool is configured wrongly.
    pub(super) fn new(connector: Connector) -> anyhow::Result<Self> {
        let timeouts = Timeouts {
            wait: Some(READ_TIMEOUT),
            create: Some(connector.max_connect_time() + READ_TIMEOUT),
            recycle: Some(READ_TIMEOUT),
        };
        let pool = Pool::builder(Manager(connector)).max_size(MAX_READERS).timeouts(timeouts);
        let pool = pool.runtime(Runtime::Tokio1).build()?;
        Ok(Self { pool, failing: Arc::default() })
    }

    /// A session for something else than a read.
    pub(super) async fn get(&self) -> anyhow::Result<Object<Manager>> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            error => anyhow::anyhow!("{error}"),
        })
    }

    /// Reads.
    pub(super) async fn read<T>(
        &self,
        read: impl AsyncFnOnce(&Reader) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, ReadError> {
        let error = match self.get().await {
            Ok(reader) => {
                let lease = Lease(Some(reader));
                let Some(reader) = &lease.0 else { return Err(unreadable()) };
                match timeout(READ_TIMEOUT, read(reader)).await {
                    Ok(Ok(found)) => {
                        lease.give_back();
                        self.failing.store(false, Ordering::Relaxed);
                        return Ok(found);
                    }
                    Ok(Err(error)) => describe(&error),
                    Err(_) => "no answer".to_owned(),
                }
            }
            Err(error) => format!("{error:#}"),
        };
        // Once, not for each reader.
        if self.failing.swap(true, Ordering::Relaxed) {
            tracing::debug!(error, "the database cannot be read");
        } else {
            tracing::error!(error, "the database cannot be read");
        }
        Err(unreadable())
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }
}
