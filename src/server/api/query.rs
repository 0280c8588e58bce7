//! Query parameters: an unknown one is an error that names it.
//!
//! Ignoring a misspelt parameter would change what the request means: a reader with a cursor would get
//! the stream from the beginning.

use axum::{
    extract::{FromRequestParts as _, Query},
    http::request::Parts,
};

use crate::{problem, server::error::Problem};

/// The values of the `known` parameters, in that order. A known name that has an underscore also matches
/// spellings that differ only in case, hyphens and underscores: clients write `last_event_id` as
/// `lastEventId` too.
///
/// # Errors
/// When a parameter is unknown or repeated, or when the query cannot be decoded.
pub(crate) async fn parameters<const N: usize>(
    parts: &mut Parts,
    known: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    Ok(parameters_and_lists(parts, known, []).await?.0)
}

/// The same, with the values of `lists`, which may be repeated.
///
/// # Errors
/// As [`parameters`].
pub(crate) async fn parameters_and_lists<const N: usize, const M: usize>(
    parts: &mut Parts,
    known: [&str; N],
    lists: [&str; M],
) -> Result<([Option<String>; N], [Vec<String>; M]), Problem> {
    let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, &()).await?;
    let mut values = [const { None }; N];
    let mut list_values = [const { Vec::new() }; M];
    for (name, value) in pairs {
        if let Some(at) = lists.iter().position(|list| matches_name(&name, list)) {
            list_values[at].push(value);
            continue;
        }
        let Some(at) = known.iter().position(|known| matches_name(&name, known)) else {
            return Err(unknown(&name, &[&known[..], &lists].concat()));
        };
        if values[at].replace(value).is_some() {
            return Err(malformed(format!("Send {} only once.", known[at])));
        }
    }
    Ok((values, list_values))
}

fn matches_name(name: &str, known: &str) -> bool {
    name == known || known.contains('_') && normalize(name) == normalize(known)
}

fn normalize(name: &str) -> String {
    name.replace(['-', '_'], "").to_ascii_lowercase()
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    let name: String = name.chars().take(64).collect();
    let known = known.join(", ");
    malformed(format!("The parameter {name:?} is unknown here. Known parameters: {known}."))
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(problem::MALFORMED_QUERY, detail)
}
