//! The forms of a stream's page: the composer, which publishes, and the one that ends the stream.
//!
//! The forms are plain forms, sent to the server functions below: they work before the page has
//! come to life, and without JavaScript. Once alive, the page sends the same fields to the same
//! address by itself and stays where it is.
//!
//! The page does not call the client half of the server functions, which would add 24 kB to the wasm
//! (brotli): it posts the same fields, with an idempotency key and a timeout.

use std::{pin::Pin, sync::Arc};

use leptos::{
    ev::SubmitEvent,
    prelude::*,
    server_fn::{
        codec::JsonEncoding,
        error::{FromServerFnError, ServerFnErrorErr},
    },
};
use serde::{Deserialize, Serialize};

use super::{
    Draft,
    browser::{self, Failure},
    content::{content, escape_into},
};
use crate::{message::EventId, problem};

/// What the forms of a stream's page do on the server. The server provides it as a context, so that
/// the app need not know the server.
pub trait StreamForms: Send + Sync {
    /// Publishes a message.
    fn publish(&self, stream: String, text: String) -> FormResult;

    /// Ends a stream. The closing text may be empty.
    fn end(&self, stream: String, closing_text: String) -> FormResult;
}

/// The context.
pub type SharedForms = Arc<dyn StreamForms>;

/// The id of what was stored, or why nothing was.
pub type FormResult = Pin<Box<dyn Future<Output = Result<EventId, Refusal>> + Send>>;

/// Why a form was refused: a problem (RFC 9457) by its slug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The kind of the problem, as in [`crate::problem`].
    pub slug: String,
    /// What to do, in a sentence.
    pub detail: String,
    /// After how many seconds to try again.
    pub retry_after: Option<u32>,
}

impl FromServerFnError for Refusal {
    type Encoder = JsonEncoding;

    fn from_server_fn_error(error: ServerFnErrorErr) -> Self {
        let slug = problem::MALFORMED_FORM.slug.to_owned();
        Self { slug, detail: error.to_string(), retry_after: None }
    }
}

/// Publishes a message; gives its id.
///
/// # Errors
/// When it is refused: see [`Refusal`].
#[server(prefix = "/api", endpoint = "publish")]
pub async fn publish(
    /// The stream's name.
    stream: String,
    /// The message.
    text: String,
) -> Result<EventId, Refusal> {
    expect_context::<SharedForms>().publish(stream, text).await
}

/// Ends a stream; gives the id of the end.
///
/// # Errors
/// When it is refused: see [`Refusal`].
#[server(prefix = "/api", endpoint = "end")]
pub async fn end(
    /// The stream's name.
    stream: String,
    /// The closing text, which may be empty.
    text: String,
) -> Result<EventId, Refusal> {
    expect_context::<SharedForms>().end(stream, text).await
}

/// The form that publishes a message. It keeps the text until that is stored.
#[component]
pub fn Composer(
    /// The address that the form is sent to.
    action: String,
    /// The stream's name.
    #[prop(into)]
    stream: String,
    /// What was refused when the form was sent without JavaScript.
    draft: Option<Draft>,
) -> impl IntoView {
    let Draft { text: draft, problem } = draft.unwrap_or_default();
    let problem = RwSignal::new(problem);
    let sending = RwSignal::new(false);
    let url = action.clone();
    let send = move |event: SubmitEvent| {
        event.prevent_default();
        let form = event_target(&event);
        let Some(text_box) = browser::text_box(&form).filter(|_| !sending.get_untracked()) else {
            return;
        };
        sending.set(true);
        let text = text_box.value();
        let key = browser::key_of(&text_box, &text);
        browser::post(&url, &form, &key, move |answer| {
            // Text that was typed meanwhile stays.
            if answer.is_ok() && text_box.value() == text {
                text_box.set_value("");
            }
            // A text that may have been stored keeps its key: sent again, it is stored once.
            if !matches!(answer, Err(Failure::Unknown(_) | Failure::Retry(_))) {
                browser::forget_key(&text_box);
            }
            problem.set(match answer {
                Ok(_) => String::new(),
                Err(Failure::Refused(why)) => why,
                Err(Failure::Unknown(why) | Failure::Retry(why)) => {
                    format!("{why} Nothing is lost: send it again, it is stored once.")
                }
            });
            sending.set(false);
        });
    };
    let label = content(move || if sending.get() { "Sending…" } else { "Send" }.to_owned());

    view! {
        <form class="composer" method="post" action=action on:submit:capture=send>
            <input type="hidden" name="stream" value=stream />
            <label for="text">"Say something"</label>
            <textarea
                id="text"
                name="text"
                rows="1"
                required
                dir="auto"
                placeholder="Say something"
                aria-describedby="problem keys"
                inner_html=as_content(&draft)
            ></textarea>
            <button type="submit" inner_html=label></button>
            <p id="problem" role="alert" inner_html=content(move || problem.get())></p>
            <p id="keys">"Ctrl+Enter or ⌘+Enter sends"</p>
        </form>
    }
}

/// A text as the content of a textarea, where a line break at the very beginning is left out.
/// (Leptos 0.8 writes the children of a textarea as they are.)
fn as_content(text: &str) -> String {
    let mut html = "\n".to_owned();
    escape_into(text, &mut html);
    html
}

/// The form that ends a stream, folded away so that it is not sent by mistake.
#[component]
pub fn EndForm(
    /// The address that the form is sent to.
    action: String,
    /// The stream's name.
    #[prop(into)]
    stream: String,
) -> impl IntoView {
    view! {
        <details class="ending">
            <summary>"End this stream"</summary>
            <form method="post" action=action>
                <input type="hidden" name="stream" value=stream />
                <p>
                    "All readers see that it has ended. The messages stay; none can be added, and \
                     this cannot be undone."
                </p>
                <label for="closing">"Closing text, in place of “End of the stream”"</label>
                <input type="text" id="closing" name="text" dir="auto" autocomplete="off" />
                <button type="submit">"End the stream"</button>
            </form>
        </details>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_textarea() {
        assert_eq!(
            as_content("\n</textarea><script>&lt;"),
            "\n\n&lt;/textarea>&lt;script>&amp;lt;"
        );
    }
}
