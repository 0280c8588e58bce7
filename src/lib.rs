//! Tidings: a live message page. Publish a message with one `curl`, and every browser that has the page
//! open shows it at once, over Server-Sent Events (SSE).
//!
//! One sentence holds the design: **a stream is a log; every reader is a cursor into it.** The rendered
//! page, the live events after it, the resume after a cut connection, the slow reader and the restarted
//! server are the same operation: *give me what comes after this cursor*.
//! `docs/how-it-works.md` in the repository follows one message from `curl` to the screen.
//!
//! # The map, in reading order
//!
//! - [`base_path`]: the path from which every address of a server begins
//! - [`message`]: messages, event ids, stream names, and the snapshot that a page is rendered with
//! - [`escapes`]: ANSI escape sequences in a text; [`filter`]: which texts a reader is looking for
//! - [`feed`]: the rows of a page: applies events; bounded and pure
//! - [`problem`]: the table of problem types (RFC 9457)
//! - [`app`]: the pages: routes, documents, the live island, the composer
//!   - `app::row`: the HTML of a line of a log, by one function on both sides; `app::rich`: its text, with
//!     the colours of `app::ansi` and the links of `app::links`; `app::json`: folded JSON; [`app::view`]:
//!     whether it is set as a log
//!   - [`app::snapshot`]: the JSON element in which a page carries its snapshot
//!   - [`app::loader`]: the scripts of a page: `loader.js` hydrates the islands, and recovers where that
//!     fails; `page.js` does what works without the wasm; `stream_list.js` shows the live list of the streams
//!   - [`app::connection`]: when to connect, back off and disconnect; pure
//!   - [`app::subscription`]: carries that out with an `EventSource`
//! - `server`: the server, in rooms
//!   - `router`: every route and layer on one screen; `state`: what the handlers share;
//!     `mount`: all of it below a base path
//!   - `api`: the HTTP interface, an endpoint a file: `publish`, `lines`, `end`, `delete`, `history`,
//!     `watch`, `streams`, `counter`, `health`; `syndication`, feeds; `ntfy`, publishing as to an ntfy server;
//!     `webhook`, a line about a payload of another program; and what they share: `publishing`,
//!     `notification`, `cursor`, `query`, `body`, `search`, `idempotency`, `json_object`, `one_line`,
//!     `content_encoding`, `response`
//!   - `openapi`: the description of the HTTP interface: its operations by what they are for, `operation` to
//!     describe one, `problems`, `parameters` and `schemas` that they share
//!   - `pages`: loading and rendering pages, their forms, the files of the site; the only room that
//!     knows the app
//!   - `sse`: Server-Sent Events: `frame`, the encoder; `response`, the body of an event stream
//!   - `hub`: the watched streams: `follow` keeps `tail`, the newest messages of a watched stream, encoded once;
//!     `watcher` is a cursor that moves, `live` one that has caught up; `merge` watches several streams for one reader
//!   - `fan_out`: writes the messages of a stream to the sockets of its watchers, without hyper: `group`,
//!     many that have caught up; `catch_up`, one that has not; `connection`, its socket
//!   - `stream_list`: the live list of the streams: a state with versions, compared with the log once for
//!     all readers
//!   - `log`: the durable log: its contract; `follow`: the changes of one stream; `sqlite`, `postgres`: the
//!     engines; `copy`: from one to the other; for tests `suite`, the contract as tests, and `faulty`, an
//!     engine with faults
//!   - `guard`: access control and limits: `access`, `token`, `cookie`, `webhook` (signatures); `permits`
//!     (concurrency limits), `rates` (rate limits), `memory` (one memory budget); `cors`, `cross_site`
//!     (CSRF), `allowed_hosts` (DNS rebinding), `security_headers`
//!   - `net`: connections: `listen`, `accept`, `tls`, `http`, `service`, `release` (to `fan_out`), `http2_streams`,
//!     `redirect`, `unread_body`
//!   - `observe`: `logging`, `request_log`, `metrics`
//!   - `config`: the options, whose docs are the manual
//!   - `supervisor`: ends the process when a task or thread ends that everything depends on;
//!     `shutdown`: graceful shutdown as a value; `error`: problem responses; `client`: the address of a
//!     client, also behind proxies; `streams`: the log and the hub, opened together
//!   - `simulation`: for tests: the hub and event streams over the engine with faults, on a paused clock
//! - `src/main.rs`, `command_line`, `manual`: the program: the server, or a subcommand
//! - `src/terminal`: `tidings publish` and `tidings watch`, clients of the HTTP interface; part of the
//!   program and not of this library
//! - `src/browser`: the crate that becomes the wasm
//! - `benches`: the server under load, beside a baseline
//!
//! # What never imports what
//!
//! `main → {server, terminal}`; `server → {app (pages only), feed, message}`; `app → {feed, message}`;
//! `{feed, terminal} → message`; `{filter, terminal} → escapes`; `message` and `escapes →` nothing of ours; these, `base_path` and
//! `problem` are for both sides. No two modules import each other, and each room of the server imports only
//! those below it, in the order of `LAYERS` in the test: `config` is near the top, imported only by what
//! assembles the server. `web_sys` stays inside `app::subscription` and `app::browser`; the log knows
//! neither axum nor the hub, and nothing outside an engine knows its types. A test holds this
//! (`tests/it/architecture.rs`), and so do the two lines below, the only `cfg(feature)` there is.

// A view's type is as deep as its markup.
#![recursion_limit = "256"]
// The printing macros panic where standard output or error is gone: the server logs instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod base_path;
pub mod escapes;
pub mod feed;
pub mod filter;
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
