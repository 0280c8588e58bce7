//! What the problems that Tidings answers with mean; where their `type` leads.

use leptos::prelude::*;

use super::page_context;
use crate::problem::{self, Kind};

/// The page at `/problems`.
#[component]
pub fn ProblemsPage() -> impl IntoView {
    let base = page_context().base;
    let explain = |kind: Kind| {
        let Kind { slug, status, title, .. } = kind;
        let meaning = kind.meaning_below(&base);
        view! {
            <section id=slug>
                <h2>{title}</h2>
                <p>
                    <code>{status}" "{slug}</code>
                </p>
                <p>{meaning}</p>
            </section>
        }
    };
    view! {
        <main class="prose">
            <h1>"Problems"</h1>
            <p>
                "A refusal is answered as "
                <a href="https://www.rfc-editor.org/rfc/rfc9457">"RFC 9457"</a>
                " describes: JSON whose type leads to one of the entries below, and whose detail \
                 says what to do."
            </p>
            {problem::ALL.map(explain).collect_view()}
        </main>
    }
}
