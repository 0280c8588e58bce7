//! A stream alone, for a frame in a page of another site: its messages and its status.
//!
//! It has no form and no button that changes anything on the server, so that a page that covers the frame
//! cannot make a visitor publish (clickjacking). Links open in tabs of their own.

use leptos::prelude::*;

use super::{
    live::LiveStream, page_context, sign_in::sign_in_address, snapshot::LiveData, stream::stale,
    stream_address,
};
use crate::{
    base_path::BasePath,
    message::{Snapshot, StreamName},
};

const QUERY: &str = "?embed";

/// The address of a stream alone.
pub(super) fn embed_address(base: &BasePath, name: &StreamName) -> String {
    format!("{}{QUERY}", stream_address(base, name))
}

/// Whether an address leads to a stream alone.
pub(super) fn is_embed_address(address: &str) -> bool {
    let query = address.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair.split('=').next() == Some("embed"))
}

/// A stream: its newest messages, then live.
#[component]
pub fn EmbeddedStream(
    /// The stream.
    name: StreamName,
    /// The stream as one read found it.
    snapshot: Snapshot,
) -> impl IntoView {
    let base = page_context().base;
    let (page, address) = (stream_address(&base, &name), embed_address(&base, &name));
    // In the frame itself: a browser may keep a token for this frame alone.
    let sign_in = sign_in_address(&base, &address);
    let heading = name.to_string();
    let data = LiveData { snapshot, base, stream: Some(name), ..LiveData::default() };
    view! {
        <main class="stream stored embedded">
            <h1>
                <a href=page>{heading}</a>
            </h1>
            <noscript>
                <p class="notice">
                    "Without JavaScript this shows the messages there were when it was loaded."
                </p>
            </noscript>
            <p class="notice signed-out">
                "Your token has expired, or you have signed out. "
                <a href=sign_in target="_self">"Sign in"</a>
            </p>
            {stale()}
            <LiveStream data address target="_self" />
        </main>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_stream_alone_is_known_by_its_query() {
        for address in ["/streams/a?embed", "/t/streams/a?embed", "/streams/a?at=1-2&embed="] {
            assert!(is_embed_address(address), "{address}");
        }
        for address in
            ["/streams/embed", "/streams/a", "/streams/a?at=embed", "/streams/a?embedded"]
        {
            assert!(!is_embed_address(address), "{address}");
        }
    }
}
