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
//! - `server`: a verb a file
//!   - `router`: every route and layer on one screen
//!   - `supervisor`: what everything depends on must not die in silence
//!   - `telemetry`: the log; `telemetry/writer`: a bounded, lossy writer that never blocks
//!   - `listen`: the ports; `tls`: the certificate, and its successors
//!   - `serve`: connections: `serve/limit`, how many; `serve/http`, what is spoken, and how long it
//!     may take; `serve/chunked`, how much of an answer it holds; `serve/streams`, those of an HTTP/2
//!     connection; `serve/redirect`, plain HTTP beside TLS
//!   - `client`: who is on the other side
//!   - `host`: protection against DNS rebinding; `headers`: CORS, CSRF, security headers
//!   - `unread`, `encoding`: request bodies that were left unread, or that come compressed
//!   - `access`: who may do what; `access/token`: what says so
//!   - `limits`: limits per client: `limits/permits`, concurrency; `limits/rates`, rates;
//!     `limits/memory`: one memory budget for all
//!   - `body`: request bodies that are read as a whole; `answer`: answers that are not streams;
//!     `reserved_body`: what of them, and of streams, slow readers give up to others
//!   - `request`: a request as whoever runs the server sees it; `metrics`: what is counted
//!   - `log`: the durable log: its contract; `log/follow`: the changes of one stream; `log/sqlite`: its
//!     engine; for tests, `log/suite`, the contract, and `log/faulty`, an engine with faults
//!   - `hub`: the streams that are watched; `hub/follow` keeps `hub/tail`, the newest messages, encoded
//!     once; `hub/watcher`: a cursor that moves
//!   - `simulation`: for tests, hub and event streams over the engine with faults, on a paused clock
//!   - `cursor`: the one parser of cursors; `query`: no parameter is ignored
//!   - `events`: an SSE response
//!   - `frame`: the SSE encoder, pure
//!   - `publish`, `lines`, `end`, `delete`, `history`, `watch`: the interface of a stream
//!   - `pages`: what pages are rendered with, and their forms; the only place where the server meets
//!     the app
//!   - `counter`: the built-in stream, which is not stored
//! - `src/browser`: the crate that becomes the wasm
//! - `benches`: the server under load, beside a baseline
//!
//! # What never imports what
//!
//! `main → server → {app (pages only), feed, message}`; `app → {feed, message}`;
//! `feed → message`; `message →` nothing of ours; `problem` is a table for both sides. `web_sys`
//! stays inside `app::subscription` and `app::browser`, configuration inside `main` and `server`;
//! the log knows neither axum nor the hub, and nothing outside an engine knows its types. A test
//! holds this (`tests/it/architecture.rs`), and so do the two lines below, the only `cfg(feature)`
//! there is.

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
