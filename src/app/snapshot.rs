//! The data that a page carries for hydration: the snapshot it was rendered with.
//!
//! It is JSON in a script element, parsed by the browser's `JSON.parse`, in place of island props: a
//! JSON parser would be a sixth of the wasm.

use js_sys::{Array, JSON, Reflect};
use leptos::prelude::*;
use serde::Serialize;
use wasm_bindgen::JsValue;

use super::{Draft, stream_address};
use crate::{
    base_path::BasePath,
    message::{EventId, MergedMessage, Message, Snapshot, StreamName},
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
    /// The name of the stream, if it is a single one and its messages are stored.
    pub stream: Option<StreamName>,
    /// Whether there is a form to publish messages.
    pub composer: bool,
    /// The refused text, when the composer was used without JavaScript.
    pub draft: Option<Draft>,
}

impl LiveData {
    /// The address of the page of each stream, where its messages are stored.
    pub(super) fn pages(&self) -> Vec<String> {
        let names = self.stream.as_ref().map_or(self.snapshot.names.as_str(), StreamName::as_str);
        let mut pages = Vec::new();
        for name in names.split(',').filter(|name| !name.is_empty()) {
            pages.push(stream_address(&self.base, name));
        }
        pages
    }
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
    let snapshot = Snapshot {
        events: text("events")?,
        cursor: text("cursor").and_then(|id| id.parse().ok()),
        messages: messages(&value)?,
        older: field(&value, "older")?.is_truthy(),
        end: field(&value, "end").and_then(|value| message(&value)),
        names: text("names").unwrap_or_default(),
        merged: merged(&value),
    };
    let draft = field(&value, "draft").filter(JsValue::is_object);
    // The server has already put the text into the form.
    let problem = draft.and_then(|draft| field(&draft, "problem")?.as_string());
    Some(LiveData {
        snapshot,
        base: text("base").map(BasePath::of_page).unwrap_or_default(),
        stream: text("stream").and_then(|name| name.parse().ok()),
        composer: field(&value, "composer")?.is_truthy(),
        draft: problem.map(|problem| Draft { text: String::new(), problem }),
    })
}

/// Reads a page of history from JSON: its messages, and the cursor of the next page.
pub(super) fn history_page(value: &JsValue) -> Option<(Vec<Message>, Option<EventId>)> {
    let next = field(value, "next")?.as_string().and_then(|id| id.parse().ok());
    Some((messages(value)?, next))
}

fn messages(value: &JsValue) -> Option<Vec<Message>> {
    Array::from(&field(value, "messages")?).iter().map(|value| message(&value)).collect()
}

/// The messages of several streams; none on the page of a single one.
fn merged(value: &JsValue) -> Vec<MergedMessage> {
    let mut merged = Vec::new();
    let values = field(value, "merged").filter(JsValue::is_object);
    for value in values.iter().flat_map(Array::from) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 15")]
        let stream =
            field(&value, "stream").and_then(|value| value.as_f64()).unwrap_or_default() as usize;
        let end = field(&value, "end").is_some_and(|value| value.is_truthy());
        merged.extend(message(&value).map(|message| MergedMessage { message, stream, end }));
    }
    merged
}

fn message(value: &JsValue) -> Option<Message> {
    let id: EventId = field(value, "id")?.as_string()?.parse().ok()?;
    Some(Message { id, data: field(value, "data")?.as_string()? })
}

fn field(value: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(value, &name.into()).ok()
}
