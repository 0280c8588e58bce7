//! Signing in and out: a cookie keeps the token.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{Loaded, Pages, wants_page};
pub(crate) use crate::app::sign_in::{SIGN_IN, SIGN_OUT};
use crate::{
    app::Page,
    problem,
    server::{
        api::{body::ReadBody, response::PAGE_COST},
        client::Client,
        error::Problem,
        guard::{Identity, access},
        mount,
    },
};

/// The path to go to when a form does not say, or gives no address of this server.
pub(super) const HOME: &str = "/streams";
/// The path of the form.
const FORM_PATH: &str = "/sign-in";
/// The most bytes of a form, which holds a token and a path.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// The fields of the forms.
#[derive(Debug, Deserialize)]
struct Fields {
    /// The token, to sign in.
    token: Option<String>,
    /// The path to go to afterwards.
    to: String,
}

/// `POST /api/sign-in`
pub(crate) async fn sign_in(
    State(pages): State<Arc<Pages>>,
    client: Client,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(problem) = pages.limits.sign_in(client.address) {
        return pages.refused_sign_in(parts, "", problem).await;
    }
    let Fields { token, to } = match pages.read_sign_in(client, body).await {
        Ok(fields) => fields,
        Err(problem) => return pages.refused_sign_in(parts, "", problem).await,
    };
    let Some(token) = token else {
        return pages.refused_sign_in(parts, &to, malformed()).await;
    };
    // One that was copied may have brought the end of its line along.
    match pages.cookies(token.trim(), &parts, client) {
        Ok(cookies) => respond(&parts, &to, cookies),
        Err(problem) => pages.refused_sign_in(parts, &to, problem).await,
    }
}

/// `POST /api/sign-out`
pub(crate) async fn sign_out(
    State(pages): State<Arc<Pages>>,
    client: Client,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    match pages.read_sign_in(client, body).await {
        Ok(Fields { to, .. }) => {
            let cookies = pages.access.sign_out_cookies(&parts.headers, client.secure);
            respond(&parts, &to, cookies)
        }
        Err(problem) => pages.refused_sign_in(parts, "", problem).await,
    }
}

fn respond(parts: &Parts, to: &str, cookies: Vec<HeaderValue>) -> Response {
    let mut response = if wants_page(parts) {
        Redirect::to(&safe_local_path(Some(to))).into_response()
    } else {
        StatusCode::NO_CONTENT.into_response()
    };
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn malformed() -> Problem {
    Problem::new(problem::MALFORMED_FORM, "Send the fields token and to.")
}

fn too_large() -> Problem {
    let detail = format!("A token with its form has at most {MAX_FORM_BYTES} bytes; is this one?");
    Problem::new(problem::MESSAGE_TOO_LARGE, detail)
}

impl Pages {
    async fn read_sign_in(&self, client: Client, body: Body) -> Result<Fields, Problem> {
        let bodies = &self.publishing.bodies;
        let ReadBody { bytes, .. } = bodies.read(client, body, MAX_FORM_BYTES, too_large).await?;
        serde_urlencoded::from_bytes(&bytes).map_err(|_| malformed())
    }

    /// The cookies for a browser that shows this token.
    ///
    /// # Errors
    /// When it is no good, or larger than browsers keep.
    fn cookies(
        &self,
        token: &str,
        parts: &Parts,
        client: Client,
    ) -> Result<Vec<HeaderValue>, Problem> {
        match self.access.verify(token) {
            Identity::Authenticated(_) => self.access.sign_in_cookies(token, client.secure),
            // A server that asks for no token has none to keep.
            Identity::Unrestricted => {
                Ok(self.access.sign_out_cookies(&parts.headers, client.secure))
            }
            Identity::Anonymous(error) => Err(access::unauthorized(&error)),
        }
    }

    /// Says why: to a browser with the form once more.
    async fn refused_sign_in(
        self: &Arc<Self>,
        parts: Parts,
        to: &str,
        problem: Problem,
    ) -> Response {
        if !wants_page(&parts) {
            return problem.into_response();
        }
        let problem = problem.for_page();
        let page = Page::SignIn {
            to: safe_local_path(Some(to)),
            notice: None,
            refused: Some(problem.detail().to_owned()),
        };
        let loaded = Loaded { page, path: mount::address(FORM_PATH), problem: Some(problem) };
        self.respond(Request::from_parts(parts, Body::empty()), PAGE_COST, Some(loaded)).await
    }
}

/// An address of this server, so that a link to our form cannot lead to another site (open redirect).
pub(super) fn safe_local_path(to: Option<&str>) -> String {
    // Browsers take a backslash for a slash, and leave out tabs and line breaks.
    let is_plain = |to: &&str| to.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let to = to.filter(is_plain).filter(|to| to.starts_with('/') && !to.starts_with("//"));
    let is_ours = |to: &&str| mount::base_path().strip(to).is_some();
    to.filter(is_ours).map_or_else(|| mount::address(HOME), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_does_not_lead_to_another_site() {
        for to in ["/", "/streams/ci?at=1-2", "/streams/a#b", "/a//b"] {
            assert_eq!(safe_local_path(Some(to)), to);
        }
        for to in [
            "",
            "//evil",
            "https://evil",
            "/\\evil",
            "\\\\evil",
            "/\t/evil",
            " //evil",
            "evil",
            "/ü",
            "/a\r\nb",
        ] {
            assert_eq!(safe_local_path(Some(to)), HOME, "{to:?}");
        }
        assert_eq!(safe_local_path(None), HOME);
    }
}
