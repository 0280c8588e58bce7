//! The header of every page: links, and signing in and out.

use leptos::prelude::*;

use super::{
    Page, PageContext, Visitor, page_context,
    sign_in::{SIGN_OUT, sign_in_address},
};

/// The head of every page.
#[component]
pub fn SiteHeader() -> impl IntoView {
    view! {
        <header class="masthead">
            <a href="/" rel="home">
                <Logo />
                "Tidings"
            </a>
            <a href="/streams">"Streams"</a>
            {visitor_view(page_context())}
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
fn visitor_view(PageContext { visitor, page, path, .. }: PageContext) -> AnyView {
    let asks_for_token = matches!(page, Page::SignIn { .. });
    let path = match page {
        Page::SignIn { to, .. } => to,
        _ => path,
    };
    match visitor {
        Visitor::SignedIn(name) => named_view(name, path),
        Visitor::Anonymous if !asks_for_token => {
            view! { <a href=sign_in_address(&path)>"Sign in"</a> }.into_any()
        }
        Visitor::Anonymous | Visitor::Unrestricted => ().into_any(),
    }
}

fn named_view(name: String, here: String) -> AnyView {
    // A long one is cut on the page.
    let full_name = name.clone();
    view! {
        <form method="post" action=SIGN_OUT class="visitor">
            <span title=full_name>
                <span class="unseen">"Signed in as "</span>
                {name}
            </span>
            <input type="hidden" name="to" value=here />
            <button type="submit">"Sign out"</button>
        </form>
    }
    .into_any()
}
