//! The writer: group commit. All waiting operations become one transaction and one flush of the disks
//! of the database.
//!
//! Where a COMMIT was not answered, the next session knows whether it was stored: it begins once the
//! old session has ended, and reads the number of the last group of this server.

use std::{ops::ControlFlow, time::Duration};

use anyhow::{anyhow, bail, ensure};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    batch::{self, GroupError, GroupId, GroupResult, Operation, Outcome},
    durability::{Durability, NotReplicated},
    feed::Feed,
    health::Health,
    options::describe,
    schema::COPY_LOCK,
    session::{Connector, Session},
    statements::{RECORD_GROUP, Statements},
};
use crate::server::log::{
    AppendError, Change, RetentionLimits, follow::Backlog, metrics::EngineMetrics,
};

/// Approximate size limit of a transaction, in bytes.
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;
/// How long a transaction may take.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the outcome of a COMMIT may stay open before the publishers are told that it is unknown.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a session may take to begin, which waits for the end of the one before it.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long publishers wait for a lost session to begin again before they are refused.
const RECONNECT_GRACE: Duration = Duration::from_millis(500);
/// The pause before the next attempt to begin a session.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How often a transaction begins again because another server created one of its streams.
const MAX_RETRIES: u32 = 20;
/// Back-pressure: how long publishers wait for followers that do not keep up.
const MAX_BACKLOG_WAIT: Duration = Duration::from_millis(100);
/// A transaction that takes longer is logged.
const SLOW_COMMIT: Duration = Duration::from_millis(500);

/// What clients are told while the database cannot be written. The log has the details.
pub(super) const UNREACHABLE: &str = "the database cannot be reached";

/// An operation, and the publisher that waits for its outcome.
pub(super) struct Command {
    pub(super) operation: Operation,
    /// Approximate size in bytes.
    pub(super) size: usize,
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// The state of the writer.
pub(super) struct Writer {
    pub(super) connector: Connector,
    pub(super) server: i64,
    pub(super) limits: RetentionLimits,
    pub(super) feed: Feed,
    pub(super) health: Health,
    pub(super) metrics: EngineMetrics,
    /// The number of the last group.
    pub(super) group: i64,
    /// The number of the last group that is known to be stored.
    pub(super) stored: i64,
    pub(super) unresolved: Option<Unresolved>,
}

/// A group whose COMMIT was not answered.
pub(super) struct Unresolved {
    number: i64,
    result: GroupResult,
    replies: Vec<oneshot::Sender<Outcome>>,
    /// When its publishers are told that the outcome is unknown.
    deadline: Instant,
}

/// A session that writes. It holds the advisory lock of this server.
pub(super) struct WriteSession {
    session: Session,
    statements: Statements,
    /// The number of the last group of this server that was stored.
    recorded: i64,
}

impl WriteSession {
    /// Begins a session, once the one before it has ended.
    ///
    /// # Errors
    /// When the database cannot be reached, or is less durable than required.
    pub(super) async fn begin(connector: &Connector, group: GroupId) -> anyhow::Result<Self> {
        timeout(BEGIN_TIMEOUT, Self::try_begin(connector, group)).await.unwrap_or_else(|_| {
            connector.avoid_preferred();
            Err(anyhow!("the database does not answer"))
        })
    }

    /// What an acknowledgement is worth.
    pub(super) async fn durability(&self) -> anyhow::Result<Durability> {
        Ok(Durability::of(&self.session.client).await?)
    }

    async fn try_begin(connector: &Connector, group: GroupId) -> anyhow::Result<Self> {
        let application = format!("tidings writer {:016x}", group.server);
        let session = connector.connect(&application, None).await?;
        let client = &session.client;
        client.batch_execute(SETTINGS).await?;
        // Not every system supports it.
        if let Err(error) =
            client.batch_execute("SET client_connection_check_interval = 2000").await
        {
            tracing::debug!(error = describe(&error), "the database does not detect lost clients");
        }
        Durability::of(client).await?.check(connector.options())?;
        // It is free when the session before this one has ended. That one is not terminated: if it waits
        // for the standby, its transaction would become visible without being replicated.
        client.execute("SELECT pg_advisory_lock($1)", &[&group.server]).await?;
        // A server that has lost all of its sessions must not write during a copy.
        let lock = "SELECT pg_try_advisory_xact_lock_shared($1)";
        let is_free: bool = client.query_one(lock, &[&COPY_LOCK]).await?.try_get(0)?;
        ensure!(is_free, "`tidings copy` uses the database");
        let select = "SELECT group_number FROM tidings.servers WHERE server = $1";
        let recorded = client.query_opt(select, &[&group.server]).await?;
        let recorded = recorded.map_or(Ok(0), |row| row.try_get(0))?;
        // What was read may not be replicated yet. Once this is, so is everything before it.
        let warnings = session.warnings();
        client.execute(RECORD_GROUP, &[&group.server, &recorded]).await?;
        if session.warnings() != warnings {
            bail!("the database does not replicate");
        }
        let statements = Statements::prepare(&session).await?;
        Ok(Self { session, statements, recorded })
    }
}

/// Transactions wait for row locks of other servers, and for the standby. Those that are idle, because
/// this server hangs, give up their locks.
const SETTINGS: &str = "
    SET statement_timeout = 0;
    SET lock_timeout = 8000;
    SET idle_in_transaction_session_timeout = 5000;
    SET tcp_keepalives_idle = 5;
    SET tcp_keepalives_interval = 2;
    SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = 5000;
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');";

impl Writer {
    /// Runs commands until every sender is dropped, or the receiver is closed.
    pub(super) async fn run(mut self, first: WriteSession, mut commands: mpsc::Receiver<Command>) {
        let mut next = Some(first);
        loop {
            let session = match next.take() {
                Some(session) => session,
                None => match self.begin_session(&mut commands).await {
                    Some(session) => session,
                    None => return,
                },
            };
            if self.write_groups(session, &mut commands).await.is_break() {
                return;
            }
        }
    }

    /// Begins a session, however long it takes. Publishers are refused meanwhile, but for a moment
    /// at the beginning. None once the log is closed.
    async fn begin_session(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Option<WriteSession> {
        let grace = Instant::now() + RECONNECT_GRACE;
        let mut pause = Duration::ZERO;
        loop {
            let (connector, group, wait) = (self.connector.clone(), self.group_id(), pause);
            let begin = async {
                sleep(wait).await;
                WriteSession::begin(&connector, group).await
            };
            tokio::pin!(begin);
            let session = loop {
                let is_refusing = self.health.unwritable().is_some();
                let deadline = self.unresolved.as_ref().map(|unresolved| unresolved.deadline);
                tokio::select! {
                    session = &mut begin => break session,
                    command = commands.recv(), if is_refusing => {
                        let reason = self.health.unwritable();
                        let reason = reason.unwrap_or_else(|| UNREACHABLE.into());
                        let _ = command?.reply.send(Err(AppendError::Unavailable(reason)));
                    }
                    () = sleep_until(grace), if !is_refusing => {
                        self.health.set(Some(UNREACHABLE.into()));
                    }
                    () = sleep_until(deadline.unwrap_or(grace)), if deadline.is_some() => {
                        self.give_up();
                    }
                }
            };
            match session {
                Ok(session) => {
                    if !session.session.shows_promotions() {
                        self.feed.doubt();
                    }
                    self.resolve(session.recorded).await;
                    tracing::info!("the database can be written again");
                    self.health.set(None);
                    return Some(session);
                }
                Err(error) => {
                    if pause.is_zero() {
                        tracing::error!(
                            error = format!("{error:#}"),
                            "the database cannot be written"
                        );
                    }
                    let reason = if error.is::<NotReplicated>() {
                        "the database does not wait for a synchronous standby"
                    } else {
                        UNREACHABLE
                    };
                    self.health.set(Some(reason.into()));
                    pause = RETRY_PAUSE;
                }
            }
        }
    }

    fn group_id(&self) -> GroupId {
        GroupId { server: self.server, number: self.group }
    }

    /// Tells the publishers of a group that its outcome is unknown.
    fn give_up(&mut self) {
        let Some(unresolved) = self.unresolved.take() else { return };
        tracing::error!("it is unknown whether a transaction was stored");
        for reply in unresolved.replies {
            let _ = reply.send(Err(AppendError::Unknown(UNREACHABLE.into())));
        }
    }

    /// Resolves the group whose COMMIT was not answered: the session before this one has ended, and
    /// has stored the groups up to `recorded`.
    async fn resolve(&mut self, recorded: i64) {
        if recorded < self.stored {
            tracing::error!(
                recorded,
                acknowledged = self.stored,
                "the database lacks messages that were acknowledged: it was restored from a copy, or \
                 a standby was promoted that had not received them"
            );
        }
        self.stored = recorded;
        let Some(Unresolved { number, result, replies, .. }) = self.unresolved.take() else {
            return;
        };
        let is_stored = recorded >= number;
        tracing::info!(is_stored, "the outcome of a commit that was not answered is known");
        if is_stored {
            self.acknowledge(result, replies).await;
            return;
        }
        for reply in replies {
            let _ = reply.send(Err(AppendError::Unavailable(UNREACHABLE.into())));
        }
    }

    /// Replies to the publishers, then fans out: always in this order, after storing.
    async fn acknowledge(&self, result: GroupResult, replies: Vec<oneshot::Sender<Outcome>>) {
        for (reply, outcome) in replies.into_iter().zip(result.outcomes) {
            let _ = reply.send(outcome);
        }
        let backlogs = self.feed.deliver(result.changes);
        if !backlogs.is_empty() {
            wait_for(backlogs).await;
        }
    }

    /// Writes groups until the session is lost, or the log is closed.
    async fn write_groups(
        &mut self,
        mut session: WriteSession,
        commands: &mut mpsc::Receiver<Command>,
    ) -> ControlFlow<()> {
        let mut left_over = None;
        loop {
            let next = async {
                if left_over.is_some() { left_over.take() } else { commands.recv().await }
            };
            let next = tokio::select! {
                next = next => next,
                // The next session begins before a publisher needs it.
                () = session.session.closed() => return ControlFlow::Continue(()),
            };
            let Some(first) = next else { return ControlFlow::Break(()) };
            if !session.session.is_current() {
                left_over = Some(first);
                break;
            }
            let group = Group::collect(first, commands, &mut left_over);
            if !self.write_group(&session, group).await {
                break;
            }
        }
        if let Some(Command { reply, .. }) = left_over {
            let _ = reply.send(Err(AppendError::Unavailable(UNREACHABLE.into())));
        }
        ControlFlow::Continue(())
    }

    /// Writes a group; returns whether the session can be used further.
    async fn write_group(&mut self, session: &WriteSession, group: Group) -> bool {
        let WriteSession { session, statements, .. } = session;
        let begun = Instant::now();
        let Group { mut operations, replies } = group;
        self.group += 1;
        let id = self.group_id();
        let deadline = Instant::now() + TRANSACTION_TIMEOUT;
        let mut retries = 0;
        let written = loop {
            // Boxed, because it is large.
            let run =
                Box::pin(batch::run(session, statements, self.limits, id, operations, deadline));
            match run.await {
                Err(GroupError::Retry(again)) if retries < MAX_RETRIES => {
                    operations = again;
                    retries += 1;
                }
                written => break written,
            }
        };
        let error = match written {
            Ok(result) => {
                self.stored = id.number;
                self.record_metrics(&result.changes, begun.elapsed());
                self.acknowledge(result, replies).await;
                return true;
            }
            Err(GroupError::Unknown(error, result)) => {
                tracing::warn!(error, "a commit was not answered: its outcome is being determined");
                let deadline = Instant::now() + RESOLVE_TIMEOUT;
                let number = id.number;
                self.unresolved = Some(Unresolved { number, result, replies, deadline });
                return false;
            }
            Err(GroupError::Retry(_)) => "its streams are created again and again".to_owned(),
            Err(GroupError::NotStored(error)) => error,
        };
        tracing::error!(error, "a transaction was not stored");
        for reply in replies {
            let _ = reply.send(Err(AppendError::Unavailable(NOT_STORED.into())));
        }
        // Its transaction may be open: the next one begins in a new session.
        false
    }

    fn record_metrics(&self, changes: &[(crate::message::StreamName, Change)], took: Duration) {
        let messages = changes.iter().map(|(_, change)| match change {
            Change::Appended { messages, .. } => messages.len(),
            Change::Ended { .. } | Change::Deleted { .. } => 0,
        });
        let messages = messages.sum();
        if took > SLOW_COMMIT {
            let duration_ms = took.as_millis();
            tracing::warn!(duration_ms, messages, "a transaction was slow to store");
        }
        self.metrics.committed(messages, took);
    }
}

/// What clients are told when the database refused a transaction.
const NOT_STORED: &str = "the database did not store it";

/// Waits until slow followers have taken their changes, for a while.
async fn wait_for(backlogs: Vec<Backlog>) {
    let deadline = Instant::now() + MAX_BACKLOG_WAIT;
    let waited = spawn_blocking(move || {
        for backlog in backlogs {
            backlog.wait(deadline.saturating_duration_since(Instant::now()));
        }
    });
    // It cannot panic, and is not aborted.
    let _ = waited.await;
}

/// Operations that become one transaction.
struct Group {
    operations: Vec<Operation>,
    replies: Vec<oneshot::Sender<Outcome>>,
}

impl Group {
    /// Takes all waiting commands, up to a size. A deletion has a transaction of its own, so that no
    /// operation on the same stream comes before or after it.
    fn collect(
        first: Command,
        commands: &mut mpsc::Receiver<Command>,
        left_over: &mut Option<Command>,
    ) -> Self {
        let mut bytes = first.size;
        let is_alone = first.is_deletion();
        let mut group = Self { operations: vec![first.operation], replies: vec![first.reply] };
        while !is_alone && bytes < MAX_GROUP_BYTES {
            let Ok(command) = commands.try_recv() else { break };
            if command.is_deletion() {
                *left_over = Some(command);
                break;
            }
            bytes += command.size;
            group.operations.push(command.operation);
            group.replies.push(command.reply);
        }
        group
    }
}

impl Command {
    fn is_deletion(&self) -> bool {
        matches!(self.operation, Operation::Delete { .. })
    }
}
