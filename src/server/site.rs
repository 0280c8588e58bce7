//! The built site: the folder with style sheet, wasm and script, and the files of `public`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use leptos::config::LeptosOptions;

/// The folder of the site, checked when the server starts.
#[derive(Clone, Debug)]
pub struct Site {
    root: PathBuf,
    options: LeptosOptions,
    built: BuiltFiles,
    is_hashed: bool,
    watched: bool,
}

/// The paths of the built files that a page needs.
#[derive(Clone, Debug)]
pub(crate) struct BuiltFiles {
    /// The URL path of the style sheet.
    pub(crate) style: Arc<str>,
    /// The text of the style sheet, unless it may change while a page is open.
    pub(crate) style_text: Option<Arc<str>>,
    /// The URL path of the script.
    pub(crate) script: Arc<str>,
    /// The URL path of the wasm.
    pub(crate) wasm: Arc<str>,
}

/// The folder of the built files inside the site. As in `Cargo.toml`.
const PKG_DIR: &str = "pkg";

/// Whether the file at this URL path is a built one.
pub(crate) fn is_built(path: &str) -> bool {
    path.split('/').nth(1) == Some(PKG_DIR)
}

impl Site {
    /// Finds the site: in `folder`, or without one in the folder `site` beside the executable, or
    /// beside the executable's folder, where cargo-leptos puts it.
    ///
    /// # Errors
    /// When there is no site, or when its path is not UTF-8, or when `hash.txt` or the style sheet
    /// cannot be read.
    pub fn find(folder: Option<&Path>) -> anyhow::Result<Self> {
        let root = match folder {
            Some(folder) => folder.to_owned(),
            None => beside_executable()?,
        };
        if !root.join(PKG_DIR).is_dir() {
            bail!(
                "there is no built site in {}: it has no folder {PKG_DIR}; build it with `cargo \
                 xtask run`, or set its folder with --site-root",
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
            .site_pkg_dir(PKG_DIR)
            .build();
        let watched = std::env::var_os("LEPTOS_WATCH").is_some();
        let built = BuiltFiles::find(&root, hashes.as_deref().unwrap_or_default(), watched)?;
        Ok(Self { root, options, built, is_hashed: hashes.is_some(), watched })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the names of the built files hold a hash of their content, so that browsers may cache
    /// them without a time limit.
    pub(crate) fn is_hashed(&self) -> bool {
        self.is_hashed
    }

    /// Whether `cargo leptos watch` runs the server and rebuilds the site on changes.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    pub(crate) fn built(&self) -> &BuiltFiles {
        &self.built
    }

    pub(crate) fn leptos_options(&self) -> &LeptosOptions {
        &self.options
    }
}

impl BuiltFiles {
    /// `hashes` is the text of `hash.txt`: a line like `js: AbC` for each file whose name holds a hash.
    /// A file without a line has no hash in its name.
    fn find(root: &Path, hashes: &str, watched: bool) -> anyhow::Result<Self> {
        let path = |extension: &str| {
            let hash = hashes.lines().find_map(|line| {
                let (file, hash) = line.split_once(':')?;
                (file.trim() == extension).then(|| format!(".{}", hash.trim()))
            });
            format!("{PKG_DIR}/tidings{}.{extension}", hash.unwrap_or_default())
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
    let executable = std::env::current_exe().context("cannot find the path of the executable")?;
    let folders: Vec<_> =
        executable.ancestors().skip(1).take(2).map(|up| up.join("site")).collect();
    folders.iter().find(|folder| folder.is_dir()).cloned().with_context(|| {
        let tried: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        format!(
            "there is no built site: neither {} exists; build it with `cargo xtask run`, or set \
             its folder with --site-root",
            tried.join(" nor ")
        )
    })
}
