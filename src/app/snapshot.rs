//! How a page carries the snapshot it was rendered with.
//!
//! As JSON in an element of its own, which the browser's parser reads, and not as the island's
//! props: a JSON parser in the wasm would be a sixth of it.

use js_sys::{Array, JSON, Reflect};
use leptos::prelude::*;
use wasm_bindgen::JsValue;

use crate::message::{EventId, Message, Snapshot};

const ELEMENT: &str = "snapshot";

/// The element that carries a snapshot.
pub(super) fn element(snapshot: &Snapshot) -> impl IntoView + use<> {
    // In a script only "<" could mean anything to HTML. A snapshot of ours always serializes.
    let json = serde_json::to_string(snapshot).unwrap_or_default().replace('<', "\\u003c");
    view! { <script id=ELEMENT type="application/json" inner_html=json></script> }
}

/// The snapshot of this page: at hand where it is rendered, else read from its element.
pub(super) fn snapshot() -> Snapshot {
    use_context().or_else(read).unwrap_or_default()
}

fn read() -> Option<Snapshot> {
    let json = document().get_element_by_id(ELEMENT)?.text_content()?;
    let value = JSON::parse(&json).ok()?;
    let messages = Array::from(&field(&value, "messages")?);
    Some(Snapshot {
        events: field(&value, "events")?.as_string()?,
        messages: messages.iter().map(|value| message(&value)).collect::<Option<_>>()?,
        end: field(&value, "end").and_then(|value| message(&value)),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an hour at most"
        )]
        pace: field(&value, "pace")?.as_f64()? as u64,
    })
}

fn message(value: &JsValue) -> Option<Message> {
    let id: EventId = field(value, "id")?.as_string()?.parse().ok()?;
    Some(Message { id, data: field(value, "data")?.as_string()? })
}

fn field(value: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(value, &name.into()).ok()
}
