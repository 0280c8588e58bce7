//! Memory that stalled clients make the server hold: its peak growth beyond the same connections
//! open and idle, with a memory budget of 64 MiB, and the peak of the reserved memory.
//!
//! The budget is passed in the environment, so that a server without one can be measured too.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use reqwest::{Client, StatusCode};
use tidings_bench::held::{Held, own_address, shared_address};
use tokio::runtime::Runtime;

use super::{Bench, NO_LIMITS, Running, as_f64};
use crate::{contender::Contender, identity::Identity, process::Server, table::Table};

/// The memory budget of the server.
const BUDGET: (&str, &str) = ("TIDINGS_MEMORY_BUDGET", "64MiB");
/// A proxy, so that one machine has many client addresses; more streams than usual; and long
/// timeouts, so that idle connections stay open, as do bodies while no other client waits for
/// memory.
const ARGUMENTS: [&str; 6] = [
    "--trusted-proxy=127.0.0.1/32",
    "--open",
    "--max-streams=2000",
    "--header-timeout=1h",
    "--body-timeout=1h",
    "--metrics-listen=127.0.0.1:0",
];

const UPLOADS: usize = 4_000;
const UPLOAD_BYTES: usize = 64 * 1024;
const DRIPS: usize = 500;
const PAGES: usize = 100;
const READERS: usize = 180;
const TAILS: usize = 1_000;
/// How long a server is watched after the load.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// The number of connections it needs at once.
pub(super) const MAX_CONNECTIONS: usize = UPLOADS + DRIPS + 2 * PAGES + 2 * READERS + TAILS + 100;

/// A load that makes a server hold memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Uploads that stall, from many addresses.
    Uploads,
    /// Uploads that arrive byte by byte, from many addresses.
    Drips,
    /// Pages of history that one address does not read.
    History,
    /// HTML pages that one address does not read.
    Pages,
    /// Readers of a stream that stall, each at a different position.
    Readers,
    /// Stalled readers of messages that consist of line breaks.
    LineBreaks,
    /// Many watched streams, each with messages.
    Tails,
}

impl Way {
    const ALL: [Self; 7] = [
        Self::Uploads,
        Self::Drips,
        Self::History,
        Self::Pages,
        Self::Readers,
        Self::LineBreaks,
        Self::Tails,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Uploads => "4,000 stalled uploads of 64 KiB",
            Self::Drips => "500 uploads byte by byte",
            Self::History => "100 unread pages of history",
            Self::Pages => "100 unread HTML pages",
            Self::Readers => "180 stalled readers",
            Self::LineBreaks => "180 stalled readers of line breaks",
            Self::Tails => "1,000 watched streams",
        }
    }

    fn requests(self, bench: &Bench) -> usize {
        bench.size(match self {
            Self::Uploads => UPLOADS,
            Self::Drips => DRIPS,
            Self::History | Self::Pages => PAGES,
            Self::Readers | Self::LineBreaks => READERS,
            Self::Tails => TAILS,
        })
    }
}

pub(super) fn measure(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    let together = [&Way::ALL[..]];
    let ways = Way::ALL.chunks(1).chain(together);
    for ways in ways {
        for protocol in ["HTTP/1.1", "HTTP/2"] {
            for contender in bench.contenders(&Contender::TIDINGS) {
                let what = if let [way] = ways { way.name() } else { "all of these together" };
                let identity = if protocol == "HTTP/2" { Some(Identity::new()?) } else { None };
                let server = start(bench, contender, identity.as_ref())?;
                let load = Load { bench, server: &server, identity: identity.as_ref() };
                let peak = runtime.block_on(load.attack(ways))?;
                for (of, bytes) in [("more memory", peak.grown), ("reserved", peak.reserved)] {
                    let measure = format!("{what}, {protocol}: {of}, MiB");
                    table.add(contender, &measure, as_f64(bytes) / 1024.0 / 1024.0);
                }
            }
        }
    }
    Ok(())
}

fn start(
    bench: &Bench,
    contender: Contender,
    identity: Option<&Identity>,
) -> anyhow::Result<Running> {
    let mut limits: Vec<String> = NO_LIMITS.map(str::to_owned).into();
    limits.extend(ARGUMENTS.map(str::to_owned));
    limits.extend(identity.into_iter().flat_map(Identity::flags));
    let limits: Vec<_> = limits.iter().map(String::as_str).collect();
    bench.start_in(contender, &limits, &[BUDGET])
}

/// The number of attempts of a publisher that gets a 503.
const ATTEMPTS: u32 = 60;

/// Peak values, in bytes.
struct Peak {
    /// The growth of the server.
    grown: u64,
    /// The reserved memory.
    reserved: u64,
}

/// The load on one server.
struct Load<'bench> {
    bench: &'bench Bench,
    server: &'bench Server,
    identity: Option<&'bench Identity>,
}

impl Load<'_> {
    /// Runs all these loads at the same time.
    async fn attack(&self, ways: &[Way]) -> anyhow::Result<Peak> {
        let client = self.client()?;
        // As much text as a page has, in characters that are escaped.
        self.publish(&client, "page", &"<".repeat(32 * 1024), 20).await?;
        self.publish_text(&client, "breaks", "\n".repeat(64 * 1024)).await?;
        let mut held = Vec::new();
        for way in ways {
            let requests = way.requests(self.bench);
            let mut connections = self.connect(requests).await?;
            self.prepare(*way, &mut connections).await?;
            held.push((*way, connections));
        }
        // Until the published messages are written, and the memory for them is freed.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let before = self.server.resident_bytes()?;
        let attacking = async {
            try_join_all(held.iter_mut().map(|(way, held)| self.act(*way, held, &client))).await?;
            tokio::time::sleep(AFTERWARDS).await;
            anyhow::Ok(())
        };
        let mut peak = Peak { grown: 0, reserved: 0 };
        tokio::select! {
            attacked = attacking => attacked?,
            watched = self.watch(before, &mut peak) => watched?,
        }
        Ok(peak)
    }

    /// Samples the memory of the server, and records the peaks.
    async fn watch(&self, before: u64, peak: &mut Peak) -> anyhow::Result<()> {
        let address = self.server.metrics.context("the server has no metrics")?;
        let client = Client::builder().no_proxy().build()?;
        loop {
            let grown = self.server.resident_bytes()?.saturating_sub(before);
            peak.grown = peak.grown.max(grown);
            let metrics = client.get(format!("http://{address}/metrics")).send().await?;
            let metrics = metrics.text().await?;
            let parts = metrics.lines().filter(|line| line.starts_with("tidings_memory_bytes{"));
            let values = parts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
            peak.reserved = peak.reserved.max(values.sum());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn client(&self) -> anyhow::Result<Client> {
        let client = match self.identity {
            Some(identity) => identity.client(),
            None => Client::builder().no_proxy(),
        };
        Ok(client.build()?)
    }

    async fn connect(&self, requests: usize) -> anyhow::Result<Held> {
        let client = self.identity.map(|identity| || identity.client());
        Held::connect(self.server.address, client, requests).await
    }

    /// Publishes the same line again and again.
    async fn publish(
        &self,
        client: &Client,
        stream: &str,
        line: &str,
        times: usize,
    ) -> anyhow::Result<()> {
        let scheme = if self.identity.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/streams/{stream}?lines", self.server.address);
        self.post(client, &url, format!("{line}\n").repeat(times)).await
    }

    /// Publishes a message that may have many lines.
    async fn publish_text(
        &self,
        client: &Client,
        stream: &str,
        text: String,
    ) -> anyhow::Result<()> {
        let scheme = if self.identity.is_some() { "https" } else { "http" };
        self.post(client, &format!("{scheme}://{}/streams/{stream}", self.server.address), text)
            .await
    }

    async fn post(&self, client: &Client, url: &str, body: String) -> anyhow::Result<()> {
        for _ in 0..ATTEMPTS {
            let answer = client.post(url).body(body.clone()).send().await?;
            if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
                answer.error_for_status().context("an upload was refused")?;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        bail!("a publisher within its limits is always refused")
    }

    /// Opens, before the measurement, watchers that have nothing to read yet.
    async fn prepare(&self, way: Way, held: &mut Held) -> anyhow::Result<()> {
        if way == Way::Tails {
            let path = |n| format!("/streams/tail-{n}/events");
            held.get(0..way.requests(self.bench), path, "*/*", own_address).await?;
            held.read_on();
        }
        Ok(())
    }

    async fn act(&self, way: Way, held: &mut Held, client: &Client) -> anyhow::Result<()> {
        let all = 0..way.requests(self.bench);
        match way {
            Way::Uploads => {
                let body = Bytes::from(vec![b'x'; UPLOAD_BYTES - 1]);
                held.upload("/streams/upload", body, own_address).await;
            }
            Way::Drips => held.drip("/streams/upload", UPLOAD_BYTES, own_address).await,
            Way::History => {
                let path = |_| "/streams/page/messages?limit=1000".to_owned();
                held.get(all, path, "application/json", shared_address).await?;
            }
            Way::Pages => {
                held.get(all, |_| "/streams/page".to_owned(), "text/html", shared_address).await?;
            }
            Way::Readers => {
                let path = |_| "/streams/read/events?last_event_id=latest".to_owned();
                for n in all {
                    held.get(n..n + 1, path, "*/*", own_address).await?;
                    // At the same time, so that they share a group commit.
                    let line = "x".repeat(32 * 1024);
                    let posts = (0..16).map(|_| self.publish(client, "read", &line, 1));
                    join_all(posts).await.into_iter().collect::<anyhow::Result<()>>()?;
                }
            }
            Way::LineBreaks => {
                let path = |_| "/streams/breaks/events".to_owned();
                held.get(all, path, "*/*", own_address).await?;
            }
            Way::Tails => {
                for n in all {
                    self.publish(client, &format!("tail-{n}"), &"x".repeat(1_000), 250).await?;
                }
            }
        }
        Ok(())
    }
}
