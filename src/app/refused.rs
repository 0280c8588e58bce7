//! The pages that say why there is no page.

use leptos::{either::Either, prelude::*};
use leptos_meta::{Meta, Title};

use super::{Page, PageContext, page, sign_in::SignInPage};

/// Why there is nothing to show: as the server says, else because there is no such page. Where a
/// token could help, the form to sign in with.
#[component]
pub fn RefusedPage(
    /// What the server said.
    page: Page,
) -> impl IntoView {
    let (title, detail) = match page {
        Page::SignIn { to, problem } => {
            return Either::Left(view! { <SignInPage to problem /> });
        }
        Page::Refused { title, detail } => (title, detail),
        _ => (
            "Nothing here".to_owned(),
            "No page has this address. It may have been mistyped, or the page has gone.".to_owned(),
        ),
    };
    Either::Right(view! {
        <Title text=format!("{title} · Tidings") />
        <Meta name="robots" content="noindex" />
        <main class="prose">
            <h1>{title}</h1>
            <p>{detail}</p>
            <p>
                <a href="/streams">"See all streams"</a>
                ", or "
                <a href="/">"go to the counter"</a>
                "."
            </p>
        </main>
    })
}

/// The page at `/sign-in`.
#[component]
pub fn SignInAddress() -> impl IntoView {
    page(|PageContext { page, .. }| view! { <RefusedPage page /> })
}
