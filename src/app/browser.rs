//! What the page asks of its browser beside the event stream: to fetch, to copy, to move the focus.
//!
//! Nothing here runs on a server: it is called when someone clicks.

use js_sys::{JSON, Reflect};
use leptos::prelude::{document, window};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortSignal, Element, FocusOptions, HtmlElement, RequestInit, Response, UrlSearchParams,
};

/// An answer that takes longer does not come.
const PATIENCE_MS: u32 = 15_000;

/// The JSON at `url`, if a good answer comes.
pub(super) async fn get(url: &str) -> Option<JsValue> {
    let response = fetch(url, &RequestInit::new()).await.filter(Response::ok)?;
    JsFuture::from(response.json().ok()?).await.ok()
}

/// Sends a form's fields as the form itself would.
///
/// # Errors
/// With what to tell the reader.
pub(super) async fn post(url: &str, fields: &[(&str, &str)]) -> Result<(), String> {
    let request = RequestInit::new();
    request.set_method("POST");
    // What a URL's query is made of always can be made.
    if let Ok(body) = UrlSearchParams::new() {
        fields.iter().for_each(|(name, value)| body.append(name, value));
        request.set_body(&body);
    }
    let response = fetch(url, &request).await.ok_or(
        "No answer came, so it may not have been sent. Look whether it is in the log before you \
         send it again.",
    )?;
    if response.ok() {
        return Ok(());
    }
    let status = response.status();
    let detail = detail(&response).await;
    Err(detail.unwrap_or_else(|| format!("The server refused it, with status {status}.")))
}

/// What a problem says (RFC 9457).
async fn detail(response: &Response) -> Option<String> {
    let text = JsFuture::from(response.text().ok()?).await.ok()?.as_string()?;
    let problem = JSON::parse(&text).ok()?;
    Reflect::get(&problem, &"detail".into()).ok()?.as_string()
}

async fn fetch(url: &str, request: &RequestInit) -> Option<Response> {
    request.set_signal(Some(&AbortSignal::timeout_with_u32(PATIENCE_MS)));
    let response = JsFuture::from(window().fetch_with_str_and_init(url, request)).await;
    response.ok()?.dyn_into().ok()
}

/// Copies a text, and tells whether that worked.
pub(super) async fn copy(text: &str) -> bool {
    let navigator = window().navigator();
    // There is none where a page is not a secure context: on plain http, but for this computer.
    let clipboard = Reflect::get(&navigator, &"clipboard".into());
    if clipboard.is_ok_and(|clipboard| clipboard.is_undefined()) {
        return false;
    }
    JsFuture::from(navigator.clipboard().write_text(text)).await.is_ok()
}

/// Selects what an element says, so that a reader can copy it by hand.
pub(super) fn select(element: &Element) {
    if let Ok(Some(selection)) = window().get_selection() {
        let _ = selection.select_all_children(element);
    }
}

/// Whether the keyboard's focus is on an element.
pub(super) fn has_focus(element: &Element) -> bool {
    document().active_element().as_ref() == Some(element)
}

/// Moves the keyboard's focus, and nothing else.
pub(super) fn focus_in_place(element: &HtmlElement) {
    let options = FocusOptions::new();
    options.set_prevent_scroll(true);
    let _ = element.focus_with_options(&options);
}
