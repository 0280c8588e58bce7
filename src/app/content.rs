//! Reactive `inner_html`: element content that is HTML and not a view.
//!
//! Views put texts into text nodes. Translation tools replace text nodes by elements of their own, and
//! later changes of the text node are then not shown. A list of thousands of rows also needs no view
//! and no effect per row. Such content is HTML that the server writes, and one effect that updates the
//! element.

use leptos::{
    prelude::*,
    tachys::{html::element::InnerHtmlValue, renderer::types::Element},
};

use super::text;

/// Content of an element: its HTML, and how it is updated.
pub(super) trait Follow: Clone + Send + 'static {
    /// Appends the current content as HTML.
    fn push_html(&self, html: &mut String);

    /// Makes an element show the content, now and whenever it changes. An element that is
    /// `from_server` already shows it, as [`Follow::push_html`] wrote it.
    fn follow(self, element: &Element, from_server: bool) -> RenderEffect<()>;
}

/// The content of an element, for its `inner_html`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Following<T>(pub(super) T);

impl<T: Follow> IntoAttributeValue for Following<T> {
    type Output = Self;

    fn into_attribute_value(self) -> Self {
        self
    }
}

impl<T: Follow> InnerHtmlValue for Following<T> {
    type AsyncOutput = Self;
    type State = RenderEffect<()>;
    type Cloneable = Self;
    type CloneableOwned = Self;

    fn html_len(&self) -> usize {
        0
    }

    fn to_html(self, buf: &mut String) {
        self.0.push_html(buf);
    }

    fn to_template(_: &mut String) {}

    fn hydrate<const FROM_SERVER: bool>(self, element: &Element) -> Self::State {
        self.0.follow(element, FROM_SERVER)
    }

    fn build(self, element: &Element) -> Self::State {
        self.0.follow(element, false)
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

/// A text as content; it is escaped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text(Signal<String>);

/// A text that follows signals, as the content of an element.
pub(super) fn content(of: impl Fn() -> String + Send + Sync + 'static) -> Following<Text> {
    Following(Text(text(of)))
}

impl Follow for Text {
    fn push_html(&self, html: &mut String) {
        self.0.with_untracked(|text| escape_into(text, html));
    }

    /// Writes the text if it has changed. This replaces everything that extensions have added to the
    /// element.
    fn follow(self, element: &Element, from_server: bool) -> RenderEffect<()> {
        let element = element.clone();
        let mut shown = from_server.then(|| self.0.get_untracked());
        RenderEffect::new(move |_| {
            let text = self.0.get();
            if shown.as_ref() != Some(&text) {
                element.set_text_content(Some(&text));
                shown = Some(text);
            }
        })
    }
}

/// Splits a text between two characters. Elsewhere the second half is empty: code that panics, and says
/// where, would be larger than its callers.
pub(super) fn split(text: &str, at: usize) -> (&str, &str) {
    text.split_at_checked(at).unwrap_or((text, ""))
}

/// Appends a text as HTML. In the content of an element only "&" and "<" need escaping.
pub(super) fn escape_into(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            c => html.push(c),
        }
    }
}
