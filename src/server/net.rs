//! Connections: listening, TLS, HTTP/1.1 and HTTP/2.

pub(crate) mod accept;
mod connections;
mod http;
mod http2_streams;
mod listen;
pub(crate) mod redirect;
mod release;
mod service;
mod socket;
mod tls;
pub(crate) mod unread_body;

pub use self::listen::Listeners;
pub(crate) use self::{accept::ConnectionOptions, connections::Connections, listen::Addresses};
