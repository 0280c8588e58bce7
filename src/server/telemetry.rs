//! The log.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

use super::config::{Config, LogFormat};

/// Begins to log as configured, on standard error: standard output says where the server is.
pub fn init(config: &Config) {
    let subscriber = tracing_subscriber::fmt()
        // What a library says of its work is not news of ours.
        .with_env_filter(EnvFilter::new(format!("rusqlite_migration=warn,{}", config.log.0)))
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr);
    match config.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
}
