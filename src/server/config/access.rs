//! Access options: secrets that sign tokens, public streams, and allowed host names.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, bail};
use axum::http::uri::Authority;
use clap::{Args, builder::BoolishValueParser};

use crate::server::{
    clock::Clock,
    guard::{Access, Pattern, Secret, cors::Origin},
};

/// Access control.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Access")]
pub struct AccessOptions {
    /// The secret that signs tokens.
    #[command(flatten)]
    pub secret: SecretOptions,

    /// The secret that was in use before the current one: tokens signed with it remain valid
    #[arg(long, env = "TIDINGS_PREVIOUS_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub previous_secret: Option<Secret>,

    /// A file that holds the previous secret
    #[arg(
        long,
        env = "TIDINGS_PREVIOUS_SECRET_FILE",
        value_name = "FILE",
        conflicts_with = "previous_secret"
    )]
    pub previous_secret_file: Option<PathBuf>,

    /// Streams that can be watched without a token, for example status-* (* matches any characters).
    /// Repeat the flag for several; separate them by commas in the environment variable. The counter is
    /// always public
    #[arg(long, env = "TIDINGS_PUBLIC", value_delimiter = ',', value_name = "PATTERN")]
    pub public: Vec<Pattern>,

    /// Let visitors sign in within frames of other sites (--frame-ancestors). A browser then keeps a
    /// token for each site that has the frame, and sends it only there; the cookie is SameSite=None,
    /// Secure and Partitioned, not SameSite=Lax. Pages of those sites still cannot write. Needs origins
    /// in --frame-ancestors, a secret, and TLS: here, or at a proxy that --trusted-proxy names
    #[arg(long, env = "TIDINGS_PARTITIONED_COOKIES", value_parser = BoolishValueParser::new())]
    pub partitioned_cookies: bool,

    /// Run without access control even if other machines can reach the server: every client may
    /// publish to, end and delete any stream
    #[arg(long, env = "TIDINGS_OPEN", value_parser = BoolishValueParser::new())]
    pub open: bool,

    /// A host name, without a port, under which clients may address a server without a secret; * for
    /// any. Localhost and loopback addresses are always allowed. Other names are refused, because web
    /// pages of other sites could use them to reach a server on a loopback address (DNS rebinding).
    /// Repeat the flag for several; separate them by commas in the environment variable. Has no effect
    /// with a secret or with --open
    #[arg(long, env = "TIDINGS_ALLOW_HOST", value_delimiter = ',', value_name = "HOST",
          value_parser = parse_host_name)]
    pub allow_host: Vec<String>,
}

/// Parses a host name without a port, or `*`. Makes it lower case, without a trailing full stop.
fn parse_host_name(text: &str) -> Result<String, &'static str> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_host = name.parse::<Authority>().is_ok_and(|authority| authority.host() == name);
    if name == "*" || is_host && !name.starts_with('[') {
        Ok(name)
    } else {
        Err("must be a host name or an IPv4 address, without a scheme and without a port, or *")
    }
}

/// The secret that signs and verifies tokens.
#[derive(Args, Clone, Debug)]
pub struct SecretOptions {
    /// The secret that signs tokens, at least 32 bytes. Prefer --secret-file: other users of the
    /// machine can read a command line
    #[arg(long, env = "TIDINGS_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub secret: Option<Secret>,

    /// A file that holds the secret; `openssl rand -hex 32` generates one
    #[arg(long, env = "TIDINGS_SECRET_FILE", value_name = "FILE", conflicts_with = "secret")]
    pub secret_file: Option<PathBuf>,
}

/// The shortest secret. A key for HS256 must be as long as the hash (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

impl AccessOptions {
    /// Checks options that depend on each other, and whether a server without access control is only
    /// reachable from this machine. `proxied`: whether a proxy is trusted.
    pub(super) fn check(&self, listen: SocketAddr, proxied: bool) -> Result<(), String> {
        let secret = self.secret.secret.is_some() || self.secret.secret_file.is_some();
        let previous = self.previous_secret.is_some() || self.previous_secret_file.is_some();
        if self.open && secret {
            return Err("--open and a secret exclude each other; use only one of them".to_owned());
        }
        if previous && !secret {
            return Err("--previous-secret needs a --secret that replaces it".to_owned());
        }
        if !self.public.is_empty() && !secret {
            return Err(
                "--public has no effect without a secret: all streams are public".to_owned()
            );
        }
        if !secret && !self.open && proxied {
            return Err(format!(
                "other machines can reach {listen} through the trusted proxy (--trusted-proxy), \
                 and without a secret every client may publish, end and delete. Set a secret that \
                 signs tokens (--secret-file FILE; `openssl rand -hex 32` generates one), or allow \
                 all clients explicitly (--open)."
            ));
        }
        if !secret && !self.open && !listen.ip().to_canonical().is_loopback() {
            return Err(format!(
                "other machines can reach {listen}, and without a secret every client may publish, \
                 end and delete. Set a secret that signs tokens (--secret-file FILE; `openssl rand \
                 -hex 32` generates one), or listen on a loopback address (--listen 127.0.0.1:{}), \
                 or allow all clients explicitly (--open).",
                listen.port()
            ));
        }
        Ok(())
    }

    /// Checks whether cookies can be partitioned. `may_use_tls`: whether a request can have come over TLS.
    pub(super) fn check_cookies(
        &self,
        frame_ancestors: &[Origin],
        may_use_tls: bool,
    ) -> Result<(), String> {
        let secret = self.secret.secret.is_some() || self.secret.secret_file.is_some();
        let missing = match frame_ancestors {
            _ if !self.partitioned_cookies => return Ok(()),
            [] => "the origins whose pages have the frame (--frame-ancestors)",
            // Any site could then lead a visitor who signs in there to click on what is framed.
            origins if origins.contains(&Origin::Any) => {
                "origins in --frame-ancestors, and not *: visitors would sign in within any site"
            }
            _ if !secret => "a secret: without one, no visitor signs in",
            _ if !may_use_tls => {
                "TLS (--tls-cert, or a proxy that --trusted-proxy names): browsers accept such \
                 cookies only over https"
            }
            _ => return Ok(()),
        };
        Err(format!("--partitioned-cookies needs {missing}"))
    }

    /// The access rules that these options describe.
    ///
    /// # Errors
    /// When a secret cannot be read or used. The error names it.
    pub fn rules(&self, clock: Clock) -> anyhow::Result<Access> {
        Access::new(&self.secrets()?, self.public.clone(), self.partitioned_cookies, clock)
    }

    /// The host names under which clients may address the server, besides loopback ones. `None`
    /// allows any: with a secret, with `--open`, or with `--allow-host '*'`.
    pub(in crate::server) fn allowed_hosts(&self) -> Option<&[String]> {
        let has_secret = self.secret.secret.is_some() || self.secret.secret_file.is_some();
        let any = has_secret || self.open || self.allow_host.iter().any(|host| host == "*");
        (!any).then_some(&self.allow_host)
    }

    /// The secrets that verify tokens, the current one first. Empty without access control.
    ///
    /// # Errors
    /// When a file cannot be read, or a secret is too short. The error names it.
    pub(crate) fn secrets(&self) -> anyhow::Result<Vec<Secret>> {
        let previous = read_secret(
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
    /// When its file cannot be read, or when it is shorter than 32 bytes.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Secret>> {
        read_secret("--secret", self.secret.as_ref(), self.secret_file.as_ref())
    }
}

/// Reads a secret from its flag or its file.
fn read_secret(
    flag: &str,
    value: Option<&Secret>,
    file: Option<&PathBuf>,
) -> anyhow::Result<Option<Secret>> {
    let secret = match (value, file) {
        (Some(secret), _) => secret.clone(),
        (None, Some(file)) => {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read {flag}-file {}", file.display()))?;
            // Some editors begin a file with a byte order mark.
            Secret::new(text.trim_start_matches('\u{feff}').trim())
        }
        (None, None) => return Ok(None),
    };
    let length = secret.as_bytes().len();
    if length < MIN_SECRET_BYTES {
        bail!(
            "the secret of {flag} has {length} bytes, and must have at least {MIN_SECRET_BYTES}; \
             `openssl rand -hex 32` generates one"
        );
    }
    Ok(Some(secret))
}
