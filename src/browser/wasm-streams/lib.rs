//! Stands in for the crate wasm-streams, which would be 3.4 kB of what a page loads.
//!
//! Leptos always brings it: its server functions can have bodies that are streams, and wasm-streams
//! exports to JavaScript what pulls them, which no linker may leave out. No server function of
//! Tidings streams (its streams are Server-Sent Events), so this has what `server_fn` names, and
//! nothing behind it. It goes when `server_fn` has a feature for it.

use futures_core::Stream;
use wasm_bindgen::JsValue;

/// The body of a server function that streams, which none of ours does.
#[derive(Debug)]
pub struct ReadableStream(web_sys::ReadableStream);

impl ReadableStream {
    /// A body that is sent as it comes.
    pub fn from_stream(_: impl Stream<Item = Result<JsValue, JsValue>> + 'static) -> Self {
        none_streams()
    }

    /// A body that is received as it comes.
    pub fn from_raw(raw: web_sys::ReadableStream) -> Self {
        Self(raw)
    }

    /// As JavaScript knows it.
    pub fn into_raw(self) -> web_sys::ReadableStream {
        self.0
    }

    /// What comes.
    pub fn into_stream(self) -> impl Stream<Item = Result<JsValue, JsValue>> + 'static {
        none_streams::<std::pin::Pin<Box<dyn Stream<Item = _>>>>()
    }
}

fn none_streams<T>() -> T {
    unreachable!("a server function streams: use wasm-streams itself (Cargo.toml)")
}
