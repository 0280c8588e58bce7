//! Filters: the words that a text must contain, and those that it must not contain.
//!
//! Letters match in upper and lower case, of all scripts that have both (the lower case of Unicode, without
//! the rules of a language; all three small sigmas are one letter). Nothing else is equal: an accented letter
//! is not the letter without the accent, nor the same letter written as two characters. Escape sequences are
//! left out of a text before it is matched.
//!
//! The server searches the history with filters. The page filters its rows by the same rules, in
//! `public/find.js`: what is changed here is changed there.

use crate::escapes::strip;

/// The most words of a filter.
pub const MAX_WORDS: usize = 16;
/// The most bytes of all words of a filter.
pub const MAX_BYTES: usize = 512;

/// Words and phrases that a text must contain, and those that it must not contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// In lower case, as are the others.
    contains: Vec<String>,
    excludes: Vec<String>,
}

/// Why words are not a [`Filter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// A word is empty: every text contains it.
    EmptyWord,
    /// There are more than [`MAX_WORDS`].
    TooManyWords,
    /// Together they have more than [`MAX_BYTES`].
    TooLong,
}

impl Filter {
    /// A filter of words, each taken as it is, white space included.
    ///
    /// # Errors
    /// When a word is empty, or there are too many, or they are too long.
    pub fn new(contains: &[String], excludes: &[String]) -> Result<Self, FilterError> {
        let words = || contains.iter().chain(excludes);
        if words().any(String::is_empty) {
            return Err(FilterError::EmptyWord);
        }
        if words().count() > MAX_WORDS {
            return Err(FilterError::TooManyWords);
        }
        if words().map(String::len).sum::<usize>() > MAX_BYTES {
            return Err(FilterError::TooLong);
        }
        let fold_all = |words: &[String]| words.iter().map(|word| fold(word)).collect();
        Ok(Self { contains: fold_all(contains), excludes: fold_all(excludes) })
    }

    /// Parses what people type: words between white space, and `"phrases in quotes"`; those after a hyphen,
    /// `-word` or `-"a phrase"`, are those that a text must not contain. What is not finished yet (a hyphen
    /// alone, quotes without a text) is left out, and a phrase without its closing quote goes on to the end.
    ///
    /// # Errors
    /// When there are too many words, or they are too long.
    pub fn parse(typed: &str) -> Result<Self, FilterError> {
        let (mut contains, mut excludes) = (Vec::new(), Vec::new());
        let mut rest = typed.trim_start();
        while !rest.is_empty() {
            let unsigned = rest.strip_prefix('-');
            let words = if unsigned.is_some() { &mut excludes } else { &mut contains };
            let word_on = unsigned.unwrap_or(rest);
            let (word, after) = match word_on.strip_prefix('"') {
                Some(phrase) => phrase.split_once('"').unwrap_or((phrase, "")),
                None => word_on.split_once(char::is_whitespace).unwrap_or((word_on, "")),
            };
            if !word.is_empty() {
                words.push(word.to_owned());
            }
            rest = after.trim_start();
        }
        Self::new(&contains, &excludes)
    }

    /// Whether every text matches.
    pub fn is_empty(&self) -> bool {
        self.contains.is_empty() && self.excludes.is_empty()
    }

    /// Whether a text contains every word that it must, and none that it must not.
    pub fn matches(&self, text: &str) -> bool {
        let folded = if text.contains('\x1b') { fold(&strip(text)) } else { fold(text) };
        self.contains.iter().all(|word| folded.contains(word))
            && !self.excludes.iter().any(|word| folded.contains(word))
    }
}

/// A text in lower case, character by character: the lower case of a sigma would depend on its place.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let lower = text.chars().flat_map(char::to_lowercase);
    lower.map(|c| if c == 'ς' { 'σ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn filter(typed: &str) -> Filter {
        Filter::parse(typed).expect("a filter")
    }

    /// The same table is in `end2end/tests/find.spec.ts`, for the page.
    #[test]
    fn what_people_type_is_parsed() {
        for (typed, contains, excludes) in [
            ("", &[][..], &[][..]),
            ("  ", &[], &[]),
            ("error", &["error"], &[]),
            (" Error\t WARN ", &["error", "warn"], &[]),
            ("error -debug", &["error"], &["debug"]),
            ("\"a phrase\" -\"not  this\" word", &["a phrase", "word"], &["not  this"]),
            ("\"-v\" --verbose", &["-v"], &["-verbose"]),
            ("a-b a\"b c\"", &["a-b", "a\"b", "c\""], &[]),
            ("\"a\"b", &["a", "b"], &[]),
            // as one types
            ("error -", &["error"], &[]),
            ("error -\"", &["error"], &[]),
            ("\"\" -\"\" -", &[], &[]),
            ("\"no end ", &["no end "], &[]),
        ] {
            let parsed = Filter::new(&words(contains), &words(excludes)).expect("a filter");
            assert_eq!(filter(typed), parsed, "{typed:?}");
            assert_eq!(filter(typed).is_empty(), contains.is_empty() && excludes.is_empty());
        }
    }

    #[test]
    fn a_text_matches_by_all_its_words() {
        for (typed, text, expected) in [
            ("", "anything", true),
            ("ERR conn", "connection: Error", true),
            ("err conn", "Error", false),
            ("err -conn", "Error", true),
            ("err -conn", "connection: Error", false),
            ("-conn", "", true),
            ("\"a b\"", "a b", true),
            ("\"a b\"", "a  b", false),
            ("straße ΣΊΣΥΦΟΣ", "STRASSE Σίσυφος", false),
            ("ΣΊΣΥΦΟΣ Éa", "Σίσυφος: éA", true),
            ("i̇stanbul", "İSTANBUL", true),
            ("e", "é", false),
            ("error:", "\x1b[31mer\x1b[1mror\x1b[0m: no", true),
            ("31m", "\x1b[31merror", false),
            ("-31m", "\x1b[31merror", true),
        ] {
            assert_eq!(filter(typed).matches(text), expected, "{typed:?} in {text:?}");
        }
    }

    #[test]
    fn what_cannot_be_searched_for_is_refused() {
        let many = |count| vec!["x".to_owned(); count];
        let empty = [String::new()];
        assert_eq!(Filter::new(&empty, &[]), Err(FilterError::EmptyWord));
        assert_eq!(Filter::new(&[], &empty), Err(FilterError::EmptyWord));
        assert!(Filter::new(&many(MAX_WORDS - 1), &many(1)).is_ok());
        assert_eq!(Filter::new(&many(MAX_WORDS), &many(1)), Err(FilterError::TooManyWords));
        assert!(Filter::parse(&"x".repeat(MAX_BYTES)).is_ok());
        assert_eq!(Filter::parse(&"x".repeat(MAX_BYTES + 1)), Err(FilterError::TooLong));
    }

    proptest! {
        #[test]
        fn a_text_contains_each_part_of_itself_in_any_case(
            text in "\\PC{1,20}", from in 0..20_usize, length in 1..20_usize,
        ) {
            let part: String = text.chars().skip(from).take(length).collect();
            prop_assume!(!part.is_empty());
            let parts = [part.clone()];
            prop_assert!(Filter::new(&parts, &[]).expect("a filter").matches(&text));
            prop_assert!(!Filter::new(&[], &parts).expect("a filter").matches(&text));
            let typed = Filter::parse(&part);
            prop_assert!(typed.is_ok());
        }
    }
}
