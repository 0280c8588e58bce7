//! A command for a terminal, ready to be copied.

use leptos::{ev::MouseEvent, prelude::*};

use super::{Visitor, browser, content::content, island::counted};

/// An address as a word of a shell: quoted where bash, zsh or fish would take a part of it for a
/// pattern.
pub(super) fn shell_word(address: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":/._-".contains(c);
    if address.chars().all(plain) { address.to_owned() } else { format!("'{address}'") }
}

/// How this visitor calls curl. Whoever has a token must show it: from the environment, so that it
/// is neither on the page nor in a shell's history.
pub(super) fn curl(visitor: &Visitor, options: &str) -> String {
    match visitor {
        Visitor::Anyone | Visitor::Guest => format!("curl {options}"),
        Visitor::Named(_) => {
            format!("curl -H \"authorization: Bearer $TIDINGS_TOKEN\" {options}")
        }
    }
}

/// How a token comes into the environment, for whoever has one.
pub(super) fn token_hint(visitor: &Visitor) -> Option<impl IntoView + use<>> {
    matches!(visitor, Visitor::Named(_)).then(|| {
        view! {
            <p>
                "Once for all commands, with your token in place of the dots: "
                <code>"export TIDINGS_TOKEN=…"</code>
            </p>
        }
    })
}

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
            {counted(view! { <Copy /> })}
        </div>
    }
}

/// Copies the text beside it. An island that is told nothing, because it finds what to copy in the
/// page: whatever an island is told, it brings a parser for.
#[island]
fn Copy() -> impl IntoView {
    let label = RwSignal::new("Copy".to_owned());
    let copy = move |event: MouseEvent| {
        let Some(code) = browser::command(&event) else { return };
        browser::copy(&code.text_content().unwrap_or_default(), move |copied| {
            if !copied {
                browser::select(&code);
            }
            label.set(if copied { "Copied" } else { "Selected" }.to_owned());
        });
    };
    view! {
        <button
            type="button"
            class="copy"
            on:click=copy
            inner_html=content(move || label.get())
        ></button>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_words_of_a_shell() {
        for (address, word) in [
            ("localhost:3000/streams/a", "localhost:3000/streams/a"),
            ("https://a.example/streams/a", "https://a.example/streams/a"),
            ("[::1]:3000/streams/a", "'[::1]:3000/streams/a'"),
            ("localhost:3000/streams/a?lines", "'localhost:3000/streams/a?lines'"),
        ] {
            assert_eq!(shell_word(address), word);
        }
    }
}
