//! How a page carries the snapshot it was rendered with.
//!
//! As JSON in an element of its own, which the browser's parser reads, and not as the island's
//! props: a JSON parser in the wasm would be a sixth of it.

use js_sys::{Array, JSON, Reflect};
use leptos::prelude::*;
use serde::Serialize;
use wasm_bindgen::JsValue;

use super::Draft;
use crate::message::{EventId, Message, Snapshot, StreamName};

const ELEMENT: &str = "snapshot";

/// What the live part of a page is given.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LiveData {
    /// The stream as one read found it.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// The stream's name, where its messages are stored.
    pub stream: Option<StreamName>,
    /// Whether there is a form to add to them.
    pub composer: bool,
    /// What was refused when the composer was used without JavaScript.
    pub draft: Option<Draft>,
}

/// The element that carries what the live part is given.
pub(super) fn element(given: &LiveData) -> impl IntoView + use<> {
    // In a script only "<" could mean anything to HTML. A snapshot of ours always serializes.
    let json = serde_json::to_string(given).unwrap_or_default().replace('<', "\\u003c");
    view! { <script id=ELEMENT type="application/json" inner_html=json></script> }
}

/// What this page was given: at hand where it is rendered, else read from its element.
pub(super) fn given() -> LiveData {
    use_context().or_else(read).unwrap_or_default()
}

fn read() -> Option<LiveData> {
    let json = document().get_element_by_id(ELEMENT)?.text_content()?;
    let value = JSON::parse(&json).ok()?;
    let text = |name| field(&value, name)?.as_string();
    let snapshot = Snapshot {
        events: text("events")?,
        messages: messages(&value)?,
        older: field(&value, "older")?.is_truthy(),
        end: field(&value, "end").and_then(|value| message(&value)),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an hour at most"
        )]
        pace: field(&value, "pace")?.as_f64()? as u64,
    };
    let draft = field(&value, "draft").filter(JsValue::is_object);
    // What was written is in the form already.
    let problem = draft.and_then(|draft| field(&draft, "problem")?.as_string());
    Some(LiveData {
        snapshot,
        stream: text("stream").and_then(|name| name.parse().ok()),
        composer: field(&value, "composer")?.is_truthy(),
        draft: problem.map(|problem| Draft { text: String::new(), problem }),
    })
}

/// A page of history, as JSON: its messages, and where the next one begins.
pub(super) fn page(value: &JsValue) -> Option<(Vec<Message>, Option<EventId>)> {
    let next = field(value, "next")?.as_string().and_then(|id| id.parse().ok());
    Some((messages(value)?, next))
}

fn messages(value: &JsValue) -> Option<Vec<Message>> {
    Array::from(&field(value, "messages")?).iter().map(|value| message(&value)).collect()
}

fn message(value: &JsValue) -> Option<Message> {
    let id: EventId = field(value, "id")?.as_string()?.parse().ok()?;
    Some(Message { id, data: field(value, "data")?.as_string()? })
}

fn field(value: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(value, &name.into()).ok()
}
