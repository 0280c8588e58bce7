//! Where the built site lies: style, wasm and script, and what `public` holds.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use leptos::config::LeptosOptions;

/// The folder of the site, checked once at the start.
#[derive(Clone, Debug)]
pub struct Site {
    root: PathBuf,
    options: LeptosOptions,
    built: Built,
    is_hashed: bool,
    watched: bool,
}

/// What the build makes, as a page needs it.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// The path of the style sheet.
    pub(crate) style: Arc<str>,
    /// Its text, unless it may change while a page is open.
    pub(crate) style_text: Option<Arc<str>>,
    pub(crate) script: Arc<str>,
    pub(crate) wasm: Arc<str>,
}

/// The folder, inside the site, of what the build makes. As in `Cargo.toml`.
const PACKAGE: &str = "pkg";

/// Whether a file at this path of the site is one that the build makes.
pub(crate) fn is_built(path: &str) -> bool {
    path.split('/').nth(1) == Some(PACKAGE)
}

impl Site {
    /// The site in `folder`, else in the folder `site` beside the executable, else beside the
    /// executable's folder, where cargo-leptos puts it.
    ///
    /// # Errors
    /// When there is no site there, or when the file that names its files, or its style sheet,
    /// cannot be read.
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
        let hashes = match fs::read_to_string(root.join("hash.txt")) {
            Ok(hashes) => Some(hashes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).context("cannot read the site's hash.txt"),
        };
        let options = LeptosOptions::builder()
            .output_name("tidings")
            .site_root(root_text)
            .site_pkg_dir(PACKAGE)
            .build();
        let watched = std::env::var_os("LEPTOS_WATCH").is_some();
        let built = Built::find(&root, hashes.as_deref().unwrap_or_default(), watched)?;
        Ok(Self { root, options, built, is_hashed: hashes.is_some(), watched })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the names of the built files change with their content, so that a browser may keep
    /// them for ever.
    pub(crate) fn is_hashed(&self) -> bool {
        self.is_hashed
    }

    /// Whether it is rebuilt as it is edited, by `cargo leptos watch`.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    pub(crate) fn built(&self) -> &Built {
        &self.built
    }

    pub(crate) fn leptos_options(&self) -> &LeptosOptions {
        &self.options
    }
}

impl Built {
    /// `hashes` has a line for each part of a name that changes with the content, like `js: AbC`;
    /// without one the name does not change.
    fn find(root: &Path, hashes: &str, watched: bool) -> anyhow::Result<Self> {
        let path = |extension: &str| {
            let hash = hashes.lines().find_map(|line| {
                let (file, hash) = line.split_once(':')?;
                (file.trim() == extension).then(|| format!(".{}", hash.trim()))
            });
            format!("{PACKAGE}/tidings{}.{extension}", hash.unwrap_or_default())
        };
        let address = |extension: &str| format!("/{}", path(extension)).into();
        let style_text = if watched {
            None
        } else {
            let file = root.join(path("css"));
            let text = fs::read_to_string(&file)
                .with_context(|| format!("cannot read the style sheet {}", file.display()))?;
            Some(text.into())
        };
        let [style, script, wasm] = ["css", "js", "wasm"].map(address);
        Ok(Self { style, style_text, script, wasm })
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
