//! Sessions: connections to the server of the database that accepts writes.

use std::{
    fmt, future,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{anyhow, bail};
use futures::future::try_join_all;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Connection, Error, Notification, Statement, error::SqlState,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::options::{Endpoint, PostgresOptions, describe};

/// How long one server may take to accept a session.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// A session. Dropping it closes the connection, whatever it waits for.
pub(super) struct Session {
    pub(super) client: Client,
    /// Number of warnings that the database has sent.
    warnings: Arc<AtomicU64>,
    /// The timeline of the server; 0 where it is not known.
    timeline: u32,
    /// The greatest one of any session.
    greatest_timeline: Arc<AtomicU32>,
    driver: AbortOnDropHandle<()>,
}

/// Receives the notifications of a session.
pub(super) type OnNotification = Arc<dyn Fn(&Notification) + Send + Sync>;

/// Opens sessions; a cheap clone.
#[derive(Clone)]
pub(super) struct Connector(Arc<ConnectorInner>);

struct ConnectorInner {
    options: PostgresOptions,
    tls: MakeRustlsConnect,
    /// The index of the server that accepted the last session: it is tried first.
    preferred: AtomicUsize,
    /// The greatest timeline of any session. A promotion begins another one, so that a server with
    /// a smaller one was replaced.
    timeline: Arc<AtomicU32>,
    /// Called when a session shows that a standby was promoted, before the session is used.
    on_promotion: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.options.fmt(f)
    }
}

impl Connector {
    /// # Errors
    /// When the files for TLS cannot be used.
    pub(super) fn new(
        options: PostgresOptions,
        on_promotion: impl Fn() + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let tls = options.tls.connector()?;
        let (preferred, timeline) = (AtomicUsize::new(0), Arc::default());
        let on_promotion = Box::new(on_promotion);
        Ok(Self(Arc::new(ConnectorInner { options, tls, preferred, timeline, on_promotion })))
    }

    /// How long opening a session may take: all servers may be silent.
    pub(super) fn max_connect_time(&self) -> Duration {
        CONNECT_TIMEOUT.saturating_mul(u32::try_from(self.0.options.hosts().len()).unwrap_or(1))
    }

    pub(super) fn options(&self) -> &PostgresOptions {
        &self.0.options
    }

    /// Opens a session with the server that accepts writes. `application` is the name that the
    /// database shows for it.
    ///
    /// # Errors
    /// When no server accepts one. The error says why, for each of them.
    pub(super) async fn connect(
        &self,
        application: &str,
        on_notification: Option<OnNotification>,
    ) -> anyhow::Result<Session> {
        let hosts = self.0.options.hosts();
        let preferred = self.0.preferred.load(Ordering::Relaxed);
        let mut errors = Vec::new();
        for index in (0..hosts.len()).map(|index| (preferred + index) % hosts.len()) {
            let server = &hosts[index];
            // Boxed, because it is large and rare.
            let opening = Box::pin(self.open(server, application, on_notification.clone()));
            let opened = timeout(CONNECT_TIMEOUT, opening).await;
            match opened.unwrap_or_else(|_| Err(anyhow!("it does not answer"))) {
                Ok(session) => {
                    self.0.preferred.store(index, Ordering::Relaxed);
                    return Ok(session);
                }
                Err(error) => errors.push(format!("{server}: {error:#}")),
            }
        }
        bail!("{}", errors.join("; "))
    }

    /// Begins with the next server when a session is opened again: the preferred one accepts sessions,
    /// and does not work.
    pub(super) fn avoid_preferred(&self) {
        self.0.preferred.fetch_add(1, Ordering::Relaxed);
    }

    async fn open(
        &self,
        server: &Endpoint,
        application: &str,
        on_notification: Option<OnNotification>,
    ) -> anyhow::Result<Session> {
        let config = self.0.options.config(server, application)?;
        let connected = config.connect(self.0.tls.clone()).await;
        let (client, connection) = connected.map_err(|error| explain(&error))?;
        let warnings = Arc::<AtomicU64>::default();
        let driver = tokio::spawn(drive(connection, Arc::clone(&warnings), on_notification));
        let driver = AbortOnDropHandle::new(driver);
        let timeline = timeline(&client).await;
        let greatest_timeline = Arc::clone(&self.0.timeline);
        let greatest = greatest_timeline.load(Ordering::Relaxed);
        if timeline > greatest && greatest > 0 {
            // Before any session is found to be current.
            (self.0.on_promotion)();
        }
        greatest_timeline.fetch_max(timeline, Ordering::Relaxed);
        let session = Session { client, warnings, timeline, greatest_timeline, driver };
        if !session.is_current() {
            bail!(
                "it was replaced by a promoted standby (its timeline is {timeline} of {greatest})"
            );
        }
        Ok(session)
    }
}

/// Carries the data of a connection until it ends.
async fn drive(
    mut connection: Connection<
        impl AsyncRead + AsyncWrite + Unpin,
        impl AsyncRead + AsyncWrite + Unpin,
    >,
    warnings: Arc<AtomicU64>,
    on_notification: Option<OnNotification>,
) {
    while let Some(message) = future::poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => {
                if let Some(on_notification) = &on_notification {
                    on_notification(&notification);
                }
            }
            Ok(AsyncMessage::Notice(notice)) => {
                // The severity may be translated; the class of the code is not (01: warning).
                if notice.code().code().starts_with("01") {
                    warnings.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(warning = notice.message(), "the database warns");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = describe(&error), "a session of the database has ended");
                break;
            }
        }
    }
}

impl Session {
    /// Number of warnings that the database has sent in this session.
    pub(super) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Relaxed)
    }

    /// Prepares statements, in one exchange.
    pub(super) async fn prepare<const N: usize>(
        &self,
        statements: [&str; N],
    ) -> Result<[Statement; N], Error> {
        let prepared = statements.map(|statement| self.client.prepare(statement));
        let prepared = try_join_all(prepared).await?;
        // As many as there were.
        Ok(std::array::from_fn(|index| prepared[index].clone()))
    }

    /// Waits until the connection is lost.
    pub(super) async fn closed(&mut self) {
        // It ends with the connection, and is not aborted before that.
        let _ = (&mut self.driver).await;
    }

    /// Makes the database detect that this process is gone while it waits. Not every system supports it.
    pub(super) async fn detect_lost_client(&self) {
        let set = "SET client_connection_check_interval = 2000";
        if let Err(error) = self.client.batch_execute(set).await {
            tracing::debug!(error = describe(&error), "the database does not detect lost clients");
        }
    }

    /// Whether a promotion would show in the sessions of this server.
    pub(super) fn shows_promotions(&self) -> bool {
        self.timeline > 0
    }

    /// Whether no later session has shown that this server was replaced by a promoted standby. It may
    /// still answer, and lack what was stored since.
    pub(super) fn is_current(&self) -> bool {
        self.timeline == 0 || self.timeline >= self.greatest_timeline.load(Ordering::Relaxed)
    }
}

/// The timeline of a server: a promotion begins another one. 0 where it is not known.
async fn timeline(client: &Client) -> u32 {
    // The first eight hexadecimal digits of the name of a file of the write-ahead log. Some services
    // do not offer these functions.
    let select = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)";
    let row = client.query_one(select, &[]).await.ok();
    let digits: Option<String> = row.and_then(|row| row.try_get(0).ok());
    digits.and_then(|digits| u32::from_str_radix(&digits, 16).ok()).unwrap_or_default()
}

const PASSWORD_ADVICE: &str =
    "give the right password with --data-password-file or TIDINGS_DATA_PASSWORD";

/// The error of a session that could not be opened, with what to do about it.
fn explain(error: &tokio_postgres::Error) -> anyhow::Error {
    let what = describe(error);
    let advice = match error.code() {
        Some(&SqlState::INVALID_CATALOG_NAME) => "create it with: createdb",
        Some(&SqlState::INVALID_PASSWORD) => PASSWORD_ADVICE,
        Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            "create the role, and allow it in pg_hba.conf"
        }
        None if what.contains("password missing") => PASSWORD_ADVICE,
        _ => return anyhow!(what),
    };
    anyhow!("{what}; {advice}")
}
