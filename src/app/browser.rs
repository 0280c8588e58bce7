//! What the page asks of its browser beside the event stream: to fetch, to copy, to move the focus.
//!
//! Nothing here runs on a server: it is called when someone clicks.

use std::time::Duration;

use js_sys::{Array, JSON, Math, Promise, Reflect};
use leptos::{
    prelude::{document, set_timeout, window},
    task::spawn_local,
};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortSignal, Element, FocusOptions, FormData, HtmlElement, HtmlFormElement,
    HtmlTextAreaElement, KeyboardEvent, MouseEvent, RequestInit, Response, UrlSearchParams,
};

/// An answer that takes longer does not come.
const POST_TIMEOUT_MS: u32 = 15_000;

/// How often a form is sent again that was not answered, and how long to wait before the first
/// time; twice as long before each further one.
const RETRIES: u32 = 4;
const FIRST_RETRY_MS: u64 = 1_000;

/// The attributes of a text box for what was sent: its key, and the text.
const KEY: &str = "data-key";
const SENT: &str = "data-sent";

/// What comes of a request: JSON, or why there is none.
type PostResult = Result<JsValue, Failure>;

/// Why there is no good answer.
pub(super) enum Failure {
    /// None came, or none that tells: perhaps it was done, perhaps not.
    Unknown(String),
    /// The server, or a proxy before it, says that it cannot answer now.
    Retry(String),
    /// The server refuses; a sentence that says why.
    Refused(String),
}

/// Gets the JSON at `url`.
pub(super) fn get(url: &str, then: impl FnOnce(PostResult) + 'static) {
    ask(url, &RequestInit::new(), Box::new(then));
}

/// Sends a form's fields as the form itself would, with an idempotency key: so it can be sent again
/// until an answer comes, and is carried out once.
pub(super) fn post(
    url: &'static str,
    form: &HtmlFormElement,
    key: &str,
    then: impl FnOnce(PostResult) + 'static,
) {
    let request = RequestInit::new();
    request.set_method("POST");
    // A form always has fields, and they are what a URL's query is made of.
    if let Ok(fields) = FormData::new_with_form(form)
        && let Ok(body) = UrlSearchParams::new_with_str_sequence_sequence(&fields)
    {
        request.set_body(&body);
    }
    let headers = Array::of1(&Array::of2(&"idempotency-key".into(), &key.into()));
    request.set_headers(&headers);
    send(url, request, RETRIES, Box::new(then));
}

fn send(url: &'static str, request: RequestInit, retries: u32, then: Box<dyn FnOnce(PostResult)>) {
    let attempt = request.clone();
    let answered: Box<dyn FnOnce(PostResult)> = Box::new(move |answer| match answer {
        Err(Failure::Unknown(_) | Failure::Retry(_)) if retries > 0 => {
            let pause = Duration::from_millis(FIRST_RETRY_MS << (RETRIES - retries));
            set_timeout(move || send(url, request, retries - 1, then), pause);
        }
        answer => then(answer),
    });
    ask(url, &attempt, answered);
}

/// The idempotency key of a text in a text box: the one that it was sent with before, if its fate is
/// unknown. It is kept on the element, and so outlives this instance of the wasm.
pub(super) fn key_of(text_box: &HtmlTextAreaElement, text: &str) -> String {
    if text_box.get_attribute(SENT).as_deref() == Some(text)
        && let Some(key) = text_box.get_attribute(KEY)
    {
        return key;
    }
    let key = random_key();
    let _ = text_box.set_attribute(KEY, &key);
    let _ = text_box.set_attribute(SENT, text);
    key
}

/// The fate of what was sent is known.
pub(super) fn forget_key(text_box: &HtmlTextAreaElement) {
    for attribute in [KEY, SENT] {
        let _ = text_box.remove_attribute(attribute);
    }
}

/// A key that no other message has: two random numbers of 53 bits.
fn random_key() -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "53 bits")]
    let random = || (Math::random() * 9_007_199_254_740_992.) as u64;
    format!("{:x}-{:x}", random(), random())
}

fn ask(url: &str, request: &RequestInit, then: Box<dyn FnOnce(PostResult)>) {
    request.set_signal(Some(&AbortSignal::timeout_with_u32(POST_TIMEOUT_MS)));
    after(window().fetch_with_str_and_init(url, request), move |response| {
        let unknown = || Failure::Unknown("No answer came.".to_owned());
        let Some(response) = response.and_then(|response| response.dyn_into::<Response>().ok())
        else {
            return then(Err(unknown()));
        };
        let Ok(text) = response.text() else { return then(Err(unknown())) };
        after(text, move |text| {
            let json = text.and_then(|text| JSON::parse(&text.as_string()?).ok());
            then(match (response.status(), json) {
                (200..300, Some(json)) => Ok(json),
                // An answer that broke off, and those of a server, or of a proxy before it, that
                // will be better soon.
                (200..300, None) => Err(unknown()),
                (status @ 502..=504, json) => Err(Failure::Retry(refusal(json, status))),
                (status @ (408 | 500..), _) => {
                    Err(Failure::Unknown(format!("No answer came but a status of {status}.")))
                }
                (status, json) => Err(Failure::Refused(refusal(json, status))),
            });
        });
    });
}

/// What a problem says (RFC 9457).
fn refusal(problem: Option<JsValue>, status: u16) -> String {
    let detail =
        problem.and_then(|problem| Reflect::get(&problem, &"detail".into()).ok()?.as_string());
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
