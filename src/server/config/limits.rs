//! Limit options: what is refused beyond, so that no client takes what all share.

use clap::{Args, builder::RangedU64ValueParser};
use ipnet::IpNet;

use sysinfo::{
    MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System, get_current_pid,
};

use super::{Rate, Size, Span};
use crate::server::guard::min_budget;

/// The most bytes a message may be allowed to have: it is held in memory several times over.
const MAX_MESSAGE_BYTES: u64 = 16 * 1024 * 1024;

/// The most memory that is budgeted without being told to.
const MAX_DEFAULT_BUDGET: u64 = 1024 * 1024 * 1024;

/// Limits. An address is an IPv4 address, or the /64 network that an IPv6 address is in; the /56 network
/// around that may have 4 times as much, and the /48 network around that 16 times as much.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// How many streams there may be; who publishes to one more is refused
    #[arg(long, env = "TIDINGS_MAX_STREAMS", default_value = "1000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_streams: u64,

    /// How many bytes a message may have, at most 16MiB
    #[arg(long, env = "TIDINGS_MAX_MESSAGE_BYTES", default_value = "64KiB", value_name = "SIZE")]
    pub max_message_bytes: Size<MAX_MESSAGE_BYTES>,

    /// How much memory request bodies, answers that are not streams, the newest messages of watched
    /// streams, and large ones that readers hold may take together, like 256MiB. By default a quarter of what the machine has, or the
    /// control group, and at most 1GiB
    #[arg(long, env = "TIDINGS_MEMORY_BUDGET", value_name = "SIZE")]
    pub memory_budget: Option<Size<{ u64::MAX }>>,

    /// How many messages a second a token may publish, or an address where there are no tokens;
    /// ten seconds' worth may come at once. An upload of lines waits, what is more of others is
    /// refused. 0 sets no limit
    #[arg(long, env = "TIDINGS_PUBLISH_RATE", default_value = "200", value_name = "NUMBER")]
    pub publish_rate: Rate,

    /// How many streams of events may be open at the same time
    #[arg(long, env = "TIDINGS_MAX_WATCHERS", default_value = "10000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_watchers: u64,

    /// How many of them may be open to one address
    #[arg(long, env = "TIDINGS_MAX_WATCHERS_PER_ADDRESS", default_value = "200",
          value_name = "NUMBER", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_watchers_per_address: u64,

    /// How many connections may be open at the same time; what comes beyond is closed at once
    #[arg(long, env = "TIDINGS_MAX_CONNECTIONS", default_value = "12000", value_name = "NUMBER",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_connections: u64,

    /// How many of them may be open to one address; a trusted proxy may have as many as it likes
    #[arg(long, env = "TIDINGS_MAX_CONNECTIONS_PER_ADDRESS", default_value = "400",
          value_name = "NUMBER", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_connections_per_address: u64,

    /// How many requests of one address may be answered at the same time, streams of events left out
    #[arg(long, env = "TIDINGS_MAX_REQUESTS_PER_ADDRESS", default_value = "100",
          value_name = "NUMBER", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_requests_per_address: u64,

    /// How many pages, and pages of history, one address may read a second; a list of the streams counts
    /// for five. Ten seconds' worth may come at once. 0 sets no limit
    #[arg(long, env = "TIDINGS_READ_RATE", default_value = "50", value_name = "NUMBER")]
    pub read_rate: Rate,

    /// How many times a minute one address may try to sign in
    #[arg(long, env = "TIDINGS_SIGN_IN_RATE", default_value = "10", value_name = "NUMBER")]
    pub sign_in_rate: Rate,

    /// How long a client may take to say what it wants, its TLS handshake included
    #[arg(long, env = "TIDINGS_HEADER_TIMEOUT", default_value = "15s", value_name = "DURATION")]
    pub header_timeout: Span<1>,

    /// How long the body of a request may take; an upload of lines may take as long as it likes. While
    /// others wait for memory, a body, and a line of more than 2 KiB, must come within 15s
    #[arg(long, env = "TIDINGS_BODY_TIMEOUT", default_value = "1m", value_name = "DURATION")]
    pub body_timeout: Span<1>,

    /// A network of proxies whose x-forwarded-for and x-forwarded-proto are believed, like
    /// 10.0.0.0/8 or 127.0.0.1/32; may be given several times, in the environment separated by
    /// commas. By default nobody's are
    #[arg(long, env = "TIDINGS_TRUSTED_PROXY", value_delimiter = ',', value_name = "NETWORK")]
    pub trusted_proxy: Vec<IpNet>,
}

impl LimitOptions {
    /// The memory budget in bytes: what was given, or else what the machine lets us take.
    pub(crate) fn memory_budget(&self) -> u64 {
        let default = || {
            let quarter = available_memory().unwrap_or_default() / 4;
            quarter.min(MAX_DEFAULT_BUDGET).max(min_budget(self.max_message_bytes.0))
        };
        self.memory_budget.map_or_else(default, |size| size.0)
    }

    /// What no value alone can tell.
    pub(super) fn check(&self) -> Result<(), String> {
        let least = min_budget(self.max_message_bytes.0);
        match self.memory_budget {
            Some(budget) if budget.0 < least => Err(format!(
                "--memory-budget {budget} is too small: to serve one request, with \
                 --max-message-bytes {}, it must be at least {least}",
                self.max_message_bytes
            )),
            _ => Ok(()),
        }
    }
}

/// The memory of the machine in bytes, or of the control group that this process is in, if that has
/// less; none where the system does not say.
fn available_memory() -> Option<u64> {
    let memory = MemoryRefreshKind::nothing().with_ram();
    let kind = RefreshKind::nothing().with_memory(memory);
    let mut system = System::new_with_specifics(kind).ok()?;
    let of_group = get_current_pid().ok().and_then(|id| {
        let processes = ProcessesToUpdate::Some(&[id]);
        system.refresh_processes_specifics(processes, false, ProcessRefreshKind::nothing());
        system.process(id)?.cgroup_limits()
    });
    let of_group = of_group.or_else(|| system.cgroup_limits()).map(|group| group.total_memory);
    let known = of_group.into_iter().chain([system.total_memory()]);
    known.filter(|bytes| *bytes > 0).min()
}
