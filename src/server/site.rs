//! Where the built site lies: style, wasm and script, and what `public` holds.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use leptos::config::LeptosOptions;

/// The folder of the site, checked once at the start.
#[derive(Clone, Debug)]
pub struct Site {
    root: PathBuf,
    options: LeptosOptions,
    watched: bool,
}

/// The folder, inside the site, of what the build makes. As in `Cargo.toml`.
const PACKAGE: &str = "pkg";

/// Whether a file at this path of the site is one that the build makes.
pub(super) fn is_built(path: &str) -> bool {
    path.split('/').nth(1) == Some(PACKAGE)
}

impl Site {
    /// The site in `folder`, else in the folder `site` beside the executable, else beside the
    /// executable's folder, where cargo-leptos puts it.
    ///
    /// # Errors
    /// When there is no site there.
    pub fn find(folder: Option<&Path>) -> anyhow::Result<Self> {
        let root = match folder {
            Some(folder) => folder.to_owned(),
            None => beside_executable()?,
        };
        if !root.join(PACKAGE).is_dir() {
            bail!(
                "there is no built site in {}: it has no folder {PACKAGE}; build it with `cargo \
                 xtask run`, or say where it is with --site-root",
                root.display()
            );
        }
        let root =
            root.canonicalize().with_context(|| format!("cannot read {}", root.display()))?;
        let Some(root_text) = root.to_str() else {
            bail!("the path of the site, {}, is not valid UTF-8", root.display());
        };
        let hashes = root.join("hash.txt");
        let options = LeptosOptions::builder()
            .output_name("tidings")
            .site_root(root_text)
            .site_pkg_dir(PACKAGE)
            .hash_files(hashes.is_file())
            .hash_file(hashes.to_string_lossy().as_ref().into())
            .build();
        let watched = std::env::var_os("LEPTOS_WATCH").is_some();
        Ok(Self { root, options, watched })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the names of the built files change with their content, so that a browser may keep
    /// them for ever.
    pub(super) fn is_hashed(&self) -> bool {
        self.options.hash_files
    }

    /// Whether it is rebuilt as it is edited, by `cargo leptos watch`.
    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    pub(super) fn leptos_options(&self) -> &LeptosOptions {
        &self.options
    }
}

fn beside_executable() -> anyhow::Result<PathBuf> {
    let executable = std::env::current_exe().context("cannot tell where the executable is")?;
    let folders: Vec<_> =
        executable.ancestors().skip(1).take(2).map(|up| up.join("site")).collect();
    folders.iter().find(|folder| folder.is_dir()).cloned().with_context(|| {
        let tried: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        format!(
            "there is no built site: neither {} exists; build it with `cargo xtask run`, or say \
             where it is with --site-root",
            tried.join(" nor ")
        )
    })
}
