//! The style sheet, the wasm and the hydration script in the head of a page.
//!
//! Used in place of Leptos' `HydrationScripts`, whose script does not notice failures of the wasm, and
//! which reads the names of the files from the disk for each page.

use std::sync::LazyLock;

use leptos::{either::Either, nonce::use_nonce, prelude::*};

use super::{Assets, StyleSheet};

/// The script, without comments and indentation.
static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let lines = include_str!("loader.js").lines().map(str::trim);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
});

/// For browsers without support for modules, which do not run the script: shows at once that the page is
/// not live.
const NO_MODULE_SCRIPT: &str = "document.documentElement.setAttribute('data-hydration', 'failed')";

/// The elements of the head that load style, script and wasm. The script is inline, so that it runs and
/// reports the failure when another file cannot be loaded.
#[component]
pub fn Loader(
    /// The paths of the files.
    assets: Assets,
    /// The address of the page, if it has a live part.
    page: Option<String>,
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
            inner_html=SCRIPT.as_str()
        ></script>
    }
}
