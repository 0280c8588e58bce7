//! What the page asks of its browser beside the event stream: to fetch, to copy, to move the focus.
//!
//! Nothing here runs on a server: it is called when someone clicks.

use js_sys::{JSON, Promise, Reflect};
use leptos::{
    prelude::{document, window},
    task::spawn_local,
};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortSignal, Element, FocusOptions, FormData, HtmlElement, HtmlFormElement,
    HtmlTextAreaElement, KeyboardEvent, MouseEvent, RequestInit, Response, UrlSearchParams,
};

/// An answer that takes longer does not come.
const PATIENCE_MS: u32 = 15_000;

/// What comes of asking: JSON, or a sentence that says why there is none.
type Answer = Result<JsValue, String>;

/// Gets the JSON at `url`.
pub(super) fn get(url: &str, then: impl FnOnce(Answer) + 'static) {
    ask(url, &RequestInit::new(), Box::new(then));
}

/// Sends a form's fields as the form itself would.
pub(super) fn post(url: &str, form: &HtmlFormElement, then: impl FnOnce(Answer) + 'static) {
    let request = RequestInit::new();
    request.set_method("POST");
    // A form always has fields, and they are what a URL's query is made of.
    if let Ok(fields) = FormData::new_with_form(form)
        && let Ok(body) = UrlSearchParams::new_with_str_sequence_sequence(&fields)
    {
        request.set_body(&body);
    }
    ask(url, &request, Box::new(then));
}

fn ask(url: &str, request: &RequestInit, then: Box<dyn FnOnce(Answer)>) {
    request.set_signal(Some(&AbortSignal::timeout_with_u32(PATIENCE_MS)));
    after(window().fetch_with_str_and_init(url, request), move |response| {
        let Some(response) = response.and_then(|response| response.dyn_into::<Response>().ok())
        else {
            let no_answer = "No answer came, so it may not have been sent. Look whether it is in \
                             the log before you send it again.";
            return then(Err(no_answer.to_owned()));
        };
        let Ok(text) = response.text() else { return };
        after(text, move |text| {
            let text = text.and_then(|text| text.as_string()).unwrap_or_default();
            let json = JSON::parse(&text).unwrap_or_default();
            then(if response.ok() { Ok(json) } else { Err(refusal(&json, response.status())) });
        });
    });
}

/// What a problem says (RFC 9457).
fn refusal(problem: &JsValue, status: u16) -> String {
    let detail = Reflect::get(problem, &"detail".into()).ok().and_then(|detail| detail.as_string());
    detail.unwrap_or_else(|| format!("The server refused it, with status {status}."))
}

/// Goes on when a promise is kept, or broken. What follows has one type, and so the wasm holds the
/// code that waits once.
fn after(promise: Promise, then: impl FnOnce(Option<JsValue>) + 'static) {
    let then: Box<dyn FnOnce(Option<JsValue>)> = Box::new(then);
    spawn_local(async move { then(JsFuture::from(promise).await.ok()) });
}

/// Copies a text, and tells whether that worked.
pub(super) fn copy(text: &str, then: impl FnOnce(bool) + 'static) {
    let navigator = window().navigator();
    // There is none where a page is not a secure context: on plain http, but for this computer.
    let clipboard = Reflect::get(&navigator, &"clipboard".into());
    if clipboard.is_ok_and(|clipboard| clipboard.is_object()) {
        after(navigator.clipboard().write_text(text), move |done| then(done.is_some()));
    } else {
        then(false);
    }
}

/// Where a form is written in.
pub(super) fn text_box(form: &HtmlFormElement) -> Option<HtmlTextAreaElement> {
    form.elements().named_item("text")?.dyn_into().ok()
}

/// Sends the form around a text box in which a key was pressed, as its button would.
pub(super) fn submit(key: &KeyboardEvent) {
    let text_box = key.target().and_then(|target| target.dyn_into::<HtmlTextAreaElement>().ok());
    if let Some(form) = text_box.and_then(|text_box| text_box.form()) {
        let _ = form.request_submit();
    }
}

/// The command beside the button that was clicked.
pub(super) fn command(click: &MouseEvent) -> Option<Element> {
    let around = click.target()?.dyn_ref::<Element>()?.closest(".command").ok()?;
    around?.query_selector("code").ok()?
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
