//! The title and the metadata in the head of a page.
//!
//! Written where the document is, and not with the components of `leptos_meta`: these look for their
//! context when they are rendered, which is later than a page that is loaded first has one.

use leptos::{either::Either, prelude::*};

use super::{Page, stream_address};
use crate::base_path::BasePath;

/// The title of a page, and either its description or that search engines should leave it out. In a frame
/// (`embed`), links open in tabs of their own; the form to sign in with stays in the frame.
pub(super) fn head(base: &BasePath, page: &Page, embed: bool) -> impl IntoView + use<> {
    let (title, description) = title_and_description(page);
    let name = if description.is_some() { "description" } else { "robots" };
    let feeds = match page {
        Page::Stream { name, .. } => Some(feeds(&stream_address(base, name.as_str()))),
        _ => None,
    };
    let metadata = view! {
        <title>{format!("{title} · Tidings")}</title>
        <meta name=name content=description.unwrap_or_else(|| "noindex".to_owned()) />
        {feeds}
    };
    if embed && !matches!(page, Page::SignIn { .. }) {
        Either::Left((metadata, view! { <base target="_blank" /> }))
    } else {
        Either::Right(metadata)
    }
}

/// The feeds of a stream, which feed readers find by its page.
fn feeds(stream: &str) -> impl IntoView + use<> {
    view! {
        <link rel="alternate" type="application/atom+xml" title="Atom" href=format!("{stream}/feed.atom") />
        <link rel="alternate" type="application/feed+json" title="JSON Feed" href=format!("{stream}/feed.json") />
    }
}

fn title_and_description(page: &Page) -> (String, Option<String>) {
    let described =
        |title: &str, description: &str| (title.to_owned(), Some(description.to_owned()));
    match page {
        Page::Counter(_) => described(
            "Counter",
            "A live message page: the server sends, the browsers listen, and no message is missed.",
        ),
        Page::Streams { .. } => {
            described("Streams", "The streams there are, newest activity first.")
        }
        Page::Stream { name, .. } => (
            name.to_string(),
            Some(format!("The stream “{name}”, live: what is published appears here at once.")),
        ),
        Page::Several { names, .. } => {
            let names = names.to_string().replace(',', ", ");
            let description = "Several streams, live: what is published appears here at once.";
            (names, Some(description.to_owned()))
        }
        Page::Archive { name, .. } => (format!("{name}, older messages"), None),
        Page::Found { name, find, .. } if find.is_empty() => (format!("{name}, find"), None),
        Page::Found { name, find, .. } => (format!("{name}, find “{find}”"), None),
        Page::SignIn { refused, .. } => {
            (if refused.is_some() { "Refused: Sign in" } else { "Sign in" }.to_owned(), None)
        }
        Page::Problems => {
            described("Problems", "What the refusals of a Tidings server mean, and what to do.")
        }
        Page::Refused { title, .. } => (title.clone(), None),
    }
}
