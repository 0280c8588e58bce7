//! The template in `?show=`: text with the paths of fields in braces, `{name} is {status.text}`.

use super::payload::Payload;
use crate::{
    problem,
    server::{api::one_line::one_line, error::Problem},
};

/// The most fields of a template.
const MAX_FIELDS: usize = 32;
/// The most characters of a field in a line.
const MAX_FIELD: usize = 500;
/// The most characters of a line.
const MAX_LINE: usize = 2000;

/// A template.
pub(super) struct Template {
    /// The text before each field, and the path of the field.
    fields: Vec<(String, String)>,
    /// The text after the last field.
    rest: String,
}

impl Template {
    /// Parses a template. `{{` and `}}` are braces themselves.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut fields, mut before) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            before += &rest[..at];
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                before += brace;
                rest = after;
                continue;
            }
            let field = after.split_once('}').filter(|_| brace == "{");
            let Some((path, after)) = field.filter(|(path, _)| !path.contains('{')) else {
                return Err("Close each { of ?show= with }; write {{ or }} for a brace.".to_owned());
            };
            if path.trim().is_empty() {
                return Err("Name a field between { and } of ?show=.".to_owned());
            }
            fields.push((std::mem::take(&mut before), path.trim().to_owned()));
            rest = after;
        }
        if fields.len() > MAX_FIELDS {
            return Err(format!("Use at most {MAX_FIELDS} fields in ?show=."));
        }
        Ok(Self { fields, rest: before + rest })
    }

    /// The line that the template makes of a payload.
    ///
    /// # Errors
    /// When the payload is not JSON, or the line is empty.
    pub(super) fn fill(&self, payload: Payload<'_>) -> Result<String, Problem> {
        let paths: Vec<&str> = self.fields.iter().map(|(_, path)| path.as_str()).collect();
        let mut line = String::new();
        for ((before, _), text) in self.fields.iter().zip(payload.read(&paths)?) {
            line += before;
            line += &one_line(&text, MAX_FIELD);
        }
        line += &self.rest;
        let line = one_line(&line, MAX_LINE);
        if line.is_empty() {
            let detail =
                format!("The payload has none of the fields of ?show=: {}.", paths.join(", "));
            return Err(Problem::new(problem::MALFORMED_PAYLOAD, detail));
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled() {
        let json = br#"{"a":{"b":"x\ny"},"n":3,"l":["p","q"]}"#;
        for (template, line) in [
            ("{a.b}", "x y"),
            ("{ n } of {l.#}: {l}", "3 of 2: p, q"),
            ("{{n}} {{{n}}}", "{n} {3}"),
            ("no field", "no field"),
            ("[{none}] {l.0}", "[] p"),
        ] {
            let template = Template::parse(template).expect("a template");
            assert_eq!(template.fill(Payload(json)).expect("a line"), line);
        }
        let empty = Template::parse("{none}").expect("a template");
        assert!(empty.fill(Payload(json)).is_err());
    }

    #[test]
    fn a_malformed_template_is_refused() {
        let many = "{a}".repeat(MAX_FIELDS + 1);
        for template in ["{", "}", "{a", "a}", "{}", "{ }", "{a{b}}", &many] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
