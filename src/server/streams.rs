//! The streams: the log that keeps them, and those of them that are watched.

use tokio::sync::mpsc;

use super::{
    clock::Clock,
    config::Config,
    hub::Hub,
    log::{Limits, Log},
};

/// How many changes may wait for the fan-out.
const WAITING: usize = 64;

/// Log and hub together; what one stores, the other is told.
#[derive(Clone, Debug)]
pub struct Streams {
    pub(super) log: Log,
    pub(super) hub: Hub,
}

impl Streams {
    /// Opens the store that the configuration names. Ids are dated by `clock`.
    ///
    /// # Errors
    /// When the store can not be opened; says why.
    pub async fn open(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        let limits = Limits {
            messages: config.keep_messages,
            age: config.keep_age.0,
            bytes: config.keep_bytes.0,
            streams: config.limits.max_streams,
        };
        let hub = Hub::default();
        let (sender, mut changes) = mpsc::channel(WAITING);
        // A task wakes tasks more cheaply than a thread does.
        let fan_out = hub.clone();
        tokio::spawn(async move {
            while let Some(change) = changes.recv().await {
                fan_out.take(change);
            }
        });
        // Who publishes faster than the watchers can be woken waits for them.
        let observer = move |change| drop(sender.blocking_send(change));
        let log = Log::open(config.data.clone(), limits, clock, observer).await?;
        Ok(Self { log, hub })
    }
}
