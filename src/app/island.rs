//! Detecting changed islands before hydration.
//!
//! Hydration walks the page in order and assumes that every element is the expected one. If an
//! extension, a translator or a proxy has added or removed an element, signals are bound to the wrong
//! elements. So each island carries its number of nodes, and the page's script (`loader.js`) counts
//! them before hydration. (Elements that were replaced one for one may be detected by its heartbeat.)

use leptos::{prelude::*, tachys::html::InertElement};

/// Renders an island with `data-nodes`, the number of its elements and comments. The island must have
/// no text and no comment at its top level. Text nodes are not counted, because hydration never confuses
/// them with other nodes.
pub(super) fn counted(island: impl IntoView) -> impl IntoView {
    const ISLAND: &str = "<leptos-island ";
    let html = island.into_view().to_html();
    // "<" is always escaped in texts and attributes.
    let tags = html.matches('<').count() - html.matches("</").count();
    let nodes = tags.saturating_sub(1);
    InertElement::new(html.replacen(ISLAND, &format!("{ISLAND}data-nodes=\"{nodes}\" "), 1))
}
