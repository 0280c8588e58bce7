//! The extractors of the stream names in the path of a request.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use super::error::Problem;
use crate::{
    message::{ParseStreamNameError, ParseStreamNamesError, StreamName, StreamNames},
    problem,
};

/// The name of a stream, from the path.
pub(crate) struct StreamPath(pub(crate) StreamName);

/// The names of streams to watch together, from the path.
pub(crate) struct StreamsPath(pub(crate) StreamNames);

impl<S: Send + Sync> FromRequestParts<S> for StreamPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        parse_name(&text(parts, state).await?).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for StreamsPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        parse_names(&text(parts, state).await?).map(Self)
    }
}

/// The names in the path as they are.
async fn text<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Problem> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    path.map(|Path(names)| names).map_err(|_| malformed_name(ParseStreamNamesError::Malformed))
}

/// Parses the name of a stream.
///
/// # Errors
/// When it is malformed, or there are several, even if they are the same.
pub(crate) fn parse_name(text: &str) -> Result<StreamName, Problem> {
    text.parse().map_err(|ParseStreamNameError| match parse_names(text) {
        Ok(_) => {
            let detail = "Name one stream. Several can be watched together, and nothing else.";
            Problem::new(problem::MALFORMED_NAME, detail)
        }
        Err(problem) => problem,
    })
}

/// Parses the names of streams to watch together.
///
/// # Errors
/// When one of them is malformed, or there are too many.
pub(crate) fn parse_names(text: &str) -> Result<StreamNames, Problem> {
    text.parse().map_err(malformed_name)
}

fn malformed_name(error: ParseStreamNamesError) -> Problem {
    let detail = match error {
        ParseStreamNamesError::Malformed => {
            "Use 1 to 64 of a-z, 0-9, hyphen, underscore and full stop, a letter or a digit first."
                .to_owned()
        }
        ParseStreamNamesError::TooMany => {
            format!("At most {} streams can be watched together.", StreamNames::MAX)
        }
    };
    Problem::new(problem::MALFORMED_NAME, detail)
}
