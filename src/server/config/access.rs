//! Who may do what: secrets, and what is open to anyone.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, bail};
use axum::http::uri::Authority;
use clap::{Args, builder::BoolishValueParser};

use crate::server::{
    clock::Clock,
    guard::{Access, Pattern, Secret},
};

/// Who may do what.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Access")]
pub struct AccessOptions {
    /// What tokens are made with.
    #[command(flatten)]
    pub secret: SecretOptions,

    /// The secret that was in use before: tokens made with it are still good
    #[arg(long, env = "TIDINGS_PREVIOUS_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub previous_secret: Option<Secret>,

    /// A file that holds it
    #[arg(
        long,
        env = "TIDINGS_PREVIOUS_SECRET_FILE",
        value_name = "FILE",
        conflicts_with = "previous_secret"
    )]
    pub previous_secret_file: Option<PathBuf>,

    /// Which streams anyone may watch, like status-* (* stands for any characters); may be given
    /// several times, in the environment separated by commas. The counter is always public
    #[arg(long, env = "TIDINGS_PUBLIC", value_delimiter = ',', value_name = "PATTERN")]
    pub public: Vec<Pattern>,

    /// Ask nobody who they are, even where others can reach the server: whoever does may publish,
    /// end and delete
    #[arg(long, env = "TIDINGS_OPEN", value_parser = BoolishValueParser::new())]
    pub open: bool,

    /// A name, without a port, by which a server on a loopback address that has no secret may be
    /// addressed, beside localhost and loopback addresses; * for any. Any other is refused, since
    /// pages of other sites could reach the server by it (DNS rebinding)
    #[arg(long, env = "TIDINGS_ALLOW_HOST", value_delimiter = ',', value_name = "HOST",
          value_parser = host_name)]
    pub allow_host: Vec<String>,
}

/// A host without a port, in lower case and without the full stop of a complete name; or `*`.
fn host_name(text: &str) -> Result<String, &'static str> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_host = name.parse::<Authority>().is_ok_and(|authority| authority.host() == name);
    if name == "*" || is_host && !name.starts_with('[') {
        Ok(name)
    } else {
        Err("must be a host name or an IPv4 address, without a scheme and without a port, or *")
    }
}

/// What tokens are made with, and verified.
#[derive(Args, Clone, Debug)]
pub struct SecretOptions {
    /// The secret that tokens are made with, at least 32 bytes; better kept in a file, since others
    /// on this machine can read a command line
    #[arg(long, env = "TIDINGS_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub secret: Option<Secret>,

    /// A file that holds the secret; `openssl rand -hex 32` makes a good one
    #[arg(long, env = "TIDINGS_SECRET_FILE", value_name = "FILE", conflicts_with = "secret")]
    pub secret_file: Option<PathBuf>,
}

/// A key for HS256 is no shorter than what the hash gives (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

impl AccessOptions {
    /// What these options can not be together with the address that is listened on.
    pub(super) fn check(&self, listen: SocketAddr, proxied: bool) -> Result<(), String> {
        let secret = self.secret.secret.is_some() || self.secret.secret_file.is_some();
        let previous = self.previous_secret.is_some() || self.previous_secret_file.is_some();
        if self.open && secret {
            return Err("--open and a secret contradict each other; give one of them".to_owned());
        }
        if previous && !secret {
            return Err("--previous-secret needs a --secret that has taken its place".to_owned());
        }
        if !self.public.is_empty() && !secret {
            return Err("--public has no meaning without a secret: everything is public".to_owned());
        }
        if !secret && !self.open && proxied {
            return Err(format!(
                "others can reach {listen} through the proxy that is trusted (--trusted-proxy), and \
                 without a secret whoever does may publish, end and delete. Give it a secret that \
                 tokens are made with (--secret-file FILE; `openssl rand -hex 32` makes one), or \
                 open it to everyone on purpose (--open)."
            ));
        }
        if !secret && !self.open && !listen.ip().to_canonical().is_loopback() {
            return Err(format!(
                "others can reach {listen}, and without a secret whoever does may publish, end and \
                 delete. Give it a secret that tokens are made with (--secret-file FILE; `openssl \
                 rand -hex 32` makes one), or listen on a loopback address (--listen \
                 127.0.0.1:{}), or open it to everyone on purpose (--open).",
                listen.port()
            ));
        }
        Ok(())
    }

    /// The access rules that these options describe.
    ///
    /// # Errors
    /// When a secret cannot be read or used; says which.
    pub fn rules(&self, clock: Clock) -> anyhow::Result<Access> {
        Access::new(&self.secrets()?, self.public.clone(), clock)
    }

    /// The host names by which the server may be addressed, beside loopback ones; `None` for any:
    /// where tokens protect the server, or where it was opened on purpose.
    pub(in crate::server) fn allowed_hosts(&self) -> Option<&[String]> {
        let has_secret = self.secret.secret.is_some() || self.secret.secret_file.is_some();
        let any = has_secret || self.open || self.allow_host.iter().any(|host| host == "*");
        (!any).then_some(&self.allow_host)
    }

    /// The secrets that verify: the one that is in use first. None where nobody is asked.
    ///
    /// # Errors
    /// When a file can not be read, or a secret is too short; says which.
    pub(crate) fn secrets(&self) -> anyhow::Result<Vec<Secret>> {
        let previous = one(
            "--previous-secret",
            self.previous_secret.as_ref(),
            self.previous_secret_file.as_ref(),
        )?;
        Ok(self.secret.read()?.into_iter().chain(previous).collect())
    }
}

impl SecretOptions {
    /// The secret, if there is one.
    ///
    /// # Errors
    /// When its file can not be read, or when it is too short.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Secret>> {
        one("--secret", self.secret.as_ref(), self.secret_file.as_ref())
    }
}

fn one(
    flag: &str,
    given: Option<&Secret>,
    file: Option<&PathBuf>,
) -> anyhow::Result<Option<Secret>> {
    let secret = match (given, file) {
        (Some(secret), _) => secret.clone(),
        (None, Some(file)) => {
            let text = fs::read_to_string(file)
                .with_context(|| format!("{flag}-file {} can not be read", file.display()))?;
            // Some editors begin a file with a byte order mark.
            Secret::new(text.trim_start_matches('\u{feff}').trim())
        }
        (None, None) => return Ok(None),
    };
    let length = secret.as_bytes().len();
    if length < MIN_SECRET_BYTES {
        bail!(
            "the secret of {flag} has {length} bytes, and fewer than {MIN_SECRET_BYTES} can be guessed; \
             `openssl rand -hex 32` makes a good one"
        );
    }
    Ok(Some(secret))
}
