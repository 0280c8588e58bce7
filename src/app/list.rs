//! List: the lines of a log as elements, and what changes when they do.
//!
//! Not `<For>` and a view for each row: rows are never reordered, what has been written of one stays
//! but for its time, and a burst adds hundreds in a frame. So a change looks each line up among those
//! that are left of the old ones, and touches only what comes or goes: less work than a keyed diff and a
//! view, an effect and a node reference for each row, and 5 kB less to load.

use leptos::{prelude::*, tachys::renderer::types::Element};

use super::{
    content::Follow,
    days::Line,
    row::{RowContext, clock, push_html, said_at, utc},
    subscription::Subscription,
    time::time_of_day,
};

/// Lines, as the content of an element.
#[derive(Clone)]
pub(super) struct List {
    /// The lines, oldest first. No two have the same key, and no row changes its place among the rows.
    pub(super) lines: Signal<Vec<Line>>,
    /// What the rows have in common.
    pub(super) context: RowContext,
    /// Whether the page has come to life.
    pub(super) subscription: Subscription,
}

/// What no two lines of a list have in common.
type Key = (bool, u64);

/// What a list shows: the keys of its lines, and their elements. (Extensions may have added more.)
type Shown = Vec<(Key, Element)>;

impl Follow for List {
    fn push_html(&self, html: &mut String) {
        for line in self.lines.get_untracked() {
            push_html(html, &line, &self.context, utc);
        }
    }

    fn follow(self, list: &Element, from_server: bool) -> RenderEffect<()> {
        let list = list.clone();
        let mut shown = Shown::new();
        if from_server {
            let children = list.children();
            let children = (0..children.length()).filter_map(|index| children.item(index));
            shown.extend(self.lines.get_untracked().iter().map(Line::key).zip(children));
        }
        let mut shows_utc = true;
        let mut html = String::new();
        RenderEffect::new(move |_| {
            let (lines, local) = (self.lines.get(), clock(self.subscription));
            let add = |line: &Line, next: Option<&Element>| {
                html.clear();
                push_html(&mut html, line, &self.context, local);
                insert(&list, &html, next)
            };
            shown = merge(std::mem::take(&mut shown), &lines, add, |element| element.remove());
            if shows_utc && self.subscription.hydrated() {
                shows_utc = false;
                self.localize(&lines, &shown, local);
            }
        })
    }
}

impl List {
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

/// Removes what is shown of lines that are gone, lets `add` put each new line before what follows it, and
/// leaves the rest alone.
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
        // Rows keep their order: what was before one that stays is gone. A date may move, where local
        // midnight is another moment, and takes no row with it.
        let is_date = matches!(line, Line::Day(_));
        let place = old.as_slice().iter().position(|(old, _)| *old == key);
        if let Some(gone) = place.filter(|&gone| gone == 0 || !is_date) {
            old.by_ref().take(gone).for_each(|(_, element)| remove(element));
            merged.extend(old.next());
            continue;
        }
        let next = old.as_slice().first().map(|(_, element)| element);
        merged.extend(add(line, next).map(|element| (key, element)));
    }
    old.for_each(|(_, element)| remove(element));
    merged
}

/// Puts HTML of one element before the element `next` of a list, or at its end.
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
    use crate::feed::{Content, Row};

    /// "d7" is the seventh day, "3" the row with the key 3.
    fn line(name: &str) -> Line {
        if let Some(day) = name.strip_prefix('d') {
            return Line::Day(day.parse().expect("a day"));
        }
        Line::Row(Row { key: name.parse().expect("a key"), content: Content::Lost })
    }

    /// What a list of the elements `before` holds after it was made to show `after`. New elements have a "+".
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
            let place = next
                .map_or_else(|| list.borrow().len(), |next| position(next).expect("an element"));
            list.borrow_mut().insert(place, element.clone());
            Some(element)
        };
        let remove = |element: String| {
            let place = position(&element).expect("an element");
            list.borrow_mut().remove(place);
        };
        let shown = merge(shown, &lines, add, remove);

        let list = list.into_inner();
        let plain: Vec<_> = list.iter().map(|element| element.trim_start_matches('+')).collect();
        assert_eq!(plain, names, "{before} -> {after}");
        assert!(shown.iter().map(|(_, element)| element).eq(&list), "{before} -> {after}");
        list.join(" ")
    }

    #[test]
    fn what_stays_is_left_alone() {
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
    fn a_date_that_moves_takes_no_row_with_it() {
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
