//! List: the lines of a log as elements, and what changes when they do.
//!
//! Not `<For>` and a view for each row: rows are never reordered, what has been written of one stays
//! but for its time, and a burst adds hundreds in a frame. So a change looks each line up among those
//! that are left of the old ones, and touches only what comes or goes: less work than a keyed diff and a
//! view, an effect and a node reference for each row, and 5 kB less to load.

use leptos::{
    prelude::*,
    tachys::{html::element::InnerHtmlValue, renderer::types::Element},
};

use super::{
    days::Line,
    row::{RowContext, clock, push_html, said_at, utc},
    subscription::Subscription,
    time::time_of_day,
};

/// The content of an element, for its `inner_html`, that follows lines.
#[derive(Clone)]
pub(super) struct List {
    /// The lines, oldest first. No two have the same key, and no row changes its place among the rows.
    pub(super) lines: Signal<Vec<Line>>,
    /// What the rows have in common.
    pub(super) context: RowContext,
    /// Whether the page has come to life.
    pub(super) subscription: Subscription,
}

/// What a list shows: the keys of its lines, and their elements. (Extensions may have added more.)
type Shown = Vec<((bool, u64), Element)>;

impl List {
    /// Makes `list` show the lines, now and whenever they change.
    fn follow(self, list: &Element, mut shown: Shown) -> RenderEffect<()> {
        let list = list.clone();
        let mut shows_utc = true;
        RenderEffect::new(move |_| {
            let (lines, local) = (self.lines.get(), clock(self.subscription));
            shown = update(&list, std::mem::take(&mut shown), &lines, |html, line| {
                push_html(html, line, &self.context, local);
            });
            if shows_utc && self.subscription.hydrated() {
                shows_utc = false;
                self.localize(&lines, &shown, local);
            }
        })
    }

    /// Writes the times anew of what was written before the page came to life.
    fn localize(&self, lines: &[Line], shown: &Shown, local: fn(u64) -> u64) {
        for (line, (_, element)) in lines.iter().zip(shown) {
            if let Line::Row(row) = line
                && let Some(millis) = said_at(row, &self.context)
                && let Ok(Some(time)) = element.query_selector("time")
            {
                time.set_text_content(Some(&time_of_day(local(millis))));
            }
        }
    }
}

/// Removes the elements of lines that are gone, adds those of new lines where they belong, and leaves
/// the rest alone.
fn update(
    list: &Element,
    shown: Shown,
    lines: &[Line],
    push_html: impl Fn(&mut String, &Line),
) -> Shown {
    let mut updated = Shown::with_capacity(lines.len());
    let mut old = shown.into_iter();
    let mut html = String::new();
    for line in lines {
        let key = line.key();
        // Rows keep their order: what was before one that stays is gone. A date may move, where local
        // midnight is another moment, and takes no row with it.
        let is_date = matches!(line, Line::Day(_));
        let place = old.as_slice().iter().position(|(old, _)| *old == key);
        if let Some(gone) = place.filter(|&gone| gone == 0 || !is_date) {
            old.by_ref().take(gone).for_each(|(_, element)| element.remove());
            updated.extend(old.next());
            continue;
        }
        html.clear();
        push_html(&mut html, line);
        let added = if let Some((_, next)) = old.as_slice().first() {
            let _ = next.insert_adjacent_html("beforebegin", &html);
            next.previous_element_sibling()
        } else {
            let _ = list.insert_adjacent_html("beforeend", &html);
            list.last_element_child()
        };
        updated.extend(added.map(|element| (key, element)));
    }
    old.for_each(|(_, element)| element.remove());
    updated
}

impl IntoAttributeValue for List {
    type Output = Self;

    fn into_attribute_value(self) -> Self {
        self
    }
}

impl InnerHtmlValue for List {
    type AsyncOutput = Self;
    type State = RenderEffect<()>;
    type Cloneable = Self;
    type CloneableOwned = Self;

    fn html_len(&self) -> usize {
        0
    }

    fn to_html(self, buf: &mut String) {
        for line in self.lines.get_untracked() {
            push_html(buf, &line, &self.context, utc);
        }
    }

    fn to_template(_: &mut String) {}

    fn hydrate<const FROM_SERVER: bool>(self, element: &Element) -> Self::State {
        let children = element.children();
        let children = (0..children.length()).filter_map(|index| children.item(index));
        let lines = self.lines.get_untracked();
        let shown = lines.iter().map(Line::key).zip(children).collect();
        self.follow(element, shown)
    }

    fn build(self, element: &Element) -> Self::State {
        self.follow(element, Shown::new())
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
