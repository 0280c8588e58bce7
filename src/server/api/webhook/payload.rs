//! The JSON payload of a webhook. Fields are read by their paths in one pass, and nothing else is kept: a
//! payload of a megabyte takes no memory besides itself.
//!
//! A path is keys and positions separated by full stops: `alerts.0.labels.severity`. The position `-1` is
//! the last, and `#` is the number of elements: `commits.#`.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{problem, server::error::Problem};

/// The most bytes that are read of one field, before it becomes part of a line.
const MAX_FIELD_BYTES: usize = 4096;

/// A payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload<'json>(pub(super) &'json [u8]);

impl Payload<'_> {
    /// The texts of the fields at these paths; empty where there is none. A list is its elements separated
    /// by commas, an object its keys and values.
    ///
    /// # Errors
    /// When the payload is not JSON.
    pub(super) fn fields<const N: usize>(self, paths: [&str; N]) -> Result<[String; N], Problem> {
        let mut texts = self.read(&paths)?.into_iter();
        Ok(std::array::from_fn(|_| texts.next().unwrap_or_default()))
    }

    /// As [`fields`](Self::fields), for any number of paths.
    pub(super) fn read(self, paths: &[impl AsRef<str>]) -> Result<Vec<String>, Problem> {
        let keys: Vec<Vec<&str>> =
            paths.iter().map(|path| path.as_ref().split('.').collect()).collect();
        let mut texts = vec![String::new(); paths.len()];
        let wanted = keys.iter().map(Vec::as_slice).enumerate().collect();
        let walk = Walk {
            wanted,
            shown_in: Vec::new(),
            within: 0,
            first: true,
            key: "",
            texts: &mut texts,
        };
        let mut json = serde_json::Deserializer::from_slice(self.0);
        walk.deserialize(&mut json).and_then(|()| json.end()).map_err(|error| {
            let detail = format!("Send the payload as JSON, in UTF-8 ({error}).");
            Problem::new(problem::MALFORMED_PAYLOAD, detail)
        })?;
        Ok(texts)
    }
}

/// Reads a value and what is in it.
struct Walk<'walk> {
    /// The fields in this value: the index of each text, and the rest of its path.
    wanted: Vec<(usize, &'walk [&'walk str])>,
    /// The texts that show this value.
    shown_in: Vec<usize>,
    /// How many of these, the first ones, show the list or the object that this value is in.
    within: usize,
    /// Whether this value is the first one there.
    first: bool,
    /// The key of this value, if it is in an object.
    key: &'walk str,
    texts: &'walk mut [String],
}

impl Walk<'_> {
    /// The walk of an element, whose position or key `is_here` recognises, and which comes after `before` others. `None` if
    /// nothing of it is needed.
    fn element<'next>(
        &'next mut self,
        is_here: impl Fn(&str) -> bool,
        key: &'next str,
        before: usize,
    ) -> Option<Walk<'next>> {
        let (mut shown_in, mut wanted) = (self.shown_in.clone(), Vec::new());
        for (text, path) in &self.wanted {
            match path {
                [position, rest @ ..] if is_here(position) => match rest {
                    [] => shown_in.push(*text),
                    rest => wanted.push((*text, rest)),
                },
                _ => {}
            }
        }
        let is_needed = !shown_in.is_empty() || !wanted.is_empty();
        let within = self.shown_in.len();
        let first = before == 0;
        is_needed.then_some(Walk { wanted, shown_in, within, first, key, texts: self.texts })
    }

    /// Begins to show this value: of several that have the position `-1`, the last one remains.
    fn begin(&mut self) {
        let (within, begun) = self.shown_in.split_at(self.within);
        for index in begun.iter().chain(self.wanted.iter().map(|(index, _)| index)) {
            self.texts[*index].clear();
        }
        for index in within {
            let shown = &mut self.texts[*index];
            if !self.first {
                push(shown, ", ");
            }
            if !self.key.is_empty() {
                push(shown, self.key);
                push(shown, "=");
            }
        }
    }

    fn show(&mut self, text: &str) {
        for index in &self.shown_in {
            push(&mut self.texts[*index], text);
        }
    }

    fn show_count(&mut self, count: usize) {
        for (index, path) in &self.wanted {
            if *path == [COUNT] {
                push(&mut self.texts[*index], &count.to_string());
            }
        }
    }
}

/// The position of the last element.
const LAST: &str = "-1";
/// The number of elements.
const COUNT: &str = "#";

/// The number that a position is, as [`usize`] writes it.
fn number(position: &str) -> Option<usize> {
    let is_number = position.starts_with(|first: char| first.is_ascii_digit());
    let is_padded = position.len() > 1 && position.starts_with('0');
    position.parse().ok().filter(|_| is_number && !is_padded)
}

/// Appends as much as a field may have.
fn push(field: &mut String, text: &str) {
    let room = MAX_FIELD_BYTES.saturating_sub(field.len());
    field.push_str(&text[..text.floor_char_boundary(room)]);
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        self.begin();
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        self.show(text);
        Ok(())
    }

    fn visit_bool<E>(mut self, value: bool) -> Result<(), E> {
        self.show(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        self.show(&value.to_string());
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.show(&value.to_string());
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        self.show(&value.to_string());
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let mut count = 0;
        loop {
            let is_here = |position: &str| position == LAST || number(position) == Some(count);
            let found = match self.element(is_here, "", count) {
                Some(walk) => elements.next_element_seed(walk)?.is_some(),
                None => elements.next_element::<IgnoredAny>()?.is_some(),
            };
            if !found {
                break;
            }
            count += 1;
        }
        self.show_count(count);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(key) = entries.next_key::<Cow<'_, str>>()? {
            match self.element(|wanted| wanted == key, &key, count) {
                Some(walk) => entries.next_value_seed(walk)?,
                None => drop(entries.next_value::<IgnoredAny>()?),
            }
            count += 1;
        }
        self.show_count(count);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r##"{"a":{"b":"text","n":1,"f":0.5,"t":true,"z":null,"":"e"},
        "list":[{"k":"first"},{"k":"2nd","x":[1,2]},{"y":0}],"#":"sharp","deep":[[["x"]]]}"##;

    #[test]
    fn fields_are_found_by_their_paths() {
        for (path, text) in [
            ("a.b", "text"),
            ("a.n", "1"),
            ("a.f", "0.5"),
            ("a.t", "true"),
            ("a.z", ""),
            ("a.b.c", ""),
            ("none", ""),
            ("", ""),
            ("a", "b=text, n=1, f=0.5, t=true, z=, e"),
            ("list", "k=first, k=2nd, x=1, 2, y=0"),
            ("list.#", "3"),
            ("a.#", "6"),
            ("list.0.k", "first"),
            ("list.1.x.#", "2"),
            ("list.1.x.-1", "2"),
            ("list.-1", "y=0"),
            ("list.-1.k", ""),
            ("list.3", ""),
            ("list.00", ""),
            ("list.+1", ""),
            ("deep.0.0.0", "x"),
        ] {
            let found = Payload(JSON.as_bytes()).fields([path, "a.b", path]).expect("JSON");
            assert_eq!(found, [text, "text", text].map(str::to_owned), "{path}");
        }
    }

    #[test]
    fn a_field_is_bounded() {
        let json = format!("[{:?}, {}]", "é".repeat(MAX_FIELD_BYTES), "[1],".repeat(9999) + "2");
        let [first, all] = Payload(json.as_bytes()).fields(["0", "-1"]).expect("JSON");
        assert_eq!((first.len(), all.as_str()), (MAX_FIELD_BYTES, "2"));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = "[".repeat(100_000);
        for json in ["", "{", "{} x", "{\"a\":}", "\u{0}", deep.as_str()] {
            assert!(Payload(json.as_bytes()).fields(["a"]).is_err());
        }
        assert!(Payload(b"{\"a\":\"\xff\"}").fields(["a"]).is_err());
    }
}
