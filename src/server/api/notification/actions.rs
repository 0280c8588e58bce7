//! The buttons of a notification, of which a message keeps the addresses that they open.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{self, Deserializer, SeqAccess, Visitor},
};

use crate::server::api::json_object::JsonObject;

/// The most buttons that are read.
pub(crate) const MAX_ACTIONS: usize = 10;

/// The addresses that the `view` buttons open. What the other buttons do, only a phone can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actions(pub(crate) Vec<String>);

impl Actions {
    /// Parses the value of a header or of the query: a JSON array, or ntfy's short form, which is
    /// buttons separated by semicolons, each with fields separated by commas, the kind of button first.
    pub(super) fn parse(text: &str) -> Self {
        if text.trim_start().starts_with('[') {
            return serde_json::from_str(text).unwrap_or_default();
        }
        Self(text.split(';').filter_map(address).take(MAX_ACTIONS).collect())
    }
}

/// The address of a button in the short form, if it opens one.
fn address(action: &str) -> Option<String> {
    let mut fields = action.split(',').map(str::trim);
    let kind = fields.next()?;
    if kind.strip_prefix("action=").unwrap_or(kind) != "view" {
        return None;
    }
    let values = fields.map(|field| field.strip_prefix("url=").unwrap_or(field));
    let mut values = values.map(|value| value.trim_matches(['"', '\'']));
    values.find(|value| value.contains("://")).map(str::to_owned)
}

/// A button in JSON.
#[derive(Deserialize)]
struct Action<'json> {
    #[serde(borrow, default)]
    action: Option<Cow<'json, str>>,
    #[serde(borrow, default)]
    url: Option<Cow<'json, str>>,
}

impl<'de> Deserialize<'de> for Actions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ActionsVisitor)
    }
}

struct ActionsVisitor;

impl<'de> Visitor<'de> for ActionsVisitor {
    type Value = Actions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_ACTIONS} actions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut actions: A) -> Result<Actions, A::Error> {
        let mut addresses = Vec::new();
        let mut count = 0;
        while let Some(JsonObject(Action { action, url })) = actions.next_element()? {
            count += 1;
            if count > MAX_ACTIONS {
                return Err(de::Error::invalid_length(count, &self));
            }
            let is_view = action.is_some_and(|action| action == "view");
            addresses.extend(url.filter(|url| is_view && !url.is_empty()).map(Cow::into_owned));
        }
        Ok(Actions(addresses))
    }
}
