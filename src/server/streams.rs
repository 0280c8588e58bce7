//! The streams: the log that keeps them, and those of them that are watched.

use super::{
    clock::Clock,
    config::Config,
    hub::Hub,
    log::{Limits, Log},
};

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
            streams: config.max_streams,
        };
        let hub = Hub::default();
        let observer = {
            let hub = hub.clone();
            move |change| hub.take(change)
        };
        let log = Log::open(config.data.clone(), limits, clock, observer).await?;
        Ok(Self { log, hub })
    }
}
