//! A shell command on a page, with a button that copies it (`page.js`).

use leptos::prelude::*;

use super::Visitor;

/// Quotes a URL for a shell, if bash, zsh or fish would treat a part of it as a pattern.
pub(super) fn shell_word(address: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || ":/._-,".contains(c);
    if address.chars().all(is_safe) { address.to_owned() } else { format!("'{address}'") }
}

/// The curl command for a visitor. A visitor who is signed in sends the token, from the environment, so
/// that it is neither on the page nor in the shell's history.
pub(super) fn curl(visitor: &Visitor, options: &str) -> String {
    match visitor {
        Visitor::Unrestricted | Visitor::Anonymous => format!("curl {options}"),
        Visitor::SignedIn(_) => {
            format!("curl -H \"authorization: Bearer $TIDINGS_TOKEN\" {options}")
        }
    }
}

/// How to put the token into the environment, for a visitor who is signed in.
pub(super) fn token_hint(visitor: &Visitor) -> Option<impl IntoView + use<>> {
    matches!(visitor, Visitor::SignedIn(_)).then(|| {
        view! {
            <p>
                "Run this once before the other commands, with your token in place of the dots: "
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
            <button type="button" class="copy">"Copy"</button>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_quoted_for_a_shell() {
        for (address, quoted) in [
            ("localhost:3000/streams/a", "localhost:3000/streams/a"),
            ("https://a.example/streams/a", "https://a.example/streams/a"),
            ("localhost:3000/streams/a,b", "localhost:3000/streams/a,b"),
            ("[::1]:3000/streams/a", "'[::1]:3000/streams/a'"),
            ("localhost:3000/streams/a?lines", "'localhost:3000/streams/a?lines'"),
        ] {
            assert_eq!(shell_word(address), quoted);
        }
    }
}
