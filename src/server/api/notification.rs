//! The title, priority, tags and links of a notification, which are kept in the text of its message, so
//! that every reader shows them.
//!
//! `⚠️ [high] Disk is full` is a title with the tag `warning` and the priority 4; the message follows in
//! the next line, then `#other #tags`, and each link in a line of its own.

mod actions;
mod encoded_word;
mod parameters;

pub(crate) use self::{
    actions::{Actions, MAX_ACTIONS},
    parameters::{OF_STREAMS as STREAM_HEADERS, Parameter, Parameters},
};

use super::one_line::one_line;
use crate::{problem, server::error::Problem};

/// The most tags that are kept.
pub(crate) const MAX_TAGS: usize = 100;
/// The longest title, tag or link that is kept, in characters.
const MAX_FIELD: usize = 1024;

/// A notification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notification {
    pub(crate) title: String,
    pub(crate) priority: Priority,
    pub(crate) tags: Vec<String>,
    /// The address that a click on the notification opens.
    pub(crate) click: Option<String>,
    /// The addresses of attachments, and those that its buttons open.
    links: Vec<String>,
}

/// How urgent a notification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Priority {
    Min,
    Low,
    #[default]
    Default,
    High,
    Max,
}

/// The spellings of the priorities. None is the default.
pub(crate) const PRIORITIES: [&str; 12] =
    ["", "1", "2", "3", "4", "5", "min", "low", "default", "high", "max", "urgent"];

impl Priority {
    /// The number that ntfy has for it.
    pub(crate) fn number(self) -> u8 {
        self as u8 + 1
    }

    /// How a message begins that has it.
    fn label(self) -> Option<&'static str> {
        match self {
            Self::Min => Some("[min]"),
            Self::Low => Some("[low]"),
            Self::Default => None,
            Self::High => Some("[high]"),
            Self::Max => Some("[urgent]"),
        }
    }

    /// # Errors
    /// When the text is neither a number from 1 to 5 nor a name.
    fn parse(text: &str) -> Result<Self, Problem> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "min" => Ok(Self::Min),
            "2" | "low" => Ok(Self::Low),
            "" | "3" | "default" => Ok(Self::Default),
            "4" | "high" => Ok(Self::High),
            "5" | "max" | "urgent" => Ok(Self::Max),
            _ => Err(Problem::new(
                problem::MALFORMED_NOTIFICATION,
                "The priority is a number from 1 to 5, or min, low, default, high, max or urgent.",
            )),
        }
    }
}

impl Notification {
    /// The notification that these parameters describe.
    ///
    /// # Errors
    /// When one of them asks for what a message cannot have, or cannot be parsed.
    pub(crate) fn new(parameters: &Parameters) -> Result<Self, Problem> {
        parameters.refuse_unsupported()?;
        let text = |parameter| one_line(parameters.get(parameter), MAX_FIELD);
        let tags = parameters.get(Parameter::Tags).split(',').map(|tag| one_line(tag, MAX_FIELD));
        let mut notification = Self {
            title: text(Parameter::Title),
            priority: Priority::parse(parameters.get(Parameter::Priority).trim())?,
            tags: tags.filter(|tag| !tag.is_empty()).take(MAX_TAGS).collect(),
            click: Some(text(Parameter::Click)).filter(|click| !click.is_empty()),
            links: Vec::new(),
        };
        notification.add_links([parameters.get(Parameter::Attach)]);
        let Actions(links) = Actions::parse(parameters.get(Parameter::Actions));
        notification.add_links(links);
        Ok(notification)
    }

    /// Adds the addresses of attachments, or those that buttons open.
    pub(crate) fn add_links(&mut self, links: impl IntoIterator<Item = impl AsRef<str>>) {
        let links = links.into_iter().map(|link| one_line(link.as_ref(), MAX_FIELD));
        self.links.extend(links.filter(|link| !link.is_empty()));
    }

    /// Whether it is no more than its message.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The text of the message: `message`, unchanged where the notification has nothing else.
    pub(crate) fn text(&self, message: String) -> String {
        let (emojis, words): (Vec<_>, Vec<_>) =
            self.tags.iter().map(|tag| emoji(tag).ok_or(tag)).partition(Result::is_ok);
        let start: Vec<_> = emojis.into_iter().flatten().chain(self.priority.label()).collect();
        let words: Vec<_> =
            words.into_iter().filter_map(|word| Some(format!("#{}", word.err()?))).collect();
        let links: Vec<_> = self.click.iter().chain(&self.links).collect();
        if start.is_empty() && words.is_empty() && links.is_empty() && self.title.is_empty() {
            return message;
        }
        let mut text = start.join(" ");
        for (part, separator) in [(self.title.as_str(), " "), (message.trim_end(), "\n")] {
            // Where there is no title, the message begins in the first line.
            let separator = if self.title.is_empty() { " " } else { separator };
            if !text.is_empty() && !part.is_empty() {
                text += separator;
            }
            text += part;
        }
        let words = (!words.is_empty()).then(|| words.join(" "));
        for line in words.iter().chain(links) {
            if !text.is_empty() {
                text.push('\n');
            }
            text += line;
        }
        text
    }
}

/// The emoji whose short code is the tag.
fn emoji(tag: &str) -> Option<&'static str> {
    emojis::get_by_shortcode(tag).map(emojis::Emoji::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(parameters: &[(&str, &str)], message: &str) -> String {
        let mut given = Parameters::default();
        for (name, value) in parameters {
            let parameter = Parameter::of_name(name).expect("a parameter");
            given.set(parameter, (*value).to_owned());
        }
        Notification::new(&given).expect("a notification").text(message.to_owned())
    }

    #[test]
    fn everything_is_in_the_text() {
        for (parameters, message, expected) in [
            (&[][..], "plain\n", "plain\n"),
            (&[("p", "3"), ("md", "yes"), ("icon", "http://h/i")], " **plain**\n", " **plain**\n"),
            (&[("t", "Title")], "body\n", "Title\nbody"),
            (&[("t", "Title\nof two lines")], "", "Title of two lines"),
            (&[("t", "Title"), ("p", "5")], "body", "[urgent] Title\nbody"),
            (&[("p", "high")], "body\nand more", "[high] body\nand more"),
            (&[("p", "1")], "", "[min]"),
            (&[("ta", "warning, skull"), ("t", "T")], "b", "⚠️ 💀 T\nb"),
            (&[("ta", "backup,tada,db1")], "b", "🎉 b\n#backup #db1"),
            (&[("ta", ",,")], "b", "b"),
            (&[("click", "https://h/x")], "b", "b\nhttps://h/x"),
            (&[("a", "https://h/f.jpg"), ("f", "f.jpg")], "b", "b\nhttps://h/f.jpg"),
            (
                &[
                    ("click", "https://h/1"),
                    ("action", "http, Do, https://h/2; view, Open, https://h/3, clear=true"),
                ],
                "b",
                "b\nhttps://h/1\nhttps://h/3",
            ),
            (&[("action", "action=view, label=Go, url='https://h/4'")], "b", "b\nhttps://h/4"),
        ] {
            assert_eq!(text(parameters, message), expected, "{parameters:?}");
        }
    }

    #[test]
    fn tags_are_bounded() {
        let mut given = Parameters::default();
        given.set(Parameter::Tags, "a,".repeat(100_000));
        assert_eq!(Notification::new(&given).expect("a notification").tags.len(), MAX_TAGS);
    }

    #[test]
    fn what_a_message_cannot_have_is_refused() {
        for (name, value, refused) in [
            ("delay", "30m", true),
            ("at", "tomorrow", true),
            ("delay", "", false),
            ("email", "a@h", true),
            ("call", "yes", true),
            ("cache", "no", true),
            ("cache", "yes", false),
            ("template", "github", true),
            ("filename", "f.jpg", true),
            ("firebase", "no", false),
            ("up", "1", false),
            ("priority", "7", true),
            ("priority", "Normal", true),
        ] {
            let mut given = Parameters::default();
            given.set(Parameter::of_name(name).expect("a parameter"), value.to_owned());
            assert_eq!(Notification::new(&given).is_err(), refused, "{name}: {value}");
        }
    }
}
