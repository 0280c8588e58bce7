//! Making a token.

use anyhow::Context as _;
use clap::Args;

use super::{Age, SecretOptions};
use crate::server::{
    clock::Clock,
    guard::{Claims, NumericDate, Pattern, sign},
};

/// Print a token for whoever may publish or watch
///
/// Nothing is stored: every server that has the same secret honours it until it expires. In a
/// pattern, * stands for any characters.
#[derive(Args, Clone, Debug)]
pub struct TokenOptions {
    /// The streams it lets publish to, end and delete, like ci-*; may be given several times
    #[arg(long, value_delimiter = ',', value_name = "PATTERN", required_unless_present = "watch")]
    pub publish: Vec<Pattern>,

    /// The streams it lets watch; may be given several times
    #[arg(long, value_delimiter = ',', value_name = "PATTERN")]
    pub watch: Vec<Pattern>,

    /// Who it is for: the name that the log and the pages show, and whose publishes are counted
    /// together
    #[arg(long = "for", value_name = "NAME", value_parser = name)]
    pub name: String,

    /// For how long it is good, 1s to 10y
    #[arg(long, default_value = "90d", value_name = "DURATION")]
    pub expires: Age,

    /// What it is made with.
    #[command(flatten)]
    pub secret: SecretOptions,
}

impl TokenOptions {
    /// The token.
    ///
    /// # Errors
    /// When there is no secret, or when it can not be used.
    pub fn make(self) -> anyhow::Result<String> {
        let secret = self.secret.read()?.context(
            "a token is made with the server's secret; give it with --secret-file or TIDINGS_SECRET",
        )?;
        let age = u64::try_from(self.expires.0.as_millis()).unwrap_or(u64::MAX);
        let exp = NumericDate(Clock::System.now().saturating_add(age));
        let Self { name, publish, watch, .. } = self;
        sign(&Claims { name, publish, watch, exp, nbf: None }, &secret)
    }
}

/// A name that fits a line.
fn name(text: &str) -> Result<String, &'static str> {
    let fits = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 64 characters, on one line") }
}
