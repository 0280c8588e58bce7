//! Tells noisy measurements apart: those during which other processes used the processors.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{parts::as_f64, processes};

/// The part of the processors' time that others may use during a measurement.
pub(crate) const LIMIT: f64 = 0.05;

/// Watches what others use while something is measured.
pub(crate) struct Watch {
    began: Instant,
    used: Duration,
}

/// What others used during a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    /// The part of the processors' time.
    pub(crate) part: f64,
}

impl Watch {
    pub(crate) fn begin() -> anyhow::Result<Self> {
        Ok(Self { began: Instant::now(), used: processes::used_by_others()? })
    }

    pub(crate) fn end(&self) -> anyhow::Result<Noise> {
        let used = processes::used_by_others()?.saturating_sub(self.used);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let time = self.began.elapsed().as_secs_f64() * as_f64(cores as u64);
        Ok(Noise { part: used.as_secs_f64() / time })
    }
}

impl Noise {
    /// That of a measurement which noise does not change, such as one of memory.
    pub(crate) const NONE: Self = Self { part: 0.0 };

    /// That of a figure which two measurements give.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { part: self.part.max(other.part) }
    }

    pub(crate) fn is_too_high(self) -> bool {
        self.part > LIMIT
    }

    pub(crate) fn percent(self) -> f64 {
        100.0 * self.part
    }
}
