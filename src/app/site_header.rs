//! The header of every page: links, and signing in and out.

use leptos::prelude::*;

use super::{
    PageContext, Visitor, page_context,
    sign_in::{SIGN_OUT, sign_in_address},
};
use crate::base_path::BasePath;

/// The header of every page.
#[component]
pub fn SiteHeader(
    /// On a page with the form to sign in with, the address to go to afterwards.
    sign_in_to: Option<String>,
) -> impl IntoView {
    let context = page_context();
    view! {
        <header class="masthead">
            <a href=context.base.address("/") rel="home">
                <Logo />
                "Tidings"
            </a>
            <a href=context.base.address("/streams")>"Streams"</a>
            {visitor_view(context, sign_in_to)}
        </header>
    }
}

/// The picture of `favicon.svg`. In the page it is drawn at once: as an image it would be a request
/// and a document of its own.
#[component]
fn Logo() -> impl IntoView {
    view! { <span class="logo" aria-hidden="true" inner_html=include_str!("../../public/favicon.svg")></span> }
}

/// The visitor, and the link or form to sign in or out. A server that asks for no token has neither.
fn visitor_view(context: PageContext, sign_in_to: Option<String>) -> AnyView {
    let PageContext { base, visitor, path, .. } = context;
    let asks_for_token = sign_in_to.is_some();
    let path = sign_in_to.unwrap_or(path);
    match visitor {
        Visitor::SignedIn(name) => named_view(&base, name, path),
        Visitor::Anonymous if !asks_for_token => {
            view! { <a href=sign_in_address(&base, &path)>"Sign in"</a> }.into_any()
        }
        Visitor::Anonymous | Visitor::Unrestricted => ().into_any(),
    }
}

fn named_view(base: &BasePath, name: String, path: String) -> AnyView {
    // A long one is cut on the page.
    let full_name = name.clone();
    view! {
        <form method="post" action=base.address(SIGN_OUT) class="visitor">
            <span title=full_name>
                <span class="unseen">"Signed in as "</span>
                {name}
            </span>
            <input type="hidden" name="to" value=path />
            <button type="submit">"Sign out"</button>
        </form>
    }
    .into_any()
}
