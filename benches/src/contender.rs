//! The servers that are compared.

use std::fmt;

use clap::ValueEnum;

/// A server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    /// This build of Tidings
    Ours,
    /// Another build of Tidings, which `--before` names
    Before,
    /// The usual axum example of a live stream, which stores nothing
    Baseline,
    /// Writes each message to each socket, and does nothing else
    Floor,
    /// The nchan module of nginx, where it is installed
    Nchan,
}

impl Contender {
    pub(crate) const ALL: [Self; 5] =
        [Self::Ours, Self::Before, Self::Baseline, Self::Floor, Self::Nchan];
    /// Those that store messages, and take the flags of Tidings.
    pub(crate) const TIDINGS: [Self; 2] = [Self::Ours, Self::Before];

    /// Whether it is a build of Tidings.
    pub(crate) fn is_tidings(self) -> bool {
        Self::TIDINGS.contains(&self)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ours => "ours",
            Self::Before => "before",
            Self::Baseline => "baseline",
            Self::Floor => "floor",
            Self::Nchan => "nchan",
        })
    }
}
