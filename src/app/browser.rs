//! Browser APIs beside the event stream: `fetch` with retries, and focus.
//!
//! Nothing here runs on the server: it is called by event listeners of the page.

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
    HtmlTextAreaElement, RequestInit, Response, UrlSearchParams,
};

/// The timeout of a request, until the whole response has arrived.
const FETCH_TIMEOUT_MS: u32 = 15_000;

/// How often a form without a definite response is sent again, and the pause before the first retry; it
/// doubles with each retry.
const RETRIES: u32 = 4;
const FIRST_RETRY_MS: u64 = 1_000;

/// The attributes of a text box that hold the idempotency key and the text of the last attempt.
const KEY_ATTRIBUTE: &str = "data-key";
const SENT_ATTRIBUTE: &str = "data-sent";

/// The result of a request: JSON, or why there is none.
type FetchResult = Result<JsValue, Failure>;

/// Why a request was not successful. Each holds a sentence for the reader.
pub(super) enum Failure {
    /// No response, or not a definite one: the request may have been carried out.
    Unknown(String),
    /// The server, or a proxy before it, is unavailable for now (502 to 504).
    Retry(String),
    /// The server refused the request.
    Refused(String),
}

/// Fetches the JSON at `url`, without retries.
pub(super) fn get(url: &str, then: impl FnOnce(FetchResult) + 'static) {
    fetch(url, &RequestInit::new(), Box::new(then));
}

/// Posts a form's fields as the form itself would, with an idempotency key. Retried up to 4 times until
/// there is a definite response; the server carries it out once.
pub(super) fn post(
    url: &str,
    form: &HtmlFormElement,
    key: &str,
    then: impl FnOnce(FetchResult) + 'static,
) {
    let request = RequestInit::new();
    request.set_method("POST");
    // Does not fail: form data without files is valid for `URLSearchParams`.
    if let Ok(fields) = FormData::new_with_form(form)
        && let Ok(body) = UrlSearchParams::new_with_str_sequence_sequence(&fields)
    {
        request.set_body(&body);
    }
    let headers = Array::of1(&Array::of2(&"idempotency-key".into(), &key.into()));
    request.set_headers(&headers);
    send_with_retries(url.to_owned(), request, RETRIES, Box::new(then));
}

fn send_with_retries(
    url: String,
    request: RequestInit,
    retries: u32,
    then: Box<dyn FnOnce(FetchResult)>,
) {
    let (attempt, attempt_url) = (request.clone(), url.clone());
    let on_result: Box<dyn FnOnce(FetchResult)> = Box::new(move |result| match result {
        Err(Failure::Unknown(_) | Failure::Retry(_)) if retries > 0 => {
            let pause = Duration::from_millis(FIRST_RETRY_MS << (RETRIES - retries));
            set_timeout(move || send_with_retries(url, request, retries - 1, then), pause);
        }
        result => then(result),
    });
    fetch(&attempt_url, &attempt, on_result);
}

/// The idempotency key for a text in a text box: the key of the last attempt, if it sent the same text
/// and had no definite response. It is kept on the element, so that it outlives this wasm instance.
pub(super) fn key_of(text_box: &HtmlTextAreaElement, text: &str) -> String {
    if text_box.get_attribute(SENT_ATTRIBUTE).as_deref() == Some(text)
        && let Some(key) = text_box.get_attribute(KEY_ATTRIBUTE)
    {
        return key;
    }
    let key = random_key();
    let _ = text_box.set_attribute(KEY_ATTRIBUTE, &key);
    let _ = text_box.set_attribute(SENT_ATTRIBUTE, text);
    key
}

/// Removes the idempotency key, after a definite response.
pub(super) fn forget_key(text_box: &HtmlTextAreaElement) {
    for attribute in [KEY_ATTRIBUTE, SENT_ATTRIBUTE] {
        let _ = text_box.remove_attribute(attribute);
    }
}

/// A random idempotency key: two numbers of 53 bits.
fn random_key() -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "53 bits")]
    let random = || (Math::random() * 9_007_199_254_740_992.) as u64;
    format!("{:x}-{:x}", random(), random())
}

fn fetch(url: &str, request: &RequestInit, then: Box<dyn FnOnce(FetchResult)>) {
    request.set_signal(Some(&AbortSignal::timeout_with_u32(FETCH_TIMEOUT_MS)));
    when_settled(window().fetch_with_str_and_init(url, request), move |response| {
        let unknown = || Failure::Unknown("The server did not answer.".to_owned());
        let Some(response) = response.and_then(|response| response.dyn_into::<Response>().ok())
        else {
            return then(Err(unknown()));
        };
        let Ok(text) = response.text() else { return then(Err(unknown())) };
        when_settled(text, move |text| {
            let json = text.and_then(|text| JSON::parse(&text.as_string()?).ok());
            then(match (response.status(), json) {
                (200..300, Some(json)) => Ok(json),
                // A truncated response; then those of a server, or of a proxy before it, that may be
                // available again soon.
                (200..300, None) => Err(unknown()),
                (status @ 502..=504, json) => Err(Failure::Retry(problem_detail(json, status))),
                (status @ (408 | 500..), _) => {
                    Err(Failure::Unknown(format!("The server answered with status {status}.")))
                }
                (status, json) => Err(Failure::Refused(problem_detail(json, status))),
            });
        });
    });
}

/// The `detail` of a problem (RFC 9457), or a sentence with the status.
fn problem_detail(problem: Option<JsValue>, status: u16) -> String {
    let detail =
        problem.and_then(|problem| Reflect::get(&problem, &"detail".into()).ok()?.as_string());
    detail.unwrap_or_else(|| format!("The server refused the request with status {status}."))
}

/// Calls `then` when a promise is settled: with its value, or with `None` if it was rejected. The
/// callback is boxed, so that the wasm holds the waiting code once.
fn when_settled(promise: Promise, then: impl FnOnce(Option<JsValue>) + 'static) {
    let then: Box<dyn FnOnce(Option<JsValue>)> = Box::new(then);
    spawn_local(async move { then(JsFuture::from(promise).await.ok()) });
}

/// The text box of a form.
pub(super) fn text_box(form: &HtmlFormElement) -> Option<HtmlTextAreaElement> {
    form.elements().named_item("text")?.dyn_into().ok()
}

/// Whether an element has the keyboard focus.
pub(super) fn has_focus(element: &Element) -> bool {
    document().active_element().as_ref() == Some(element)
}

/// Moves the keyboard focus to an element without scrolling.
pub(super) fn focus_without_scrolling(element: &HtmlElement) {
    let options = FocusOptions::new();
    options.set_prevent_scroll(true);
    let _ = element.focus_with_options(&options);
}
