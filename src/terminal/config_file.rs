//! The address of the server and the token: from options, the environment, or the configuration file.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use reqwest::Url;
use serde::Deserialize;

use super::{ExitError, options::ServerOptions};

const DEFAULT_URL: &str = "http://localhost:3000";

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConfigFile {
    url: Option<String>,
    token: Option<String>,
    token_file: Option<PathBuf>,
}

/// Where the token comes from.
#[derive(Clone)]
pub(super) enum TokenSource {
    None,
    Value(String),
    /// Read for each request, so that it can be replaced.
    File(PathBuf),
}

/// The server to talk to.
pub(super) struct Endpoint {
    pub(super) url: Url,
    pub(super) token: TokenSource,
}

impl Endpoint {
    /// Options win over the environment, which wins over the configuration file.
    ///
    /// # Errors
    /// When the file or the address cannot be read or used.
    pub(super) fn find(options: &ServerOptions) -> Result<Self, ExitError> {
        let config = ConfigFile::find(options.config.as_deref())?;
        let url = options.url.clone().or(config.url.clone());
        let url = parse_url(&url.unwrap_or_else(|| DEFAULT_URL.to_owned()))?;
        let in_environment = env::var("TIDINGS_TOKEN").ok().filter(|token| !token.is_empty());
        let token = match (&options.token_file, in_environment) {
            (Some(file), _) => TokenSource::File(file.clone()),
            (None, Some(token)) => TokenSource::Value(token),
            (None, None) => config.token_for(&url)?,
        };
        Ok(Self { url, token })
    }
}

impl ConfigFile {
    /// Reads the file that was named, or the usual one if there is one.
    fn find(named: Option<&Path>) -> Result<Self, ExitError> {
        let Some(path) = named.map(Path::to_owned).or_else(default_path) else {
            return Ok(Self::default());
        };
        let failed = |error: &dyn std::fmt::Display| {
            ExitError::Failed(format!("the configuration file {}: {error}", path.display()))
        };
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| failed(&error.message())),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// The token of the file, which is for the server of the file only: another server must not get it.
    fn token_for(self, url: &Url) -> Result<TokenSource, ExitError> {
        let own_url = parse_url(&self.url.unwrap_or_else(|| DEFAULT_URL.to_owned()))?;
        Ok(match (self.token_file, self.token) {
            _ if without_slash(&own_url) != without_slash(url) => TokenSource::None,
            (Some(file), _) => TokenSource::File(file),
            (None, Some(token)) => TokenSource::Value(token),
            (None, None) => TokenSource::None,
        })
    }
}

/// `tidings/config.toml` in the folder for configuration files (XDG Base Directory Specification).
fn default_path() -> Option<PathBuf> {
    let configured = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    // The specification: a relative path is invalid.
    let folder = configured.filter(|folder| folder.is_absolute());
    let folder = folder.or_else(|| Some(env::home_dir()?.join(".config")));
    folder.map(|folder| folder.join("tidings/config.toml"))
}

/// The address of a server: paths are added to it.
pub(super) fn without_slash(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

fn parse_url(text: &str) -> Result<Url, ExitError> {
    // A user name, a query and a fragment come with what may be secret.
    let shown = if text.contains(['@', '?', '#']) { "…" } else { text };
    let wrong = |why: &str| {
        ExitError::Failed(format!("the url {shown} {why}; write it like https://tidings.example"))
    };
    let url: Url = text.parse().map_err(|_| wrong("is not one"))?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err(wrong("does not begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ExitError::Failed("the url has a user name; Tidings takes a token".to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has more than a path"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_the_file_is_only_for_its_url() {
        let file: ConfigFile =
            toml::from_str("url = 'https://a.example/t'\ntoken = 'x'").expect("TOML");
        let token = |url: &str| {
            let file =
                ConfigFile { url: file.url.clone(), token: file.token.clone(), token_file: None };
            file.token_for(&parse_url(url).expect("a URL")).expect("a URL")
        };
        for same in ["https://a.example/t", "https://a.example/t/", "https://A.example:443/t"] {
            assert!(matches!(token(same), TokenSource::Value(_)), "{same}");
        }
        for other in ["https://a.example/", "http://a.example/t", "https://b.example/t"] {
            assert!(matches!(token(other), TokenSource::None), "{other}");
        }
    }

    #[test]
    fn unusable_urls_are_refused() {
        for url in
            ["localhost:3000", "tidings.example", "ftp://x", "http://u:p@x", "http://x/?a", ""]
        {
            assert!(parse_url(url).is_err(), "{url}");
        }
        for secret in [
            "ftp://u:hidden@x",
            "//u:hidden@x",
            "http://u:hidden?p@x",
            "http://u:p@x:hidden",
            "http://x/?token=hidden@x",
        ] {
            let error = parse_url(secret).err();
            let text = error.as_ref().and_then(ExitError::text).expect("a text");
            assert!(!text.contains("hidden"), "{text}");
        }
    }
}
