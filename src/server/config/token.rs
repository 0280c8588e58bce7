//! The subcommand `tidings token`: signs a token and prints it, or the secret of a webhook.

use anyhow::Context as _;
use clap::Args;

use super::{Age, SecretOptions};
use crate::{
    message::StreamName,
    server::{
        clock::Clock,
        guard::{Claims, NumericDate, Pattern, sign, webhook_secret},
    },
};

/// Print a token that lets a client publish to or watch streams, or the secret of a webhook
///
/// Tokens are not stored: each server with the same secret accepts the token until it expires. In a
/// pattern, * matches any characters.
#[derive(Args, Clone, Debug)]
pub struct TokenOptions {
    /// The streams that the token lets a client publish to, end and delete, for example ci-*. Repeat the
    /// flag, or separate them by commas, for several
    #[arg(long, value_delimiter = ',', value_name = "PATTERN",
          required_unless_present_any = ["watch", "webhook"])]
    pub publish: Vec<Pattern>,

    /// The streams that the token lets a client watch. Repeat the flag, or separate them by commas, for
    /// several
    #[arg(long, value_delimiter = ',', value_name = "PATTERN")]
    pub watch: Vec<Pattern>,

    /// The name of the token's holder, which the log and the pages show. Tokens of one name share a
    /// publish rate limit
    #[arg(long = "for", value_name = "NAME", value_parser = parse_name,
          required_unless_present = "webhook")]
    pub name: Option<String>,

    /// How long the token is valid, 1s to 10y
    #[arg(long, default_value = "90d", value_name = "DURATION")]
    pub expires: Age,

    /// Print, in place of a token, the secret for the webhook of this stream, for the settings of GitHub,
    /// GitLab or Gitea; its address is /streams/NAME/webhook. With it a program can publish payloads to
    /// that stream, and nothing else. It does not expire, but changes with the server's secret
    #[arg(long, value_name = "STREAM", value_parser = parse_stream,
          conflicts_with_all = ["publish", "watch", "name", "expires"])]
    pub webhook: Option<StreamName>,

    /// The secret that signs it.
    #[command(flatten)]
    pub secret: SecretOptions,
}

impl TokenOptions {
    /// Signs the token, or derives the secret of the webhook.
    ///
    /// # Errors
    /// When there is no secret, or when it cannot be read or used.
    pub fn make(self) -> anyhow::Result<String> {
        let secret = self.secret.read()?.context(
            "a token needs the server's secret; set it with --secret-file or TIDINGS_SECRET",
        )?;
        if let Some(stream) = &self.webhook {
            return webhook_secret(&secret, stream).context("the secret cannot be used");
        }
        let age = u64::try_from(self.expires.0.as_millis()).unwrap_or(u64::MAX);
        let exp = NumericDate(Clock::System.now().saturating_add(age));
        let Self { name, publish, watch, .. } = self;
        let name = name.context("a token needs the name of its holder; set it with --for")?;
        sign(&Claims { name, publish, watch, exp, nbf: None }, &secret)
    }
}

fn parse_stream(text: &str) -> Result<StreamName, &'static str> {
    text.parse().map_err(|_| {
        "must be 1 to 64 of a-z, 0-9, hyphen, underscore and full stop, a letter or a digit first"
    })
}

/// Parses a name: 1 to 64 characters, none of them a control character.
fn parse_name(text: &str) -> Result<String, &'static str> {
    let is_valid = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if is_valid { Ok(text.to_owned()) } else { Err("must be 1 to 64 characters, on one line") }
}
