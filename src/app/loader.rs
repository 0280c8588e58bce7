//! What a page loads: its style, the wasm, and the script that brings its islands to life.
//!
//! Ours and not `HydrationScripts`, whose script loads and starts the wasm but hears of nothing that
//! goes wrong, and which reads the names of the files from the disk for each page.

use std::sync::LazyLock;

use leptos::{either::Either, nonce::use_nonce, prelude::*};

use super::{Assets, StyleSheet};

/// The script, without what is there for those who read it.
static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let lines = include_str!("loader.js").lines().map(str::trim);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
});

/// Says at once that the page is not live, where modules are unknown; everywhere else the script
/// decides.
const NO_MODULES: &str = "document.documentElement.setAttribute('data-hydration', 'failed')";

/// The part of the head that loads everything. The script is in the page: it must be there to tell
/// what else could not be had.
#[component]
pub fn Loader(
    /// Where the files are.
    assets: Assets,
    /// Where the page is, if it has a live part.
    page: Option<String>,
) -> impl IntoView {
    let Assets { style, script, wasm } = assets;
    let nonce = use_nonce();
    let style = match style {
        // The id is the one by which `cargo leptos watch` finds it.
        StyleSheet::Linked(path) => {
            Either::Left(view! { <link id="leptos" rel="stylesheet" href=path.to_string() /> })
        }
        StyleSheet::Inline(text) => {
            let nonce = nonce.clone();
            Either::Right(view! { <style nonce=nonce inner_html=text></style> })
        }
    };
    view! {
        {style}
        <link rel="modulepreload" href=script.to_string() crossorigin="anonymous" />
        <link
            rel="preload"
            href=wasm.to_string()
            r#as="fetch"
            r#type="application/wasm"
            crossorigin="anonymous"
        />
        <script nomodule=true nonce=nonce.clone() inner_html=NO_MODULES></script>
        <script
            id="loader"
            r#type="module"
            nonce=nonce
            data-script=script.to_string()
            data-wasm=wasm.to_string()
            data-page=page
            inner_html=SCRIPT.as_str()
        ></script>
    }
}
