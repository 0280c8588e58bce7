//! Islands that know what they were sent as.
//!
//! Hydration walks the page as the server wrote it, and takes any element for the one it expects: one
//! more or less, put there by an extension, a translator or a proxy, and signals are bound to the wrong
//! elements. So each island says how many nodes it has, and the page's script (`loader.js`) counts
//! them before it lets the wasm near. (What is replaced one for one, its heartbeat may find.)

use leptos::{prelude::*, tachys::html::InertElement};

/// Renders an island that has no text and no comment at its top, with the number of its nodes:
/// elements and comments, since texts are never taken for anything else.
pub(super) fn counted(island: impl IntoView) -> impl IntoView {
    const ISLAND: &str = "<leptos-island ";
    let html = island.into_view().to_html();
    // In a text or an attribute "<" is always escaped.
    let tags = html.matches('<').count() - html.matches("</").count();
    let nodes = tags.saturating_sub(1);
    InertElement::new(html.replacen(ISLAND, &format!("{ISLAND}data-nodes=\"{nodes}\" "), 1))
}
