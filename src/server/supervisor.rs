//! Supervision: the failure of an essential task or thread ends the process.
//!
//! Without its log writer or its fan-out, a server would still answer requests, but store or deliver
//! nothing. So when one of them panics or returns, [`run`] returns the failure: the process logs it
//! and exits with a failure status, and the service manager restarts it.
//!
//! [`run`]: super::Server::run

use std::{any::Any, fmt, future::Future, io, panic::AssertUnwindSafe, sync::Arc, thread};

use futures::FutureExt as _;
use tokio::{sync::watch, task::JoinHandle};

use super::shutdown::Shutdown;

/// Runs essential tasks and threads; a cheap clone.
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// After it has begun, tasks and threads may return.
    shutdown: Shutdown,
    /// The first failure.
    failure: Arc<watch::Sender<Option<Failure>>>,
}

/// An essential task or thread has panicked, returned early, or did not stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The task or thread.
    name: &'static str,
    cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    Panicked(String),
    Returned,
    DidNotStop,
}

impl Supervisor {
    /// A supervisor whose tasks and threads must run until `shutdown` begins.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, failure: Arc::new(watch::Sender::new(None)) }
    }

    /// Spawns a task. It may return once the shutdown has begun.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let supervisor = self.clone();
        tokio::spawn(async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            supervisor.record_end(name, ended);
        });
    }

    /// Spawns a task that may return or be aborted: only a panic is a failure.
    pub(crate) fn spawn_abortable(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let supervisor = self.clone();
        tokio::spawn(async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            if ended.is_err() {
                supervisor.record_end(name, ended);
            }
        })
    }

    /// Starts a thread. It may return once the shutdown has begun.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub(crate) fn spawn_thread(
        &self,
        name: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<thread::JoinHandle<()>> {
        let supervisor = self.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let ended = std::panic::catch_unwind(AssertUnwindSafe(run));
            supervisor.record_end(name, ended);
        })
    }

    fn record_end(&self, name: &'static str, ended: thread::Result<()>) {
        let cause = match ended {
            Ok(()) if self.shutdown.has_begun() => return,
            Ok(()) => Cause::Returned,
            Err(panic) => Cause::Panicked(panic_message(&*panic)),
        };
        self.failure.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(Failure { name, cause });
            is_first
        });
    }

    /// Waits for the first failure.
    pub(crate) async fn wait_for_failure(&self) -> Failure {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await.map(|failure| failure.clone());
        match failed {
            Ok(Some(failure)) => failure,
            // Unreachable: `self` holds the sender, and the value is `Some`.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// The first failure, if there was one.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.borrow().clone()
    }
}

impl Failure {
    /// The failure of a task or thread that did not stop in time.
    pub(crate) fn did_not_stop(name: &'static str) -> Self {
        Self { name, cause: Cause::DidNotStop }
    }
}

/// Runs a part of [`Server::run`](super::Server::run) in place.
///
/// # Errors
/// When it panics.
pub(crate) async fn supervised<T>(
    name: &'static str,
    part: impl Future<Output = T>,
) -> Result<T, Failure> {
    let ended = AssertUnwindSafe(part).catch_unwind().await;
    ended.map_err(|panic| Failure { name, cause: Cause::Panicked(panic_message(&*panic)) })
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("with a payload that is not text").to_owned()
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, cause } = self;
        match cause {
            Cause::Panicked(message) => write!(formatter, "the {name} panicked: {message}"),
            Cause::Returned => write!(formatter, "the {name} ended unexpectedly"),
            Cause::DidNotStop => write!(formatter, "the {name} did not stop in time"),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor() -> (Supervisor, Shutdown) {
        let shutdown = Shutdown::default();
        (Supervisor::new(shutdown.clone()), shutdown)
    }

    #[tokio::test]
    async fn a_task_that_ends_is_a_failure() {
        let (supervisor, _) = supervisor();
        supervisor.spawn("fan-out", std::future::pending());
        assert_eq!(supervisor.failure(), None);
        supervisor.spawn("sweeper", async { panic!("no {}", "room") });
        let failure = supervisor.wait_for_failure().await;
        assert_eq!(failure.to_string(), "the sweeper panicked: no room");
        supervisor.spawn("fan-out", async {});
        tokio::task::yield_now().await;
        assert_eq!(supervisor.failure(), Some(failure), "the first one is the cause");
    }

    #[tokio::test]
    async fn a_task_that_returns_is_a_failure_until_the_shutdown() {
        let (supervisor, _) = supervisor();
        supervisor.spawn("fan-out", async {});
        let failure = supervisor.wait_for_failure().await;
        assert_eq!(failure.to_string(), "the fan-out ended unexpectedly");
    }

    #[tokio::test]
    async fn a_thread_that_ends_is_a_failure() {
        let (first, _) = supervisor();
        first.spawn_thread("log writer", || panic!("poisoned")).expect("a thread");
        assert_eq!(first.wait_for_failure().await.to_string(), "the log writer panicked: poisoned");
        let (second, _) = supervisor();
        second.spawn_thread("log writer", || {}).expect("a thread");
        let failure = second.wait_for_failure().await;
        assert_eq!(failure.to_string(), "the log writer ended unexpectedly");
    }

    #[tokio::test]
    async fn once_the_shutdown_has_begun_only_a_panic_is_a_failure() {
        let (supervisor, shutdown) = supervisor();
        shutdown.begin();
        supervisor.spawn_thread("log writer", || {}).expect("a thread").join().expect("caught");
        assert_eq!(supervisor.failure(), None);
        supervisor
            .spawn_thread("log writer", || panic!("late"))
            .expect("a thread")
            .join()
            .expect("caught");
        assert_eq!(
            supervisor.wait_for_failure().await.to_string(),
            "the log writer panicked: late"
        );
    }

    #[tokio::test]
    async fn a_part_that_panics_is_a_failure() {
        let failed = supervised("accept loop", async { panic!("no sockets") }).await;
        let failed: Result<(), _> = failed;
        assert_eq!(failed.expect_err("it did").to_string(), "the accept loop panicked: no sockets");
        assert_eq!(supervised("accept loop", async { 7 }).await, Ok(7));
    }
}
