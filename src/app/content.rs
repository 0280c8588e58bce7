//! A text that changes, as the content of an element.
//!
//! Not in a text node, as views hold texts by themselves: translators take text nodes out of the
//! page and put elements of their own in their place, and what changes afterwards is never seen.

use leptos::{
    prelude::*,
    tachys::{html::element::InnerHtmlValue, renderer::types::Element},
};

use super::text;

/// The content of an element, for its `inner_html`. It is a text all the same: what could mean
/// something to HTML is escaped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content(Signal<String>);

/// The content of an element that follows signals.
pub(super) fn content(of: impl Fn() -> String + Send + Sync + 'static) -> Content {
    Content(text(of))
}

impl Content {
    /// Writes what differs from what the element shows. Whatever others have put there goes.
    fn follow(self, element: &Element, mut shown: Option<String>) -> RenderEffect<()> {
        let element = element.clone();
        RenderEffect::new(move |_| {
            let text = self.0.get();
            if shown.as_ref() != Some(&text) {
                element.set_text_content(Some(&text));
                shown = Some(text);
            }
        })
    }
}

impl IntoAttributeValue for Content {
    type Output = Self;

    fn into_attribute_value(self) -> Self {
        self
    }
}

impl InnerHtmlValue for Content {
    type AsyncOutput = Self;
    type State = RenderEffect<()>;
    type Cloneable = Self;
    type CloneableOwned = Self;

    fn html_len(&self) -> usize {
        self.0.read_untracked().len()
    }

    fn to_html(self, buf: &mut String) {
        self.0.with(|text| escape_into(text, buf));
    }

    fn to_template(_: &mut String) {}

    fn hydrate<const FROM_SERVER: bool>(self, element: &Element) -> Self::State {
        let shown = FROM_SERVER.then(|| self.0.get_untracked());
        self.follow(element, shown)
    }

    fn build(self, element: &Element) -> Self::State {
        self.follow(element, None)
    }

    fn rebuild(self, _: &mut Self::State) {}

    fn into_cloneable(self) -> Self {
        self
    }

    fn into_cloneable_owned(self) -> Self {
        self
    }

    fn dry_resolve(&mut self) {}

    async fn resolve(self) -> Self {
        self
    }
}

/// Appends a text as HTML; in the content of an element only "&" and "<" mean anything.
pub(super) fn escape_into(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            c => html.push(c),
        }
    }
}
