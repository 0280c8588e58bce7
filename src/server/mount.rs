//! Mounts the routes below the base path (`--base-path`): the base is removed from each request before
//! it is routed, and put before each address in its response.
//!
//! Behind this, nothing but [`address`] knows of it. It holds for the task that handles a request, so
//! that problem responses, which are made without any state, find it too.

use std::convert::Infallible;

use axum::{Router, extract::Request, http::uri::PathAndQuery, response::Response};
use tower::{Service, ServiceExt as _};

use crate::base_path::BasePath;

tokio::task_local! {
    /// The base path of the server that handles the current request.
    static BASE_PATH: BasePath;
}

/// The base path of the server that handles the current request.
pub(crate) fn base_path() -> BasePath {
    BASE_PATH.try_with(BasePath::clone).unwrap_or_default()
}

/// The address of what this server has at `path`, as a client requests it.
pub(crate) fn address(path: &str) -> String {
    base_path().address(path)
}

/// Serves `inside` below a base path, and `outside` beside it.
pub(crate) fn mount<S>(base: BasePath, inside: S, outside: Router) -> Router
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    if base.is_root() {
        return Router::new().fallback_service(inside);
    }
    Router::new().fallback(async move |mut request: Request| {
        let is_inside = strip(&base, &mut request);
        let response = async {
            // Neither fails.
            let Ok(response) = if is_inside {
                inside.oneshot(request).await
            } else {
                outside.oneshot(request).await
            };
            response
        };
        BASE_PATH.scope(base, response).await
    })
}

/// Removes the base from the path of a request; `false` if the path does not begin with it.
fn strip(base: &BasePath, request: &mut Request) -> bool {
    let Some(address) = request.uri().path_and_query() else { return false };
    let Some(path) = base.strip(address.path()) else { return false };
    let query = address.query().map(|query| format!("?{query}")).unwrap_or_default();
    // What remains of a valid path is valid.
    let Ok(path) = PathAndQuery::try_from(format!("{path}{query}")) else { return false };
    let mut uri = request.uri().clone().into_parts();
    uri.path_and_query = Some(path);
    let Ok(uri) = uri.try_into() else { return false };
    *request.uri_mut() = uri;
    true
}
