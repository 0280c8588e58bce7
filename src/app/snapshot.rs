//! The data that a page carries for hydration: the snapshot it was rendered with.
//!
//! It is JSON in a script element, parsed by the browser's `JSON.parse`, in place of island props: a
//! JSON parser would be a sixth of the wasm.

use js_sys::{Array, JSON, Reflect};
use leptos::prelude::*;
use serde::Serialize;
use wasm_bindgen::JsValue;

use super::Draft;
use crate::{
    base_path::BasePath,
    message::{EventId, Message, Snapshot, SnapshotMessage, StreamName},
};

const ELEMENT: &str = "snapshot";

/// The data of the live part of a page.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LiveData {
    /// The stream as one read found it.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// Begins every address of the page.
    #[serde(skip_serializing_if = "BasePath::is_root")]
    pub base: BasePath,
    /// The name of the stream, where there is a form to publish to it.
    pub stream: Option<StreamName>,
    /// The refused text, when the composer was used without JavaScript.
    pub draft: Option<Draft>,
}

/// The element that carries the data as JSON.
pub(super) fn element(data: &LiveData) -> impl IntoView + use<> {
    // Only "<" needs escaping in a script element. Serializing this data does not fail.
    let json = serde_json::to_string(data).unwrap_or_default().replace('<', "\\u003c");
    view! { <script id=ELEMENT type="application/json" inner_html=json></script> }
}

/// The data of this page: on the server from the context, in the browser from its element.
pub(super) fn live_data() -> LiveData {
    use_context().or_else(read).unwrap_or_default()
}

fn read() -> Option<LiveData> {
    let json = document().get_element_by_id(ELEMENT)?.text_content()?;
    let value = JSON::parse(&json).ok()?;
    let text = |name| field(&value, name)?.as_string();
    let mut pages = Vec::new();
    for page in Array::from(&field(&value, "pages")?).iter() {
        pages.push(page.as_string()?);
    }
    let snapshot = Snapshot {
        events: text("events")?,
        cursor: text("cursor").and_then(|id| id.parse().ok()),
        pages,
        messages: messages(&value)?,
        older: field(&value, "older")?.is_truthy(),
    };
    let draft = field(&value, "draft").filter(JsValue::is_object);
    // The server has already put the text into the form.
    let problem = draft.and_then(|draft| field(&draft, "problem")?.as_string());
    Some(LiveData {
        snapshot,
        base: text("base").map(BasePath::of_page).unwrap_or_default(),
        stream: text("stream").and_then(|name| name.parse().ok()),
        draft: problem.map(|problem| Draft { text: String::new(), problem }),
    })
}

/// Reads a page of history from JSON: its messages, and the cursor of the next page.
pub(super) fn history_page(value: &JsValue) -> Option<(Vec<SnapshotMessage>, Option<EventId>)> {
    let next = field(value, "next")?.as_string().and_then(|id| id.parse().ok());
    Some((messages(value)?, next))
}

fn messages(value: &JsValue) -> Option<Vec<SnapshotMessage>> {
    let mut messages = Vec::new();
    for value in Array::from(&field(value, "messages")?).iter() {
        messages.push(snapshot_message(&value)?);
    }
    Some(messages)
}

fn snapshot_message(value: &JsValue) -> Option<SnapshotMessage> {
    let id: EventId = field(value, "id")?.as_string()?.parse().ok()?;
    let message = Message { id, data: field(value, "data")?.as_string()? };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 15")]
    let stream = field(value, "stream")?.as_f64().unwrap_or_default() as usize;
    Some(SnapshotMessage { message, stream, end: field(value, "end")?.is_truthy() })
}

fn field(value: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(value, &name.into()).ok()
}
