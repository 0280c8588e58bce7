//! Signing in with a token, and out again.
//!
//! Plain forms: nothing of this is in the wasm, and all of it works without JavaScript.

use leptos::prelude::*;
use leptos_router::location::Url;

use super::{
    PageContext, Visitor,
    command::{curl, shell_word},
    page_context,
};
use crate::base_path::BasePath;

/// The path to which the form with a token is sent.
pub const SIGN_IN: &str = "/api/sign-in";
/// The path to which the form is sent that signs out.
pub const SIGN_OUT: &str = "/api/sign-out";

/// The address of the form that leads to the address `to` afterwards.
pub(super) fn sign_in_address(base: &BasePath, to: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    // A readable path where that is possible.
    let to = if to.chars().all(plain) { to.to_owned() } else { Url::escape(to) };
    base.address(&format!("/sign-in?to={to}"))
}

/// The form to sign in with, and what a token is.
#[component]
pub fn SignInPage(
    /// The address to go to afterwards.
    to: String,
    /// Why another page is not shown.
    notice: Option<String>,
    /// Why a token was refused.
    refused: Option<String>,
) -> impl IntoView {
    let PageContext { base, visitor, server, .. } = page_context();
    let notice = notice.map(|notice| view! { <p class="notice">{notice}</p> });
    let content = match visitor {
        Visitor::Unrestricted => view! {
            <p>
                "This server asks for no token: every visitor may watch and publish. "<a href=base.address("/streams")>"See all streams"</a>"."
            </p>
        }
        .into_any(),
        Visitor::Anonymous => view! {
            <SignInForm base to refused />
            <AboutTokens server />
        }
        .into_any(),
        Visitor::SignedIn(name) => view! {
            <p>
                "You are signed in as "<strong>{name}</strong>
                ". Another token replaces yours."
            </p>
            <SignInForm base to refused />
            <AboutTokens server />
        }
        .into_any(),
    };
    view! {
        <main class="prose">
            <h1>"Sign in"</h1>
            {notice}
            {content}
        </main>
    }
}

/// The form.
///
/// A token is a password to the browser, which hides it and offers to keep it. There is no field for a
/// user name, because the name is in the token.
#[component]
fn SignInForm(
    /// Begins the address that the form is sent to.
    base: BasePath,
    /// The address to go to afterwards.
    to: String,
    /// Why the last token was refused.
    refused: Option<String>,
) -> impl IntoView {
    let invalid = refused.is_some().then_some("true");
    let problem = refused.map(|why| view! { <p id="problem" role="alert">{why}</p> });
    view! {
        <form method="post" action=base.address(SIGN_IN) class="sign-in">
            <input type="hidden" name="to" value=to />
            <label for="token">"Token"</label>
            <p id="looks" class="hint">"A long line that begins with eyJ."</p>
            {problem}
            <input
                type="password"
                id="token"
                name="token"
                required
                autofocus
                autocomplete="current-password"
                autocapitalize="none"
                spellcheck="false"
                aria-describedby=if invalid.is_some() { "problem looks" } else { "looks" }
                aria-invalid=invalid
            />
            <button type="submit">"Sign in"</button>
        </form>
    }
}

/// What a token is, for a visitor without one.
#[component]
fn AboutTokens(
    /// The server, as the visitor wrote it.
    server: String,
) -> impl IntoView {
    let visitor = Visitor::SignedIn(String::new());
    let listen = format!(
        "{} {}",
        curl(&visitor, "-N"),
        shell_word(&format!("{server}/streams/NAME/events"))
    );
    view! {
        <section>
            <h2>"Where to get a token"</h2>
            <p>
                "From the operator of this server. A token holds a name, the streams that it is for, \
                 and when it expires. The operator makes one with a command like"
            </p>
            <p class="command">
                <code>"tidings token --for 'Ada' --watch '*' --publish 'ci-*' --expires 90d"</code>
            </p>
        </section>
        <section>
            <h2>"What happens to it"</h2>
            <p>
                "This browser keeps it in a cookie that no script can read, until it expires or you \
                 sign out. A program sends it with each request, from an environment variable:"
            </p>
            <p class="command">
                <code>{listen}</code>
            </p>
        </section>
    }
}
