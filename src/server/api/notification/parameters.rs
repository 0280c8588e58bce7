//! The parameters of a notification, by the names that ntfy documents: as headers, with or without `X-`,
//! in the query, or as fields of a JSON object.

use axum::http::HeaderMap;

use super::{Priority, encoded_word};
use crate::{problem, server::error::Problem};

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    Message,
    Title,
    Priority,
    Tags,
    Click,
    Attach,
    Actions,
    Filename,
    Delay,
    Email,
    Call,
    Cache,
    Template,
    /// Without effect on the text of a message: Markdown is readable as it is, and the others are about
    /// how a phone receives and shows it.
    Ignored,
}

/// How many parameters there are.
const COUNT: usize = Parameter::Ignored as usize + 1;

/// The names of each parameter. As a header, a name may begin with `x-`.
const NAMES: [(Parameter, &[&str]); COUNT] = [
    (Parameter::Message, &["message", "m"]),
    (Parameter::Title, &["title", "ti", "t"]),
    (Parameter::Priority, &["priority", "prio", "p"]),
    (Parameter::Tags, &["tags", "tag", "ta"]),
    (Parameter::Click, &["click"]),
    (Parameter::Attach, &["attach", "a"]),
    (Parameter::Actions, &["actions", "action"]),
    (Parameter::Filename, &["filename", "file", "f"]),
    (Parameter::Delay, &["delay", "at", "in"]),
    (Parameter::Email, &["email", "e-mail", "mail", "e"]),
    (Parameter::Call, &["call"]),
    (Parameter::Cache, &["cache"]),
    (Parameter::Template, &["template", "tpl"]),
    (
        Parameter::Ignored,
        &[
            "markdown",
            "md",
            "icon",
            "firebase",
            "unifiedpush",
            "up",
            "poll-id",
            "sequence-id",
            "sid",
        ],
    ),
];

/// The headers that have an effect at `/streams/{name}`, whose requests need not be meant for ntfy: no short
/// names, and none with `X-`, which programs and proxies add for reasons of their own.
pub(crate) const OF_STREAMS: [(&str, Parameter); 6] = [
    ("title", Parameter::Title),
    ("priority", Parameter::Priority),
    ("tags", Parameter::Tags),
    ("click", Parameter::Click),
    ("attach", Parameter::Attach),
    ("actions", Parameter::Actions),
];

impl Parameter {
    /// The parameter of this name, in lower case.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("x-").unwrap_or(name);
        NAMES.iter().find(|(_, names)| names.contains(&name)).map(|(parameter, _)| *parameter)
    }

    /// Its name, and the other ones.
    pub(crate) fn names(self) -> (&'static str, &'static [&'static str]) {
        let names = NAMES.iter().find(|(parameter, _)| *parameter == self);
        let (name, others) = names.and_then(|(_, names)| names.split_first()).unwrap_or((&"", &[]));
        (name, others)
    }

    /// The names that a query may have.
    fn all_names() -> String {
        NAMES.iter().map(|(_, names)| names.join(", ")).collect::<Vec<_>>().join(", ")
    }
}

/// The values of the parameters of a notification.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters([String; COUNT]);

impl Parameters {
    /// The parameters among the headers of a request that publishes as to ntfy.
    ///
    /// `X-Email` and `X-Call` are none: proxies that sign people in add the first one to every request, and
    /// it would be refused.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let mut parameters = Self::default();
        for (name, value) in headers {
            let Some(parameter) = Parameter::of_name(name.as_str()) else { continue };
            let is_unsupported = matches!(parameter, Parameter::Email | Parameter::Call);
            if is_unsupported && name.as_str().starts_with("x-") {
                continue;
            }
            let value = encoded_word::header_text(value.as_bytes());
            if parameter != Parameter::Priority || !is_of_request(&value) {
                parameters.fill(parameter, value);
            }
        }
        parameters
    }

    /// The parameters among the headers of a request to `/streams/{name}`: those in [`OF_STREAMS`]. Nothing
    /// there is refused; a priority that cannot be parsed has no effect.
    pub(crate) fn from_stream_headers(headers: &HeaderMap) -> Self {
        let mut parameters = Self::default();
        for (name, parameter) in OF_STREAMS {
            let Some(value) = headers.get(name) else { continue };
            let value = encoded_word::header_text(value.as_bytes());
            if parameter != Parameter::Priority || Priority::parse(value.trim()).is_ok() {
                parameters.set(parameter, value);
            }
        }
        parameters
    }

    /// Adds the parameters of a query that the headers do not have.
    ///
    /// # Errors
    /// When a parameter is unknown.
    pub(crate) fn add_query(&mut self, pairs: Vec<(String, String)>) -> Result<(), Problem> {
        for (name, value) in pairs {
            let Some(parameter) = Parameter::of_name(&name) else { return Err(unknown(&name)) };
            self.fill(parameter, value);
        }
        Ok(())
    }

    /// The value of a parameter; empty if it has none.
    pub(crate) fn get(&self, parameter: Parameter) -> &str {
        &self.0[parameter as usize]
    }

    /// Takes the message that came as a parameter. There, `\n` stands for a line break, which a header
    /// cannot hold.
    pub(crate) fn take_message(&mut self) -> String {
        std::mem::take(&mut self.0[Parameter::Message as usize]).replace("\\n", "\n")
    }

    /// Sets the value of a parameter.
    pub(crate) fn set(&mut self, parameter: Parameter, value: String) {
        self.0[parameter as usize] = value;
    }

    /// Sets the value of a parameter that has none.
    fn fill(&mut self, parameter: Parameter, value: String) {
        let current = &mut self.0[parameter as usize];
        if current.is_empty() {
            *current = value;
        }
    }

    /// # Errors
    /// When a parameter asks for what no message has. The sender relies on it, so it is not ignored.
    pub(super) fn refuse_unsupported(&self) -> Result<(), Problem> {
        let given = |parameter| !self.get(parameter).trim().is_empty();
        let is_off = |parameter| ["no", "false", "0"].contains(&self.get(parameter).trim());
        let detail = if given(Parameter::Delay) {
            "A message is published at once: leave out the delay (Delay, At, In)."
        } else if given(Parameter::Email) || given(Parameter::Call) {
            "This server sends no e-mail and makes no calls: leave out Email and Call."
        } else if given(Parameter::Cache) && is_off(Parameter::Cache) {
            "Every message is stored: leave out Cache. Delete the stream to delete its messages."
        } else if given(Parameter::Template) && !is_off(Parameter::Template) {
            "Templates are for webhooks: POST the JSON to the webhook of the stream, with ?show=."
        } else if given(Parameter::Filename) && !given(Parameter::Attach) {
            "Files are not stored: send text without Filename, or the address of the file as Attach."
        } else {
            return Ok(());
        };
        Err(Problem::new(problem::UNSUPPORTED_NOTIFICATION, detail))
    }
}

/// Whether a priority is that of the request (RFC 9218), which browsers and proxies send: `u=1, i`.
fn is_of_request(priority: &str) -> bool {
    priority
        .split([',', ';'])
        .map(str::trim)
        .any(|part| part == "i" || part.starts_with("i=") || part.starts_with("u="))
}

fn unknown(name: &str) -> Problem {
    let detail = if name == "auth" {
        "A token is not accepted in an address, which ends up in logs: send it in the Authorization \
         header."
            .to_owned()
    } else {
        let name: String = name.chars().take(64).collect();
        let known = Parameter::all_names();
        format!("The parameter {name:?} is unknown here. Known parameters: {known}.")
    };
    Problem::new(problem::MALFORMED_QUERY, detail)
}
