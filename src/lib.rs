//! Tidings: a live message page anyone can run.
//!
//! The server speaks, the browsers listen, over Server-Sent Events. One sentence holds the design:
//! **a stream is a log; every reader is a cursor into it.** The rendered page, the live events
//! after it and the resume after a cut connection are the same operation: *give me what comes
//! after this cursor*.
//!
//! # The map, in reading order
//!
//! - [`message`]: what travels: ids, messages, and the snapshot a page is rendered with
//! - [`feed`]: what a page knows; applies events, bounded, pure
//! - [`problem`]: the refusals, a table
//! - [`app`]: the pages and the live island
//!   - [`app::snapshot`]: how a page carries what it was rendered with
//!   - [`app::connection`]: when to connect, to wait, to let go; pure
//!   - [`app::subscription`]: carries that out with an `EventSource`
//! - `server`: configuration, routes, streams
//!   - `router`: every route and layer on one screen; the only place where server meets app
//!   - `events`: an SSE response: cursor in, frames out
//!   - `frame`: the SSE encoder, pure
//!   - `counter`: the built-in stream
//! - `src/browser`: the crate that becomes the wasm
//!
//! # What never imports what
//!
//! `main → server → {app (router only), feed, message}`; `app → {feed, message}`;
//! `feed → message`; `message →` nothing of ours; `problem` is a table for both sides. `web_sys`
//! stays inside `app::subscription`, configuration inside `main` and `server`. A test holds this
//! (`tests/it/architecture.rs`), and so do the two lines below, the only `cfg(feature)` there is.

// A view's type is as deep as its markup.
#![recursion_limit = "256"]

pub mod app;
pub mod feed;
pub mod message;
pub mod problem;
#[cfg(feature = "ssr")]
pub mod server;

/// Brings the islands of a rendered page to life; the wasm's entry.
#[cfg(feature = "hydrate")]
pub fn hydrate() {
    leptos::mount::hydrate_islands();
}
