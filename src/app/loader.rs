//! The style sheet, the wasm and the hydration script in the head of a page.
//!
//! Used in place of Leptos' `HydrationScripts`, whose script does not notice failures of the wasm, and
//! which reads the names of the files from the disk for each page.

use std::sync::LazyLock;

use leptos::{either::Either, nonce::use_nonce, prelude::*};

use super::{Assets, StyleSheet};

/// The script that hydrates the page, the one of the live list, and the one of what works without the
/// wasm.
static LOADER: LazyLock<String> = LazyLock::new(|| without_comments(include_str!("loader.js")));
static LIST: LazyLock<String> = LazyLock::new(|| without_comments(include_str!("stream_list.js")));
static PAGE: LazyLock<String> = LazyLock::new(|| without_comments(include_str!("page.js")));

/// A script without comments and indentation.
fn without_comments(script: &str) -> String {
    let lines = script.lines().map(str::trim);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// For browsers without support for modules, which do not run the script: shows at once that the page is
/// not live.
const NO_MODULE_SCRIPT: &str = "document.documentElement.setAttribute('data-hydration', 'failed')";

/// The elements of the head that load style, scripts and wasm. The loader is inline, so that it runs and
/// reports the failure when another file cannot be loaded; the other one, so that a choice of the reader
/// is there before the first paint.
#[component]
pub fn Loader(
    /// The paths of the files.
    assets: Assets,
    /// The address of the page, if it has a live part.
    page: Option<String>,
    /// The stream, for which the reader's choices are remembered.
    stream: Option<String>,
    /// Whether the page has the list of the streams.
    list: bool,
) -> impl IntoView {
    let Assets { style, script, wasm } = assets;
    let nonce = use_nonce();
    let style = match style {
        // `cargo leptos watch` finds the element by this id.
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
        <script nonce=nonce.clone() data-stream=stream inner_html=PAGE.as_str()></script>
        {list.then(|| view! { <script nonce=nonce.clone() inner_html=LIST.as_str()></script> })}
        <link rel="modulepreload" href=script.to_string() crossorigin="anonymous" />
        <link
            rel="preload"
            href=wasm.to_string()
            r#as="fetch"
            r#type="application/wasm"
            crossorigin="anonymous"
        />
        <script nomodule=true nonce=nonce.clone() inner_html=NO_MODULE_SCRIPT></script>
        <script
            id="loader"
            r#type="module"
            nonce=nonce
            data-script=script.to_string()
            data-wasm=wasm.to_string()
            data-page=page
            inner_html=LOADER.as_str()
        ></script>
    }
}
