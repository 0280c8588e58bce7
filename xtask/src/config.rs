//! The build configuration of cargo-leptos, `[[workspace.metadata.leptos]]` in `Cargo.toml`.

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    Result,
    process::{cargo, output, root},
};

/// The configuration of a build. Paths are absolute.
pub(crate) struct Config {
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// The package of the server, and its features.
    pub(crate) server: String,
    pub(crate) server_features: Vec<String>,
    /// The package that becomes the wasm, and its release profile.
    pub(crate) browser: String,
    pub(crate) browser_profile: String,
    /// The name of the wasm, the script and the style sheet, without an extension, and their folder
    /// in the site.
    pub(crate) output_name: String,
    pub(crate) package_folder: String,
    /// The folder of static files.
    pub(crate) assets: PathBuf,
    pub(crate) style: PathBuf,
    /// The supported browsers of the style sheet, as a browserslist query.
    pub(crate) browsers: String,
    /// The arguments of wasm-opt.
    pub(crate) wasm_opt: Vec<String>,
}

impl Config {
    pub(crate) fn read() -> Result<Self> {
        let mut command = cargo(&["metadata", "--format-version=1", "--no-deps", "--locked"]);
        let text =
            output(&mut command).ok_or("cargo metadata failed: is Cargo.lock up to date?")?;
        let metadata: Value = serde_json::from_str(&text)
            .map_err(|error| format!("cargo metadata cannot be read: {error}"))?;
        let target = text_of(&metadata, "target_directory")?;
        let leptos = &metadata["metadata"]["leptos"][0];
        Ok(Self {
            target: target.into(),
            server: text_of(leptos, "bin-package")?,
            server_features: texts_of(leptos, "bin-features")?,
            browser: text_of(leptos, "lib-package")?,
            browser_profile: text_of(leptos, "lib-profile-release")?,
            output_name: text_of(leptos, "output-name")?,
            package_folder: text_of(leptos, "site-pkg-dir")?,
            assets: root().join(text_of(leptos, "assets-dir")?),
            style: root().join(text_of(leptos, "style-file")?),
            browsers: text_of(leptos, "browserquery")?,
            wasm_opt: texts_of(leptos, "wasm-opt-features")?,
        })
    }
}

fn text_of(value: &Value, key: &str) -> Result<String> {
    let text = value[key].as_str().map(str::to_owned);
    text.ok_or_else(|| format!("cargo metadata has no string {key}"))
}

fn texts_of(value: &Value, key: &str) -> Result<Vec<String>> {
    let texts = value[key].as_array().and_then(|texts| {
        texts.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>()
    });
    texts.ok_or_else(|| format!("cargo metadata has no list of strings {key}"))
}
