//! The HTTP API of streams: one file per endpoint, and what the endpoints share.

pub(crate) mod accepted;
pub(crate) mod body;
pub(crate) mod content_encoding;
pub(crate) mod counter;
pub(crate) mod cursor;
pub(crate) mod delete;
pub(crate) mod end;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod idempotency;
mod json_object;
pub(crate) mod lines;
pub(crate) mod notification;
pub(crate) mod ntfy;
mod one_line;
pub(crate) mod publish;
pub(crate) mod publishing;
mod query;
pub(crate) mod response;
pub(crate) mod search;
pub(crate) mod streams;
pub(crate) mod syndication;
pub(crate) mod watch;
pub(crate) mod webhook;
