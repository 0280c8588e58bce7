//! Signing in with a token, and out again.
//!
//! Plain forms, sent to the server functions below: nothing of this is in the wasm, and all of it
//! works without JavaScript.

use std::{pin::Pin, sync::Arc};

use leptos::{prelude::*, server_fn::ServerFn as _};
use leptos_meta::{Meta, Title};
use leptos_router::{hooks::use_location, location::Url};

use super::{
    PageContext, Visitor,
    command::{curl, shell_word},
    page,
};

/// What the server says to a token: nothing, or a sentence that says why it was refused.
type Answer = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Where people come in and go out. The server provides it as a context, and so the pages need not
/// know the server.
#[derive(Clone)]
pub struct Door {
    sign_in: Arc<dyn Fn(String, String) -> Answer + Send + Sync>,
    sign_out: Arc<dyn Fn(String) -> Answer + Send + Sync>,
}

impl Door {
    /// A door that lets in and out as these functions do. Both are given the path to go to
    /// afterwards as it came; the first is given the token before it.
    pub fn new<In, Out>(
        sign_in: impl Fn(String, String) -> In + Send + Sync + 'static,
        sign_out: impl Fn(String) -> Out + Send + Sync + 'static,
    ) -> Self
    where
        In: Future<Output = Result<(), String>> + Send + 'static,
        Out: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self {
            sign_in: Arc::new(move |token, to| Box::pin(sign_in(token, to))),
            sign_out: Arc::new(move |to| Box::pin(sign_out(to))),
        }
    }

    /// Shows a token. One that was copied may have brought the end of its line along.
    ///
    /// # Errors
    /// With a sentence that says why it was refused.
    pub async fn sign_in(&self, token: &str, to: String) -> Result<(), String> {
        (self.sign_in)(token.trim().to_owned(), to).await
    }

    /// Has the token forgotten.
    ///
    /// # Errors
    /// With a sentence that says why it is not.
    pub async fn sign_out(&self, to: String) -> Result<(), String> {
        (self.sign_out)(to).await
    }
}

/// Signs in: the server has the browser keep the token, and leads on.
///
/// # Errors
/// With a sentence that says why the token was refused.
#[server(prefix = "/api", endpoint = "sign-in")]
pub async fn sign_in(
    /// The token.
    token: String,
    /// The path to go to afterwards.
    to: String,
) -> Result<(), ServerFnError> {
    expect_context::<Door>().sign_in(&token, to).await.map_err(ServerFnError::new)
}

/// Signs out: the server has the browser forget the token, and leads on.
///
/// # Errors
/// With a sentence that says why that can not be done.
#[server(prefix = "/api", endpoint = "sign-out")]
pub async fn sign_out(
    /// The path to go to afterwards.
    to: String,
) -> Result<(), ServerFnError> {
    expect_context::<Door>().sign_out(to).await.map_err(ServerFnError::new)
}

/// The address of the form that leads to `path` afterwards.
pub(super) fn sign_in_address(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    // People may want to read where they will go.
    let to = if path.chars().all(plain) { path.to_owned() } else { Url::escape(path) };
    format!("/sign-in?to={to}")
}

/// The form to sign in with, and what a token is.
#[component]
pub fn SignInPage(
    /// The path to go to afterwards.
    to: String,
    /// Why a token was refused, or why the page that was asked for is not shown.
    problem: Option<String>,
) -> impl IntoView {
    // In place of another page it is that page which the visitor may not see; no token was refused.
    let asked_for = use_location().pathname.get_untracked();
    let in_place_of_it = to.split('?').next() == Some(&asked_for);
    let (notice, refused) = if in_place_of_it { (problem, None) } else { (None, problem) };
    let title =
        if refused.is_some() { "Refused: Sign in · Tidings" } else { "Sign in · Tidings" };
    let notice = notice.map(|notice| view! { <p class="notice">{notice}</p> });
    page(|PageContext { visitor, origin, .. }| {
        let content = match visitor {
            Visitor::Anyone => view! {
                <p>
                    "Nobody has to sign in here: whoever reaches this server may watch and \
                     publish. "<a href="/streams">"See all streams"</a>"."
                </p>
            }
            .into_any(),
            Visitor::Guest => view! {
                <SignInForm to refused />
                <AboutTokens origin />
            }
            .into_any(),
            Visitor::Named(name) => view! {
                <p>
                    "You are signed in as "<strong>{name}</strong>
                    ". Another token takes the place of yours."
                </p>
                <SignInForm to refused />
                <AboutTokens origin />
            }
            .into_any(),
        };
        view! {
            <Title text=title />
            <Meta name="robots" content="noindex" />
            <main class="prose">
                <h1>"Sign in"</h1>
                {notice}
                {content}
            </main>
        }
    })
}

/// The form.
///
/// A token is a password to the browser, so that nobody reads it over a shoulder and a password
/// manager offers to keep it. There is no field for a name beside it: the name is in the token,
/// and a manager would be told an invented one.
#[component]
fn SignInForm(
    /// The path to go to afterwards.
    to: String,
    /// Why the last token was refused.
    refused: Option<String>,
) -> impl IntoView {
    let invalid = refused.is_some().then_some("true");
    let problem = refused.map(|why| view! { <p id="problem" role="alert">{why}</p> });
    view! {
        <form method="post" action=SignIn::url() class="sign-in">
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

/// What a token is, for who has none yet.
#[component]
fn AboutTokens(
    /// Where the server is.
    origin: String,
) -> impl IntoView {
    let visitor = Visitor::Named(String::new());
    let listen = format!(
        "{} {}",
        curl(&visitor, "-N"),
        shell_word(&format!("{origin}/streams/NAME/events"))
    );
    view! {
        <section>
            <h2>"Where to get a token"</h2>
            <p>
                "From whoever runs this server. A token says whose it is, which streams it is for, \
                 and until when; it is made on the server with a command like"
            </p>
            <p class="command">
                <code>"tidings token --for 'Ada' --watch '*' --publish 'ci-*' --expires 90d"</code>
            </p>
        </section>
        <section>
            <h2>"What happens to it"</h2>
            <p>
                "This browser keeps it, out of reach of every script, until it expires or you sign \
                 out. A program shows it with each request, from a variable of its environment:"
            </p>
            <p class="command">
                <code>{listen}</code>
            </p>
        </section>
    }
}
