//! Reactive `inner_html`: element content that is HTML and not a view. And reactive attributes.
//!
//! Views put texts into text nodes. Translation tools replace text nodes by elements of their own, and
//! later changes of the text node are then not shown. A list of thousands of rows also needs no view
//! and no effect per row. Such content is HTML that the server writes, and one effect that updates the
//! element.
//!
//! Attributes are updated by the same effect. The attributes of Leptos would do, but have code of their
//! own for each type that a signal may have and for each kind of signal: 3.6 kB of the page.

use std::sync::Arc;

use leptos::{
    prelude::*,
    reactive::graph::untrack,
    tachys::{
        html::{attribute::AttributeValue, element::InnerHtmlValue},
        renderer::types::Element,
    },
};

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

/// A function of signals. All have one type, so that the wasm holds the code of what follows them once,
/// and not once for each closure. (A `Signal` may also be a memo, and has the code of both.)
pub(super) type Derived<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// A text that follows signals. As an attribute it may be `None`: absent.
#[derive(Clone)]
pub(super) struct Text {
    derived: Derived<Option<String>>,
    is_html: bool,
}

/// A text that follows signals, as the value of an attribute.
pub(super) fn text(of: impl Fn() -> String + Send + Sync + 'static) -> Text {
    Text { derived: Arc::new(move || Some(of())), is_html: false }
}

/// A boolean attribute, such as `hidden`, that follows signals.
pub(super) fn flag(of: impl Fn() -> bool + Send + Sync + 'static) -> Text {
    Text { derived: Arc::new(move || of().then(String::new)), is_html: false }
}

/// A text that follows signals, as the content of an element; it is escaped.
pub(super) fn content(of: impl Fn() -> String + Send + Sync + 'static) -> Following<Text> {
    Following(text(of))
}

/// HTML that follows signals, as the content of an element.
pub(super) fn html(of: impl Fn() -> String + Send + Sync + 'static) -> Following<Text> {
    Following(Text { is_html: true, ..text(of) })
}

impl Text {
    fn get_untracked(&self) -> Option<String> {
        untrack(|| (self.derived)())
    }

    /// Writes the text if it has changed: the value of an attribute, or else the content of an element,
    /// which replaces everything that extensions have added to the element.
    fn show_in(
        self,
        attribute: Option<&str>,
        element: &Element,
        from_server: bool,
    ) -> RenderEffect<()> {
        let (element, attribute) = (element.clone(), attribute.map(str::to_owned));
        let mut shown = from_server.then(|| self.get_untracked());
        RenderEffect::new(move |_| {
            let text = (self.derived)();
            if shown.as_ref() == Some(&text) {
                return;
            }
            match (&attribute, &text) {
                (None, Some(html)) if self.is_html => element.set_inner_html(html),
                (None, text) => element.set_text_content(text.as_deref()),
                (Some(name), Some(text)) => drop(element.set_attribute(name, text)),
                (Some(name), None) => drop(element.remove_attribute(name)),
            }
            shown = Some(text);
        })
    }
}

impl Follow for Text {
    fn push_html(&self, html: &mut String) {
        let text = self.get_untracked().unwrap_or_default();
        if self.is_html {
            html.push_str(&text);
        } else {
            escape_into(&text, html);
        }
    }

    fn follow(self, element: &Element, from_server: bool) -> RenderEffect<()> {
        self.show_in(None, element, from_server)
    }
}

impl AttributeValue for Text {
    type AsyncOutput = Self;
    type State = RenderEffect<()>;
    type Cloneable = Self;
    type CloneableOwned = Self;

    fn html_len(&self) -> usize {
        0
    }

    fn to_html(self, key: &str, buf: &mut String) {
        AttributeValue::to_html(self.get_untracked(), key, buf);
    }

    fn to_template(_: &str, _: &mut String) {}

    fn hydrate<const FROM_SERVER: bool>(self, key: &str, element: &Element) -> Self::State {
        self.show_in(Some(key), element, FROM_SERVER)
    }

    fn build(self, element: &Element, key: &str) -> Self::State {
        self.show_in(Some(key), element, false)
    }

    fn rebuild(self, _: &str, _: &mut Self::State) {}

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
