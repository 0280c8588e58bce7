//! A stub that replaces the crate wasm-streams, which would add 3.4 kB to what a page loads.
//!
//! Leptos always depends on wasm-streams: its server functions can have streaming bodies, and the crate
//! exports functions for them to JavaScript, which the linker cannot remove. No server function of
//! Tidings streams (its streams are Server-Sent Events), so this stub has only the items that
//! `server_fn` names, without an implementation. Remove it when `server_fn` has a feature for streaming.

use futures_core::Stream;
use wasm_bindgen::JsValue;

/// The streaming body of a server function.
#[derive(Debug)]
pub struct ReadableStream(web_sys::ReadableStream);

impl ReadableStream {
    /// A request body from a Rust stream. Panics.
    pub fn from_stream(_: impl Stream<Item = Result<JsValue, JsValue>> + 'static) -> Self {
        unsupported()
    }

    /// A response body from the browser.
    pub fn from_raw(raw: web_sys::ReadableStream) -> Self {
        Self(raw)
    }

    /// The JavaScript object.
    pub fn into_raw(self) -> web_sys::ReadableStream {
        self.0
    }

    /// A Rust stream of the body. Panics.
    pub fn into_stream(self) -> impl Stream<Item = Result<JsValue, JsValue>> + 'static {
        unsupported::<std::pin::Pin<Box<dyn Stream<Item = _>>>>()
    }
}

fn unsupported<T>() -> T {
    unreachable!("a server function streams: replace this stub by wasm-streams (Cargo.toml)")
}
