//! The pages: loading, rendering, forms and files. The only room that knows the app.

pub(crate) mod explain;
pub(crate) mod files;
pub(crate) mod forms;
mod load;
pub(crate) mod sign_in;

use std::{
    num::NonZeroU32,
    sync::{Arc, OnceLock},
};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header, header::InvalidHeaderValue, request::Parts},
    response::Response,
};
use leptos::{
    nonce::use_nonce,
    prelude::{IntoAny as _, expect_context, provide_context},
};
use leptos_axum::{
    AxumRouteListing, ResponseOptions, generate_route_list, render_app_async_with_context,
};

use super::{
    api::{
        content_encoding::Uncompressed,
        counter::Counter,
        publishing::Publishing,
        response::{self, LIST_COST, PAGE_COST, Responses},
        streams::{ListFormat, Listing},
    },
    client::{self, Client},
    error::Problem,
    guard::{Access, Identity, Limits, security_headers, security_headers::FrameAncestors},
    hub::Hub,
    log::Log,
    mount, openapi,
    site::{BuiltFiles, Site},
    stream_list::StreamList,
};
use crate::{
    app::{self, Address, App, AppProps, Assets, LoadPage, Page, PageContext, StyleSheet},
    problem,
};

/// The path of the list of the streams.
pub(crate) const STREAMS: &str = "/streams";
/// Shown to one visitor, as it is now; and not for proxies to rewrite (RFC 9110, section 7.7), since
/// the page hydrates what was sent.
const CACHING: &str = "private, no-cache, no-transform";

/// The parts of the server that pages are loaded from and rendered with.
pub(crate) struct Pages {
    pub(crate) access: Access,
    pub(crate) counter: Counter,
    pub(crate) frame_ancestors: FrameAncestors,
    pub(crate) hub: Hub,
    pub(crate) limits: Limits,
    pub(crate) list: StreamList,
    pub(crate) log: Log,
    pub(crate) publishing: Arc<Publishing>,
    pub(crate) responses: Responses,
    pub(crate) site: Arc<Site>,
}

/// A loaded page.
#[derive(Clone)]
struct Loaded {
    page: Page,
    /// The address of the page, with its query.
    path: String,
    /// The problem that gives the response its status and headers, if there is one.
    problem: Option<Problem>,
}

/// A request for a page.
struct Visit {
    pages: Arc<Pages>,
    client: Client,
    identity: Identity,
    context: PageContext,
    /// Shown in place of the page at the address.
    instead: Option<Loaded>,
    /// The problem that the page shows, once it is loaded.
    problem: OnceLock<Problem>,
}

/// The paths of all pages, as the app's router has them.
pub(crate) fn paths(site: &Site) -> Vec<AxumRouteListing> {
    // Leptos spawns on tokio. A second call has no effect.
    let _ = any_spawner::Executor::init_tokio();
    let options = site.leptos_options().clone();
    generate_route_list(move || App(AppProps { options: options.clone() }))
}

/// `GET` of every page but one.
pub(crate) async fn page(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    pages.respond(request, PAGE_COST, None).await
}

/// `GET /streams`: a page, or for programs JSON or an event stream.
pub(crate) async fn streams(
    State(pages): State<Arc<Pages>>,
    State(listing): State<Listing>,
    request: Request,
) -> Response {
    match ListFormat::accepted(request.headers()) {
        ListFormat::Page => pages.respond(request, LIST_COST, None).await,
        ListFormat::Json => listing.json(request).await,
        ListFormat::Events => listing.events(request).await,
    }
}

impl Pages {
    /// The response with the page at the address of a request, or with the one in `instead`: within the
    /// read rate and the memory budget.
    async fn respond(
        self: &Arc<Self>,
        request: Request,
        cost: NonZeroU32,
        instead: Option<Loaded>,
    ) -> Response {
        let client = Client::from_extensions(request.extensions());
        let accept_encoding = response::accept_encoding(request.headers());
        let page = self.render(request, instead);
        self.responses.within_limits(client, accept_encoding, cost, page).await
    }

    /// Renders a page. A page that has failed requests itself as `text/plain`, so that a proxy which
    /// rewrites pages leaves it as it is.
    async fn render(self: &Arc<Self>, request: Request, instead: Option<Loaded>) -> Response {
        let (parts, body) = request.into_parts();
        let as_text =
            parts.headers.get(header::ACCEPT).is_some_and(|accept| accept == "text/plain");
        let visit = Arc::new(self.visit(&parts, as_text, instead));
        let load: LoadPage = {
            let visit = Arc::clone(&visit);
            Arc::new(move |address| {
                let visit = Arc::clone(&visit);
                Box::pin(async move { visit.load(address).await })
            })
        };
        let is_watched = self.site.is_watched();
        let frame_ancestors = self.frame_ancestors.clone();
        let context = move || {
            provide_context(Arc::clone(&load));
            let response = expect_context::<ResponseOptions>();
            response.insert_header(header::CACHE_CONTROL, HeaderValue::from_static(CACHING));
            let policy = use_nonce().map(|nonce| {
                security_headers::content_security_policy(&nonce, is_watched, &frame_ancestors)
            });
            if let Some(Ok(policy)) = policy {
                response.insert_header(header::CONTENT_SECURITY_POLICY, policy);
            }
        };
        let options = self.site.leptos_options().clone();
        let app = move || App(AppProps { options: options.clone() }).into_any();
        let is_start = parts.uri.path() == "/";
        let may_compress = parts.uri.query().is_none_or(is_plain);
        let request = Request::from_parts(parts, body);
        let mut page = render_app_async_with_context(context, app)(request).await;
        page.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
        if is_start && let Ok(link) = link_to_description() {
            page.headers_mut().insert(header::LINK, link);
        }
        if as_text {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            page.headers_mut().insert(header::CONTENT_TYPE, text);
        }
        if !may_compress {
            page.extensions_mut().insert(Uncompressed);
        }
        if let Some(problem) = visit.problem.get() {
            problem.apply_to(&mut page);
        }
        page
    }

    fn visit(self: &Arc<Self>, parts: &Parts, as_text: bool, instead: Option<Loaded>) -> Visit {
        let client = Client::from_extensions(&parts.extensions);
        let identity = self.access.identify(&parts.headers, client);
        let visitor = match &identity {
            Identity::Unrestricted => app::Visitor::Unrestricted,
            Identity::Anonymous(_) => app::Visitor::Anonymous,
            Identity::Authenticated(claims) => app::Visitor::SignedIn(claims.name.clone()),
        };
        let scheme = if client.secure { "https://" } else { "" };
        let base = mount::base_path();
        let server = format!("{scheme}{}{}", client::host(parts), base.as_str());
        let path =
            parts.uri.path_and_query().map_or(String::new(), |path| base.address(path.as_str()));
        let context = PageContext { base, server, path, visitor, assets: self.assets(as_text) };
        Visit {
            pages: Arc::clone(self),
            client,
            identity,
            context,
            instead,
            problem: OnceLock::new(),
        }
    }

    /// The style sheet, script and wasm of a page.
    fn assets(&self, as_text: bool) -> Assets {
        let BuiltFiles { style, style_text, script, wasm } = self.site.built();
        let address = |path: &str| mount::address(path).into();
        // In the page it saves a round trip before the first paint; what is fetched as text is shown
        // in a page that has it already.
        let style = match style_text {
            Some(text) if !as_text => StyleSheet::Inline(Arc::clone(text)),
            _ => StyleSheet::Linked(address(style)),
        };
        Assets { style, script: address(script), wasm: address(wasm) }
    }
}

/// The `Link` header to the description of the interface (RFC 8631).
fn link_to_description() -> Result<HeaderValue, InvalidHeaderValue> {
    let address = mount::address(openapi::PATH);
    HeaderValue::try_from(format!("<{address}>; rel=\"service-desc\"; type=\"application/json\""))
}

/// Whether a query has no free text, which its page may repeat: only which messages to show, and how.
fn is_plain(query: &str) -> bool {
    let names = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name @ ("at" | "before" | "view"), _)) => Some(name),
        None if pair == "embed" => Some(pair),
        _ => None,
    });
    let names: Vec<_> = names.collect();
    names.iter().enumerate().all(|(at, name)| name.is_some() && !names[..at].contains(name))
}

impl Visit {
    async fn load(&self, address: Address) -> (PageContext, Page) {
        let loaded = if let Some(loaded) = &self.instead {
            loaded.clone()
        } else {
            let page = self.pages.load(self.client, &self.identity, address).await;
            Loaded::new(page, self.context.path.clone())
        };
        if let Some(problem) = loaded.problem {
            let _ = self.problem.set(problem);
        }
        (PageContext { path: loaded.path, ..self.context.clone() }, loaded.page)
    }
}

impl Loaded {
    /// A page, or why there is none: the form to sign in with where a token could help.
    fn new(page: Result<Page, Problem>, path: String) -> Self {
        let problem = match page {
            Ok(page) => return Self { page, path, problem: None },
            Err(problem) => problem.for_page(),
        };
        let detail = problem.detail().to_owned();
        let page = if problem.is_auth_error() {
            Page::SignIn { to: path.clone(), notice: Some(detail), refused: None }
        } else {
            let is_not_found = problem.kind() == problem::NOT_FOUND;
            let title = if is_not_found { "Nothing here" } else { problem.title() };
            Page::Refused { title: title.to_owned(), detail }
        };
        Self { page, path, problem: Some(problem) }
    }
}

/// Whether the client is a browser that waits for a page. A request without a path, `GET host:80`,
/// is not a browser's, and `leptos_axum` would panic.
pub(crate) fn wants_page(parts: &Parts) -> bool {
    let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    parts.uri.path_and_query().is_some()
        && accept.is_some_and(|accept| accept.contains("text/html"))
}
