//! What clients make the server hold that do not read, or do not send on: by how much it grows at the
//! most beyond the same connections open and idle, with a memory budget of 64 MiB.
//!
//! The budget is given in the environment, so that a server which knows of none can be measured too.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures::future::join_all;
use reqwest::{Client, StatusCode};
use tokio::runtime::Runtime;

use super::{Bench, NO_LIMITS, Running, as_f64};
use crate::{
    held::{Addresses, Held, Identity},
    process::Server,
    table::{Table, Who},
};

/// What the server is told that it may take.
const BUDGET: (&str, &str) = ("TIDINGS_MEMORY_BUDGET", "64MiB");
/// One machine has many addresses behind a proxy, there are more streams than usual, and connections that
/// are idle stay.
const ARGUMENTS: [&str; 4] =
    ["--trusted-proxy=127.0.0.1/32", "--open", "--max-streams=2000", "--header-timeout=1h"];

const UPLOADS: usize = 4_000;
const UPLOAD_BYTES: usize = 64 * 1024;
const PAGES: usize = 100;
const READERS: usize = 180;
const TAILS: usize = 1_000;
/// How long a server is watched after an attack.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// How many connections it needs at once.
pub(super) const MOST_CONNECTIONS: usize = UPLOADS + 2 * PAGES + READERS + TAILS + 100;

/// A way to make a server hold memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Uploads that do not go on, from many addresses.
    Uploads,
    /// Pages of history that one address does not read.
    History,
    /// HTML pages that one address does not read.
    Pages,
    /// Readers of a stream that stall, each at another place.
    Readers,
    /// Many streams that are watched, each with messages.
    Tails,
}

impl Way {
    const ALL: [Self; 5] = [Self::Uploads, Self::History, Self::Pages, Self::Readers, Self::Tails];

    fn name(self) -> &'static str {
        match self {
            Self::Uploads => "4,000 stalled uploads of 64 KiB",
            Self::History => "100 unread pages of history",
            Self::Pages => "100 unread HTML pages",
            Self::Readers => "180 stalled readers",
            Self::Tails => "1,000 watched streams",
        }
    }

    fn requests(self, bench: &Bench) -> usize {
        bench.size(match self {
            Self::Uploads => UPLOADS,
            Self::History | Self::Pages => PAGES,
            Self::Readers => READERS,
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
            let what = if let [way] = ways { way.name() } else { "all of these together" };
            let identity = if protocol == "HTTP/2" { Some(Identity::new()?) } else { None };
            let server = start(bench, identity.as_ref())?;
            let load = Load { bench, server: &server, identity: identity.as_ref() };
            let grown = runtime.block_on(load.attack(ways))?;
            let measure = format!("{what}, {protocol}: more memory, MiB");
            table.add(Who::Ours, &measure, as_f64(grown) / 1024.0 / 1024.0);
        }
    }
    Ok(())
}

fn start(bench: &Bench, identity: Option<&Identity>) -> anyhow::Result<Running> {
    let mut limits: Vec<String> = NO_LIMITS.map(str::to_owned).into();
    limits.extend(ARGUMENTS.map(str::to_owned));
    limits.extend(identity.into_iter().flat_map(Identity::flags));
    let limits: Vec<_> = limits.iter().map(String::as_str).collect();
    bench.start_in(Who::Ours, &limits, &[BUDGET])
}

/// How often a publisher tries that is told to come later.
const ATTEMPTS: u32 = 60;

/// What is done to one server.
struct Load<'bench> {
    bench: &'bench Bench,
    server: &'bench Server,
    identity: Option<&'bench Identity>,
}

impl Load<'_> {
    /// By how many bytes the server grows at the most.
    async fn attack(&self, ways: &[Way]) -> anyhow::Result<u64> {
        let client = self.client()?;
        // As much text as a page has, all of it to be escaped.
        self.publish(&client, "page", &"<".repeat(32 * 1024), 20).await?;
        let mut held = Vec::new();
        for way in ways {
            let requests = way.requests(self.bench);
            let mut connections = self.connect(requests).await?;
            self.prepare(*way, &mut connections).await?;
            held.push((*way, connections));
        }
        // What was published is written; what that took is given back.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let before = self.server.resident_bytes()?;
        let (most, done) = (AtomicU64::new(before), AtomicBool::new(false));
        let attacked = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let now = self.server.resident_bytes().unwrap_or_default();
                    most.fetch_max(now, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(50));
                }
            });
            let attacked = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    for (way, held) in &mut held {
                        self.act(*way, held, &client).await?;
                    }
                    tokio::time::sleep(AFTERWARDS).await;
                    anyhow::Ok(())
                })
            });
            done.store(true, Ordering::Relaxed);
            attacked
        });
        attacked?;
        Ok(most.into_inner() - before)
    }

    fn client(&self) -> anyhow::Result<Client> {
        let client = match self.identity {
            Some(identity) => identity.client(),
            None => Client::builder().no_proxy(),
        };
        Ok(client.build()?)
    }

    async fn connect(&self, requests: usize) -> anyhow::Result<Held> {
        Held::connect(self.server.address, self.identity, requests).await
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
        let body = format!("{line}\n").repeat(times);
        for _ in 0..ATTEMPTS {
            let answer = client.post(&url).body(body.clone()).send().await?;
            if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
                answer.error_for_status().context("an upload was refused")?;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        bail!("a publisher within its limits is never served")
    }

    /// What is open before the server is measured: watchers that have nothing to read yet.
    async fn prepare(&self, way: Way, held: &mut Held) -> anyhow::Result<()> {
        if way == Way::Tails {
            let path = |n| format!("/streams/tail-{n}/events");
            held.get(0..way.requests(self.bench), path, "*/*", Addresses::Many).await?;
            held.read_on();
        }
        Ok(())
    }

    async fn act(&self, way: Way, held: &mut Held, client: &Client) -> anyhow::Result<()> {
        let all = 0..way.requests(self.bench);
        match way {
            Way::Uploads => held.upload("/streams/upload", UPLOAD_BYTES, Addresses::Many).await,
            Way::History => {
                let path = |_| "/streams/page/messages?limit=1000".to_owned();
                held.get(all, path, "application/json", Addresses::One).await?;
            }
            Way::Pages => {
                held.get(all, |_| "/streams/page".to_owned(), "text/html", Addresses::One).await?;
            }
            Way::Readers => {
                let path = |_| "/streams/read/events?last_event_id=latest".to_owned();
                for n in all {
                    held.get(n..n + 1, path, "*/*", Addresses::Many).await?;
                    // At the same time, so that they are stored together.
                    let line = "x".repeat(32 * 1024);
                    let posts = (0..16).map(|_| self.publish(client, "read", &line, 1));
                    join_all(posts).await.into_iter().collect::<anyhow::Result<()>>()?;
                }
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
