//! Observability: the log, the request log, and the Prometheus metrics.

pub(crate) mod logging;
pub(crate) mod metrics;
pub(crate) mod request_log;

pub use self::logging::Telemetry;
pub(crate) use self::{
    metrics::{MemoryUsage, Metrics, Sample, StreamKind},
    request_log::{RequestContext, Streaming},
};
