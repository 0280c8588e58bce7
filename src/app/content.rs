//! Content: what an element holds, where it is not a view.
//!
//! Views hold texts in text nodes. Translators take text nodes out of the page and put elements of
//! their own in their place, and what changes afterwards is never seen. And a list of thousands of rows
//! needs neither a view nor an effect for each. So such content is HTML that the server writes, and one
//! effect that changes the element.

use leptos::{
    prelude::*,
    tachys::{html::element::InnerHtmlValue, renderer::types::Element},
};

use super::text;

/// What the content of an element shows, and how it goes on to show it.
pub(super) trait Follow: Clone + Send + 'static {
    /// Appends the content as it is now.
    fn push_html(&self, html: &mut String);

    /// Makes an element show the content, now and whenever it changes. An element that is
    /// `from_server` shows it already, as [`Follow::push_html`] wrote it.
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

/// A text. What could mean something to HTML is escaped.
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

    /// Writes what differs from what the element shows. Whatever others have put there goes.
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
