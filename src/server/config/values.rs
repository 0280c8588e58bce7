//! The types of option values, whose parsers check their limits.

use std::{
    ffi::OsStr,
    fmt,
    net::{SocketAddr, ToSocketAddrs as _},
    num::NonZeroU32,
    str::FromStr,
    time::Duration,
};

use clap::{Arg, Command, builder::TypedValueParser, error::ErrorKind};

use crate::server::log::Store;

/// A duration of at least `MIN` milliseconds and at most an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<const MIN: u64>(Duration);

impl<const MIN: u64> From<Span<MIN>> for Duration {
    fn from(span: Span<MIN>) -> Self {
        span.0
    }
}

impl<const MIN: u64> FromStr for Span<MIN> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text)
            .map_err(|error| format!("{error}; write it like 50ms, 15s or 2m"))?;
        if duration.subsec_nanos() % 1_000_000 != 0 {
            return Err("must be whole milliseconds".to_owned());
        }
        if duration < Duration::from_millis(MIN) || duration > Duration::from_hours(1) {
            return Err(format!("must be {MIN}ms to 1h"));
        }
        Ok(Self(duration))
    }
}

/// A duration of at least a second and at most ten years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(pub(crate) Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let age = humantime::parse_duration(text)
            .map_err(|error| format!("{error}; write it like 12h, 30d or 1y"))?;
        if age < Duration::from_secs(1) || age > Duration::from_hours(24 * 3660) {
            return Err("must be 1s to 10y".to_owned());
        }
        Ok(Self(age))
    }
}

/// A number of bytes, at least one and at most `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size<const MAX: u64>(pub(crate) u64);

impl<const MAX: u64> fmt::Display for Size<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MAX: u64> FromStr for Size<MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = |_| "must be a number of bytes, like 65536, 500KB or 16MiB".to_owned();
        match text.parse::<bytesize::ByteSize>().map_err(expected)?.as_u64() {
            bytes if (1..=MAX).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(format!("must be 1 to {}", Self(MAX))),
        }
    }
}

/// A number of operations per unit of time; `None` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub(crate) Option<NonZeroU32>);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: u32 =
            text.parse().map_err(|_| "must be a whole number; 0 sets no limit".to_owned())?;
        Ok(Self(NonZeroU32::new(number)))
    }
}

/// Parses an IP address and port, or resolves a host name and port. Prefers IPv4 addresses of a name,
/// since every program can reach those.
///
/// # Errors
/// When the text is neither, or the name cannot be resolved.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let expected = "write it like 127.0.0.1:3000, [::1]:3000 or localhost:3000";
    let mut found: Vec<_> =
        text.to_socket_addrs().map_err(|error| format!("{error}; {expected}"))?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| format!("the name has no address; {expected}"))
}

/// Parses a [`Store`]. Unlike those of other values, its errors do not repeat the text, which may hold a
/// password.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreParser;

impl TypedValueParser for StoreParser {
    type Value = Store;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Store, clap::Error> {
        let text = value.to_str().ok_or_else(|| "it is not UTF-8".to_owned());
        text.and_then(str::parse).map_err(|error| {
            let option = arg.map(ToString::to_string).unwrap_or_default();
            let message = format!("invalid value for '{option}': {error}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => {
                Err("must be the path of a file, :memory:, or postgres://user@host/database"
                    .to_owned())
            }
            ":memory:" => Ok(Self::Memory),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Ok(Self::Postgres(Box::new(url.parse()?)))
            }
            file => Ok(Self::File(file.into())),
        }
    }
}
