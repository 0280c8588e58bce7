//! Limit options: rate limits, concurrency limits, sizes, timeouts, the memory budget, and trusted
//! proxies.

use clap::{Args, builder::RangedU64ValueParser};
use ipnet::IpNet;

use sysinfo::{
    MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System, get_current_pid,
};

use super::{Rate, Size, Span};
use crate::server::guard::min_budget;

/// The largest `--max-message-bytes`: the server holds several copies of a message in memory.
const MAX_MESSAGE_BYTES: u64 = 16 * 1024 * 1024;

/// The largest default of `--memory-budget`, in bytes.
const MAX_DEFAULT_BUDGET: u64 = 1024 * 1024 * 1024;

/// Limits. An address is an IPv4 address, or the /64 network of an IPv6 address; the /56 network around
/// it may have 4 times as much, and the /48 network 16 times.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// The maximum number of streams that may exist; publishing to a further one is refused
    #[arg(long, env = "TIDINGS_MAX_STREAMS", default_value = "1000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_streams: u64,

    /// The maximum number of bytes of a message, up to 16MiB
    #[arg(long, env = "TIDINGS_MAX_MESSAGE_BYTES", default_value = "64KiB", value_name = "SIZE")]
    pub max_message_bytes: Size<MAX_MESSAGE_BYTES>,

    /// The maximum memory, for example 256MiB, for request bodies, responses that are not event
    /// streams, the newest messages of watched streams, and large messages that are being sent to
    /// watchers. A request that does not fit waits 2 seconds and is then refused. Default: a quarter of
    /// the memory of the machine or of the control group, at most 1GiB
    #[arg(long, env = "TIDINGS_MEMORY_BUDGET", value_name = "SIZE")]
    pub memory_budget: Option<Size<{ u64::MAX }>>,

    /// The maximum number of messages per second that the tokens of one name may publish, or one
    /// address if the server has no secret; a burst of ten seconds' worth is allowed. Beyond that, an
    /// upload of lines is slowed down, and other requests are refused. 0 sets no limit.
    ///
    /// In these limits, an address is an IPv4 address or the /64 network of an IPv6 address. The /56
    /// network around it has 4 times the limit, and the /48 network 16 times
    #[arg(long, env = "TIDINGS_PUBLISH_RATE", default_value = "200", value_name = "NUMBER")]
    pub publish_rate: Rate,

    /// The maximum number of event streams (SSE) that may be open at the same time. One that has the
    /// messages of several streams counts as one
    #[arg(long, env = "TIDINGS_MAX_WATCHERS", default_value = "10000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_watchers: u64,

    /// The maximum number of event streams that may be open to one address at the same time
    #[arg(long, env = "TIDINGS_MAX_WATCHERS_PER_ADDRESS", default_value = "200",
          value_name = "NUMBER", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_watchers_per_address: u64,

    /// The maximum number of connections that may be open at the same time; further ones are closed at
    /// once
    #[arg(long, env = "TIDINGS_MAX_CONNECTIONS", default_value = "12000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_connections: u64,

    /// The maximum number of connections that may be open to one address at the same time; those of a
    /// trusted proxy are not limited
    #[arg(long, env = "TIDINGS_MAX_CONNECTIONS_PER_ADDRESS", default_value = "400",
          value_name = "NUMBER", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_connections_per_address: u64,

    /// The maximum number of requests of one address that may be in progress at the same time, not
    /// counting event streams
    #[arg(long, env = "TIDINGS_MAX_REQUESTS_PER_ADDRESS", default_value = "100",
          value_name = "NUMBER", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_requests_per_address: u64,

    /// The maximum number of pages of the site or of the history that one address may read per second;
    /// the list of streams counts for five, and a search for ten. A burst of ten seconds' worth is allowed. 0 sets no limit
    #[arg(long, env = "TIDINGS_READ_RATE", default_value = "50", value_name = "NUMBER")]
    pub read_rate: Rate,

    /// The maximum number of attempts to sign in per minute and address. 0 sets no limit
    #[arg(long, env = "TIDINGS_SIGN_IN_RATE", default_value = "10", value_name = "NUMBER")]
    pub sign_in_rate: Rate,

    /// How long a TLS handshake or the headers of a request may take, and how long a connection may
    /// be idle, 1ms to 1h; then it is closed
    #[arg(long, env = "TIDINGS_HEADER_TIMEOUT", default_value = "15s", value_name = "DURATION")]
    pub header_timeout: Span<1>,

    /// How long a client may take to send a request's body, 1ms to 1h. An upload of lines has no
    /// timeout. While other requests wait for memory, the limit for a body, and for a line of more than
    /// 2 KiB, is 15s
    #[arg(long, env = "TIDINGS_BODY_TIMEOUT", default_value = "1m", value_name = "DURATION")]
    pub body_timeout: Span<1>,

    /// A network of reverse proxies, for example 10.0.0.0/8 or 127.0.0.1/32. Their x-forwarded-for and
    /// x-forwarded-proto headers set the address and scheme of a client. Repeat the flag for several;
    /// separate them by commas in the environment variable. Default: the headers are ignored
    #[arg(long, env = "TIDINGS_TRUSTED_PROXY", value_delimiter = ',', value_name = "NETWORK")]
    pub trusted_proxy: Vec<IpNet>,
}

impl LimitOptions {
    /// The memory budget in bytes: the configured one, or else the default for this machine.
    pub(crate) fn memory_budget(&self) -> u64 {
        let default = || {
            let quarter = available_memory().unwrap_or_default() / 4;
            quarter.min(MAX_DEFAULT_BUDGET).max(min_budget(self.max_message_bytes.0))
        };
        self.memory_budget.map_or_else(default, |size| size.0)
    }

    /// Checks options that depend on each other.
    pub(super) fn check(&self) -> Result<(), String> {
        let min = min_budget(self.max_message_bytes.0);
        match self.memory_budget {
            Some(budget) if budget.0 < min => Err(format!(
                "--memory-budget {budget} is too small: to serve one request, with \
                 --max-message-bytes {}, it must be at least {min}",
                self.max_message_bytes
            )),
            _ => Ok(()),
        }
    }
}

/// The memory in bytes of the machine, or of the process's control group if that is less. `None` if the
/// system does not report it.
fn available_memory() -> Option<u64> {
    let memory = MemoryRefreshKind::nothing().with_ram();
    let kind = RefreshKind::nothing().with_memory(memory);
    let mut system = System::new_with_specifics(kind).ok()?;
    let cgroup = get_current_pid().ok().and_then(|id| {
        let processes = ProcessesToUpdate::Some(&[id]);
        system.refresh_processes_specifics(processes, false, ProcessRefreshKind::nothing());
        system.process(id)?.cgroup_limits()
    });
    let cgroup = cgroup.or_else(|| system.cgroup_limits()).map(|group| group.total_memory);
    let known = cgroup.into_iter().chain([system.total_memory()]);
    known.filter(|bytes| *bytes > 0).min()
}
