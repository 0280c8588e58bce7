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
    batch::{self, GroupError, GroupId, GroupResult, NO_STANDBY, Operation, Outcome, Terms},
    durability::{Durability, NotReplicated},
    feed::Feed,
    health::Health,
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
/// How long a session may take to begin once it is connected.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a session may wait for the end of the one before it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(12);
/// How long the plans of statements are kept: they may be from the time when the tables were small.
const PLAN_LIFETIME: Duration = Duration::from_mins(1);
/// After how long without a command the writer commits nothing: a primary that was replaced accepts
/// sessions, and cannot commit.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
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
    /// A command that was received and not tried yet.
    pub(super) left_over: Option<Command>,
    /// Whether the database refused the last group.
    pub(super) was_refused: bool,
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
    /// The number of the last group of this server that was stored; none where the database does not
    /// know this server, or has forgotten it.
    recorded: Option<i64>,
    /// When cached plans were discarded.
    planned_at: Instant,
}

impl WriteSession {
    /// Begins a session, once the one before it has ended.
    ///
    /// # Errors
    /// When the database cannot be reached, or is less durable than required.
    pub(super) async fn begin(connector: &Connector, group: GroupId) -> anyhow::Result<Self> {
        let max = connector.max_connect_time() + BEGIN_TIMEOUT;
        timeout(max, Self::try_begin(connector, group)).await.unwrap_or_else(|_| {
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
        session.detect_lost_client().await;
        Durability::of(client).await?.check(connector.options())?;
        // It is free when the session before this one has ended. That one is not terminated: if it waits
        // for the standby, its transaction would become visible without being replicated.
        let lock = "SELECT pg_advisory_lock($1)";
        timeout(LOCK_TIMEOUT, client.execute(lock, &[&group.server]))
            .await
            .map_err(|_| anyhow!("the session before this one has not ended"))??;
        client.batch_execute("SET lock_timeout = 8000").await?;
        // A server that has lost all of its sessions must not write during a copy.
        let lock = "SELECT pg_try_advisory_xact_lock_shared($1)";
        let is_free: bool = client.query_one(lock, &[&COPY_LOCK]).await?.try_get(0)?;
        ensure!(is_free, "`tidings copy` uses the database");
        let select = "SELECT group_number FROM tidings.servers WHERE server = $1";
        let row = client.query_opt(select, &[&group.server]).await?;
        let recorded: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
        // What was read may not be replicated yet. Once this is, so is everything before it.
        let warnings = session.warnings();
        client.execute(RECORD_GROUP, &[&group.server, &recorded.unwrap_or(0)]).await?;
        if session.warnings() != warnings {
            bail!("the database does not replicate");
        }
        let statements = Statements::prepare(&session).await?;
        Ok(Self { session, statements, recorded, planned_at: Instant::now() })
    }
}

/// Transactions wait for row locks of other servers, and for the standby. Those that are idle, because
/// this server hangs, give up their locks.
const SETTINGS: &str = "
    SET client_min_messages = warning;
    SET statement_timeout = 0;
    SET lock_timeout = 0;
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
        // A database that refuses each group is not asked without a pause.
        let mut pause = if self.was_refused { RETRY_PAUSE } else { Duration::ZERO };
        let mut logged = String::new();
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
                    command = next_command(&mut self.left_over, commands), if is_refusing => {
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
                    let error_text = format!("{error:#}");
                    if error_text != logged {
                        tracing::error!(error = error_text, "the database cannot be written");
                        logged = error_text;
                    }
                    let is_standby_missing = error.is::<NotReplicated>();
                    let reason = if is_standby_missing { NO_STANDBY } else { UNREACHABLE };
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
    async fn resolve(&mut self, recorded: Option<i64>) {
        if recorded.is_some_and(|recorded| recorded < self.stored) {
            tracing::error!(
                recorded,
                acknowledged = self.stored,
                "the database lacks messages that were acknowledged: it was restored from a copy, or \
                 a standby was promoted that had not received them"
            );
        }
        let recorded = recorded.unwrap_or(0);
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
        wait_for(self.feed.deliver(result.changes)).await;
    }

    /// Writes groups until the session is lost, or the log is closed.
    async fn write_groups(
        &mut self,
        mut session: WriteSession,
        commands: &mut mpsc::Receiver<Command>,
    ) -> ControlFlow<()> {
        loop {
            let next = tokio::select! {
                next = next_command(&mut self.left_over, commands) => next,
                // The next session begins before a publisher needs it.
                () = session.session.closed() => return ControlFlow::Continue(()),
                () = sleep(HEARTBEAT_INTERVAL) => Some(Command::heartbeat()),
            };
            let Some(first) = next else { return ControlFlow::Break(()) };
            if !session.session.is_current() {
                self.left_over = Some(first);
                return ControlFlow::Continue(());
            }
            let group = Group::collect(first, commands, &mut self.left_over);
            if !self.write_group(&mut session, group).await {
                return ControlFlow::Continue(());
            }
        }
    }

    /// Writes a group; returns whether the session can be used further.
    async fn write_group(&mut self, session: &mut WriteSession, group: Group) -> bool {
        let WriteSession { session, statements, planned_at, .. } = session;
        if planned_at.elapsed() > PLAN_LIFETIME {
            *planned_at = Instant::now();
            // An error shows in the transaction.
            let _ =
                timeout(TRANSACTION_TIMEOUT, session.client.batch_execute("DISCARD PLANS")).await;
        }
        let begun = Instant::now();
        let Group { mut operations, replies } = group;
        self.group += 1;
        let id = self.group_id();
        let terms = Terms {
            limits: self.limits,
            needs_standby: self.connector.options().require_synchronous_standby,
            deadline: Instant::now() + TRANSACTION_TIMEOUT,
        };
        let mut retries = 0;
        let written = loop {
            // Boxed, because it is large.
            let run = Box::pin(batch::run(session, statements, id, operations, terms));
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
                self.was_refused = false;
                self.record_metrics(&result.changes, begun.elapsed());
                let is_lost = result.is_lost;
                self.acknowledge(result, replies).await;
                return !is_lost;
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
        let reason = if error == NO_STANDBY { NO_STANDBY } else { NOT_STORED };
        self.health.set(Some(reason.into()));
        self.was_refused = true;
        for reply in replies {
            let _ = reply.send(Err(AppendError::Unavailable(reason.into())));
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

/// The command that was received before, else the next one.
async fn next_command(
    left_over: &mut Option<Command>,
    commands: &mut mpsc::Receiver<Command>,
) -> Option<Command> {
    if left_over.is_some() { left_over.take() } else { commands.recv().await }
}

/// Waits until slow followers have taken their changes, for a while: back-pressure.
pub(super) async fn wait_for(backlogs: Vec<Backlog>) {
    if backlogs.is_empty() {
        return;
    }
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
    /// Nobody waits for its outcome.
    fn heartbeat() -> Self {
        Self { operation: Operation::Confirm, size: 0, reply: oneshot::channel().0 }
    }

    fn is_deletion(&self) -> bool {
        matches!(self.operation, Operation::Delete { .. })
    }
}
