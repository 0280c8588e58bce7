//! Keyed diff of a log: updates the elements of its lines.
//!
//! Used in place of `<For>` with a view per row: rows are never reordered, a row does not change except
//! for its time, and a burst adds hundreds of rows per frame. So each new line is looked up among the
//! remaining old ones, and only elements that are added or removed are touched. This is less work than a
//! general keyed diff with a view, an effect and a node reference per row, and 5 kB less to load.

use leptos::{prelude::*, reactive::graph::untrack, tachys::renderer::types::Element};

use super::{
    content::{Derived, Follow},
    days::Line,
    row::{RowContext, message_time, push_html, time_zone, utc},
    subscription::Subscription,
    time::time_of_day,
};

/// Lines, as the content of an element.
#[derive(Clone)]
pub(super) struct List {
    /// The lines, oldest first. Keys are unique, and rows keep their order.
    pub(super) lines: Derived<Vec<Line>>,
    /// The context of the rows.
    pub(super) context: RowContext,
    /// Tells whether the page is hydrated.
    pub(super) subscription: Subscription,
}

/// The key of a line.
type Key = (bool, u64);

/// The keys and elements of the lines that a list shows. (Extensions may have added other elements.)
type ShownLines = Vec<(Key, Element)>;

impl Follow for List {
    fn push_html(&self, html: &mut String) {
        for line in untrack(|| (self.lines)()) {
            push_html(html, &line, &self.context, utc);
        }
    }

    fn follow(self, list: &Element, from_server: bool) -> RenderEffect<()> {
        let list = list.clone();
        let mut shown = ShownLines::new();
        if from_server {
            let children = list.children();
            let children = (0..children.length()).filter_map(|index| children.item(index));
            shown.extend(untrack(|| (self.lines)()).iter().map(Line::key).zip(children));
        }
        let mut shows_utc = true;
        let mut html = String::new();
        RenderEffect::new(move |_| {
            let (lines, local) = ((self.lines)(), time_zone(self.subscription));
            let add = |line: &Line, next: Option<&Element>| {
                html.clear();
                push_html(&mut html, line, &self.context, local);
                insert(&list, &html, next)
            };
            shown = merge(std::mem::take(&mut shown), &lines, add, |element| element.remove());
            if shows_utc && self.subscription.hydrated() {
                shows_utc = false;
                localize(&lines, &shown, local);
            }
        })
    }
}

/// Rewrites the times of the lines that were rendered in UTC before hydration.
fn localize(lines: &[Line], shown: &ShownLines, local: fn(u64) -> u64) {
    for (line, (_, element)) in lines.iter().zip(shown) {
        if let Line::Row(row) = line
            && let Some(millis) = message_time(row)
            && let Ok(Some(time)) = element.query_selector("time")
        {
            time.set_text_content(Some(&time_of_day(local(millis))));
        }
    }
}

/// Calls `remove` for each shown line that is not in `lines`, and `add` for each new line, with the
/// element before which it belongs. Other elements are not touched.
fn merge<T>(
    shown: Vec<(Key, T)>,
    lines: &[Line],
    mut add: impl FnMut(&Line, Option<&T>) -> Option<T>,
    mut remove: impl FnMut(T),
) -> Vec<(Key, T)> {
    let mut merged = Vec::with_capacity(lines.len());
    let mut old = shown.into_iter();
    for line in lines {
        let key = line.key();
        // Rows keep their order, so the old lines before one that stays are removed. A date may move when
        // UTC changes to local time; the rows before it stay.
        let is_date = matches!(line, Line::Day(_));
        let position = old.as_slice().iter().position(|(old, _)| *old == key);
        if let Some(removed) = position.filter(|&removed| removed == 0 || !is_date) {
            old.by_ref().take(removed).for_each(|(_, element)| remove(element));
            merged.extend(old.next());
            continue;
        }
        let next = old.as_slice().first().map(|(_, element)| element);
        merged.extend(add(line, next).map(|element| (key, element)));
    }
    old.for_each(|(_, element)| remove(element));
    merged
}

/// Inserts the HTML of one element before the element `next` of a list, or at its end.
fn insert(list: &Element, html: &str, next: Option<&Element>) -> Option<Element> {
    if let Some(next) = next {
        let _ = next.insert_adjacent_html("beforebegin", html);
        next.previous_element_sibling()
    } else {
        let _ = list.insert_adjacent_html("beforeend", html);
        list.last_element_child()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::feed::{Row, RowContent};

    /// "d7" is day 7, "3" the row with the key 3.
    fn line(name: &str) -> Line {
        if let Some(day) = name.strip_prefix('d') {
            return Line::Day(day.parse().expect("a day"));
        }
        Line::Row(Row { key: name.parse().expect("a key"), stream: 0, content: RowContent::Lost })
    }

    /// The elements of a list that showed `before`, after an update to `after`. New elements have a "+".
    fn merged(before: &str, after: &str) -> String {
        let list = RefCell::new(before.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let shown = list.borrow().iter().map(|name| (line(name).key(), name.clone())).collect();
        let names: Vec<_> = after.split_whitespace().collect();
        let lines: Vec<_> = names.iter().map(|name| line(name)).collect();
        let position = |element: &String| list.borrow().iter().position(|other| other == element);
        let add = |line: &Line, next: Option<&String>| {
            let element = match line {
                Line::Day(day) => format!("+d{day}"),
                Line::Row(row) => format!("+{}", row.key),
            };
            let index = next
                .map_or_else(|| list.borrow().len(), |next| position(next).expect("an element"));
            list.borrow_mut().insert(index, element.clone());
            Some(element)
        };
        let remove = |element: String| {
            let index = position(&element).expect("an element");
            list.borrow_mut().remove(index);
        };
        let shown = merge(shown, &lines, add, remove);

        let list = list.into_inner();
        let plain: Vec<_> = list.iter().map(|element| element.trim_start_matches('+')).collect();
        assert_eq!(plain, names, "{before} -> {after}");
        assert!(shown.iter().map(|(_, element)| element).eq(&list), "{before} -> {after}");
        list.join(" ")
    }

    #[test]
    fn lines_that_stay_keep_their_elements() {
        for (before, after, expected) in [
            ("", "d7 1 2", "+d7 +1 +2"),
            ("d7 1 2", "d7 1 2", "d7 1 2"),
            ("d7 1 2", "d7 1 2 3", "d7 1 2 +3"),
            ("d7 1 2 3", "d7 2 3 4", "d7 2 3 +4"),
            ("d7 1 2 3", "d7 1 3", "d7 1 3"),
            ("d7 1 3", "d7 1 2 3", "d7 1 +2 3"),
            ("d7 3 4", "d7 1 2 3 4", "d7 +1 +2 3 4"),
            ("d7 1 2", "d7 8 9", "d7 +8 +9"),
            ("d7 1 2", "", ""),
        ] {
            assert_eq!(merged(before, after), expected, "{before} -> {after}");
        }
    }

    #[test]
    fn a_date_that_moves_removes_no_row() {
        for (before, after, expected) in [
            ("d7 1 2 d8 3", "d7 1 d8 2 3", "d7 1 +d8 2 3"),
            ("d7 1 d8 2 3", "d7 1 2 d8 3", "d7 1 2 +d8 3"),
            ("d7 1 2 3", "d7 1 2 d8 3", "d7 1 2 +d8 3"),
            ("d7 1 2 d8 3", "d7 1 2 3", "d7 1 2 3"),
            ("d7 1 d8 2", "d8 1 2", "+d8 1 2"),
        ] {
            assert_eq!(merged(before, after), expected, "{before} -> {after}");
        }
    }
}
