//! Tidings: a live message page anyone can run.
//!
//! The server speaks, the browsers listen, over Server-Sent Events. One sentence holds the design:
//! **a stream is a log; every reader is a cursor into it.** The rendered page, the live events
//! after it and the resume after a cut connection are the same operation: *give me what comes
//! after this cursor*.
//!
//! # The map, in reading order
//!
//! - [`message`]: what travels: names, ids, messages, and the snapshot a page is rendered with
//! - [`feed`]: what a page knows; applies events, bounded, pure
//! - [`problem`]: the refusals, a table
//! - [`app`]: the pages, the live island, the composer
//!   - [`app::snapshot`]: how a page carries what it was rendered with
//!   - [`app::loader`]: brings the islands to life, and says so where it cannot
//!   - [`app::connection`]: when to connect, to wait, to let go; pure
//!   - [`app::subscription`]: carries that out with an `EventSource`
//! - `server`: the server, in rooms; `router` has every route and layer on one screen, `state` what
//!   the handlers share
//!   - `server/api`: the HTTP interface, an endpoint a file: `publish`, `lines`, `end`, `delete`,
//!     `history`, `watch`, `counter`, `health`; and what they share: `cursor`, `query`, `body`,
//!     `idempotency`, `content_encoding`, `response`
//!   - `server/pages`: what pages are rendered with, and their forms; the only room that knows the app
//!   - `server/sse`: Server-Sent Events: `frame`, the encoder; `response`, the body of an event stream
//!   - `server/hub`: the streams that are watched: `follow` keeps `tail`, the newest messages, encoded
//!     once; `watcher` is a cursor that moves
//!   - `server/log`: the durable log: its contract; `follow`: the changes of one stream; `sqlite`: its
//!     engine; for tests `suite`, the contract, and `faulty`, an engine with faults
//!   - `server/guard`: access control and limits: `access`, `token`, `cookie`; `permits`, concurrency;
//!     `rates`, rate limits; `memory`, one budget for all; `cors`, `cross_site` (CSRF),
//!     `allowed_hosts` (DNS rebinding), `security_headers`
//!   - `server/net`: connections: `listen`, `tls`, `accept`, `http`, `http2_streams`, `redirect`,
//!     `unread_body`
//!   - `server/observe`: what an operator sees: `logging`, `request_log`, `metrics`
//!   - `server/config`: the options, whose docs are the manual
//!   - `supervisor`: a task or thread that everything depends on ends the process when it ends;
//!     `shutdown`: graceful shutdown as a value; `error`: refusals as problems (RFC 9457); `client`: the
//!     address a request comes from
//!   - `simulation`: for tests, hub and event streams over the engine with faults, on a paused clock
//! - `src/browser`: the crate that becomes the wasm
//! - `benches`: the server under load, beside a baseline
//!
//! # What never imports what
//!
//! `main → server → {app (pages only), feed, message}`; `app → {feed, message}`;
//! `feed → message`; `message →` nothing of ours; `problem` is a table for both sides. No two modules
//! import each other, and each room of the server imports only those below it, in the order of `ROOMS`
//! in the test: `config` is at the top, imported only by what assembles the server. `web_sys` stays
//! inside `app::subscription` and `app::browser`; the log knows neither axum nor the hub, and nothing
//! outside an engine knows its types. A test holds this (`tests/it/architecture.rs`), and so do the two
//! lines below, the only `cfg(feature)` there is.

// A view's type is as deep as its markup.
#![recursion_limit = "256"]
// The printing macros panic where standard output or error is gone: the server logs instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod feed;
pub mod message;
pub mod problem;
#[cfg(feature = "ssr")]
pub mod server;

/// Brings the islands of a rendered page to life; the wasm's entry.
#[cfg(feature = "hydrate")]
pub fn hydrate() {
    use any_spawner::Executor;
    use leptos::reactive::owner::Owner;

    // What `leptos::mount::hydrate_islands` does, but for the context in which a page carries
    // resources and errors (and which islands with children need): ours carries a snapshot, and reading
    // the rest weighs 1.4 kB.
    // An executor that has been set before is as good.
    let _ = Executor::init_wasm_bindgen();
    let owner = Owner::new_root(None);
    owner.set();
    std::mem::forget(owner);
}
