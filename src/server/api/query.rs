//! Query parameters: what is not known is refused by name.
//!
//! A parameter that is misspelt would otherwise be ignored, and its request mean something else: a
//! reader with a cursor would be sent everything from the beginning.

use axum::{
    extract::{FromRequestParts as _, Query},
    http::request::Parts,
};

use crate::{problem, server::error::Problem};

/// The values of the parameters that are `known`, in their order. A parameter counts as known in each
/// spelling that differs only in case, hyphens and underscores from one that has an underscore: clients
/// write `last_event_id` as `lastEventId` too.
///
/// # Errors
/// When a parameter is unknown, is given twice, or cannot be read.
pub(crate) async fn parameters<const N: usize>(
    parts: &mut Parts,
    known: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, &()).await?;
    let mut values = [const { None }; N];
    for (name, value) in pairs {
        let Some(at) = known.iter().position(|known| is_spelling_of(&name, known)) else {
            return Err(unknown(&name, &known));
        };
        if values[at].replace(value).is_some() {
            return Err(malformed(format!("Give {} once.", known[at])));
        }
    }
    Ok(values)
}

fn is_spelling_of(name: &str, known: &str) -> bool {
    name == known || known.contains('_') && letters(name) == letters(known)
}

fn letters(name: &str) -> String {
    name.replace(['-', '_'], "").to_ascii_lowercase()
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    let name: String = name.chars().take(64).collect();
    let known = known.join(", ");
    malformed(format!("There is no parameter {name:?} here. Known: {known}."))
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(problem::MALFORMED_QUERY, detail)
}
