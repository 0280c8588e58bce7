//! A command for a terminal, ready to be copied.

use leptos::{html, prelude::*, task::spawn_local};

use super::{browser, text};

/// A command, and a button that copies it.
#[component]
pub fn Command(
    /// What it does, in a few words.
    #[prop(into)]
    label: String,
    /// The command.
    line: String,
) -> impl IntoView {
    view! {
        <div class="command" role="group" aria-label=label>
            <code>{line}</code>
            <Copy />
        </div>
    }
}

/// Copies the text beside it. An island that is told nothing, because it finds what to copy in the
/// page: whatever an island is told, it brings a parser for.
#[island]
fn Copy() -> impl IntoView {
    let button = NodeRef::<html::Button>::new();
    let label = RwSignal::new("Copy");
    let copy = move |_| {
        let around = button.get_untracked().and_then(|button| button.closest(".command").ok());
        let code = around.flatten().and_then(|around| around.query_selector("code").ok());
        let Some(code) = code.flatten() else { return };
        spawn_local(async move {
            let copied = browser::copy(&code.text_content().unwrap_or_default()).await;
            if !copied {
                browser::select(&code);
            }
            label.set(if copied { "Copied" } else { "Selected" });
        });
    };
    view! {
        <button type="button" class="copy" node_ref=button on:click=copy>
            {text(move || label.get().to_owned())}
        </button>
    }
}
