//! The error page: the title and detail of a problem.

use leptos::prelude::*;

use super::{PageContext, page_context};

/// Why there is nothing to show, and what to do.
#[component]
pub fn RefusedPage(
    /// What happened, in a few words.
    title: String,
    /// What it means, and what to do.
    detail: String,
) -> impl IntoView {
    let PageContext { base, .. } = page_context();
    view! {
        <main class="prose">
            <h1>{title}</h1>
            <p>{detail}</p>
            <p>
                <a href=base.address("/streams")>"See all streams"</a>
                ", or "
                <a href=base.address("/")>"go to the counter"</a>
                "."
            </p>
        </main>
    }
}
