//! One simulated history: publishers, readers and servers, with faults drawn from a seed.

use std::{sync::OnceLock, time::Duration};

use tokio::{
    runtime::Builder,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    publisher::PublishingClient,
    reader::{Phase, ReadingClient},
    tally::Tally,
    truth::Oracle,
};
use crate::{
    message::StreamName,
    server::{
        guard::{ConcurrencyLimit, MemoryBudget},
        hub::{
            BufferSizes, Hub,
            planted::{HubBug, plant},
        },
        log::{
            Bound, Log, RetentionLimits,
            faulty::{Faults, Faulty, ModelGeneration},
            message_text::MessageText,
        },
        observe::Metrics,
        shutdown::Shutdown,
        sse::EventStreams,
        supervisor::Supervisor,
    },
};

/// An injected bug that the simulation must detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlantedBug {
    /// In the hub.
    Hub(HubBug),
    /// In a client: after an unknown outcome, it retries as if nothing had been stored.
    RetryUnknownAsRefused,
}

/// How long after the last fault its effects may last, such as a hung call and the retry after it: longer
/// than the timeout of any read or follow.
const SETTLE_TIME: Duration = Duration::from_secs(20);
/// How soon after that a reader must have a new message: from the tail, because the log takes longer.
const LIVE_LATENCY: Duration = Duration::from_millis(200);
/// Timeout of a history, in simulated time: many times as long as any takes.
const MAX_TIME: Duration = Duration::from_hours(1);
/// The most calls of the log in a history: several times as many as any makes.
const MAX_CALLS: u64 = 1_000;

/// Runs the history of a seed.
pub(super) fn run(seed: u64, planted: Option<PlantedBug>) -> Result<Tally, String> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    fastrand::seed(seed);
    plant(match planted {
        Some(PlantedBug::Hub(bug)) => Some(bug),
        Some(PlantedBug::RetryUnknownAsRefused) | None => None,
    });
    runtime.block_on(async {
        let history = timeout(MAX_TIME, SimulatedHistory::new(seed, planted).run());
        history.await.unwrap_or_else(|_| Err("the history does not finish".to_owned()))
    })
}

struct SimulatedHistory {
    rng: fastrand::Rng,
    planted: Option<PlantedBug>,
    engine: Faulty,
    log: Log,
    supervisor: Supervisor,
    hubs: Vec<Hub>,
    stream: StreamName,
    phase: watch::Sender<Phase>,
    permits: ConcurrencyLimit,
}

impl SimulatedHistory {
    fn new(seed: u64, planted: Option<PlantedBug>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let keep = if rng.bool() { 1_000 } else { rng.u64(1..8) };
        let limits = RetentionLimits {
            messages: keep,
            age: Duration::MAX,
            bytes: u64::MAX,
            streams: u64::MAX,
            keys: u64::MAX,
            all_keys: u64::MAX,
        };
        let engine = Faulty::new(rng.u64(..), limits, rng.bool());
        let mut faults = faults(&mut rng);
        match planted {
            Some(PlantedBug::Hub(HubBug::NoGapCheck)) => faults.dropped_changes = 10,
            Some(PlantedBug::Hub(HubBug::NoRefollow)) => faults.broken_follows = 50,
            Some(PlantedBug::RetryUnknownAsRefused) => faults.lost_replies = 20,
            None => {}
        }
        engine.set_faults(faults);
        let (log, supervisor) = (Log::Faulty(engine.clone()), Supervisor::new(Shutdown::default()));
        let small = |rng: &mut fastrand::Rng| Bound {
            messages: rng.usize(1..8),
            bytes: rng.usize(100..1_000),
        };
        let sizes = BufferSizes {
            tail: small(&mut rng),
            all_tails: rng.usize(200..3_000),
            page: small(&mut rng),
        };
        let memory = MemoryBudget::new(64 * 1024 * 1024, 64 * 1024);
        let hub = |_| Hub::new(log.clone(), supervisor.clone(), memory.clone(), sizes);
        Self {
            hubs: (0..rng.usize(1..3)).map(hub).collect(),
            planted,
            engine,
            log,
            supervisor,
            stream: "news".parse().expect("a name"),
            phase: watch::Sender::new(Phase::FaultsOn),
            permits: ConcurrencyLimit::new(u64::MAX, u64::MAX),
            rng,
        }
    }

    async fn run(mut self) -> Result<Tally, String> {
        let mut tally = Tally { histories: 1, ..Tally::default() };
        let publishers: Vec<_> = (0..self.rng.usize(1..4)).map(|n| self.publisher(n)).collect();
        let mut readers = Vec::new();
        for _ in 0..self.rng.usize(1..6) {
            let pause = if self.rng.bool() { 0 } else { self.rng.u64(0..2_000) };
            readers.push(self.reader(Duration::from_millis(pause)));
        }
        for publisher in publishers {
            publisher.await.map_err(|_| "a publisher panicked")??;
        }
        self.engine.set_faults(Faults::default());
        self.phase.send_replace(Phase::FaultsOff);
        sleep(SETTLE_TIME).await;
        self.phase.send_replace(Phase::CheckComplete);
        sleep(Duration::from_millis(1)).await;
        self.phase.send_replace(Phase::FaultsOff);
        // Succeeds, unless the stream has ended.
        let probe = MessageText::new(b"probe".to_vec(), 10).expect("data");
        drop(self.log.append(self.stream.clone(), probe, None).await);
        sleep(LIVE_LATENCY).await;
        self.phase.send_replace(Phase::Done);
        for reader in readers {
            tally.add(&reader.await.map_err(|_| "a reader panicked")??);
        }
        self.check_no_duplicates()?;
        self.check_nothing_left().await?;
        let messages = |generations: &[ModelGeneration]| {
            generations.iter().map(|record| record.messages.len() as u64).sum()
        };
        tally.stored = self.engine.with_generations(&self.stream, messages);
        (tally.follows, tally.stale_reads) = self.engine.follows_and_stale_reads();
        (tally.calls, tally.max_calls) = (self.engine.calls(), self.engine.calls());
        Ok(tally)
    }

    fn publisher(&mut self, name: usize) -> JoinHandle<Result<(), String>> {
        let publisher = PublishingClient {
            log: self.log.clone(),
            engine: self.engine.clone(),
            stream: self.stream.clone(),
            name,
            actions: self.rng.usize(1..24),
            retries_unknown: self.planted == Some(PlantedBug::RetryUnknownAsRefused),
            texts: 0,
            rng: self.rng.fork(),
        };
        tokio::spawn(publisher.run())
    }

    fn reader(&mut self, after: Duration) -> JoinHandle<Result<Tally, String>> {
        // The only object that histories share, because it is expensive to create.
        static METRICS: OnceLock<Metrics> = OnceLock::new();
        let metrics = METRICS.get_or_init(|| Metrics::new(|_| {})).clone();
        let retry = Duration::from_secs(15);
        let reader = ReadingClient {
            hubs: self.hubs.clone(),
            events: EventStreams { metrics, shutdown: Shutdown::default(), retry },
            permits: self.permits.clone(),
            stream: self.stream.clone(),
            oracle: Oracle::new(self.engine.clone(), self.stream.clone()),
            rng: self.rng.fork(),
            phase: self.phase.subscribe(),
            cursor: None,
            tally: Tally::default(),
            ended: false,
        };
        tokio::spawn(async move {
            sleep(after).await;
            reader.run().await
        })
    }

    /// Checks that no text is stored twice in a generation, in spite of retries.
    fn check_no_duplicates(&self) -> Result<(), String> {
        let twice = |record: &ModelGeneration| {
            let mut texts: Vec<_> = record.messages.iter().map(|message| &message.data).collect();
            texts.sort();
            texts.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone())
        };
        match self
            .engine
            .with_generations(&self.stream, |generations| generations.iter().find_map(twice))
        {
            Some(text) => Err(format!("{text:?} is stored twice")),
            None => Ok(()),
        }
    }

    /// Checks that the clients have left no streams, follows or permits behind.
    async fn check_nothing_left(&self) -> Result<(), String> {
        sleep(Duration::from_millis(1)).await;
        let watched: usize = self.hubs.iter().map(|hub| hub.stats().0).sum();
        let remaining = (watched, self.engine.followers(), self.permits.in_use());
        if remaining != (0, 0, 0) {
            return Err(format!("streams, follows and permits are left: {remaining:?}"));
        }
        if let Some(failure) = self.supervisor.failure() {
            return Err(failure.to_string());
        }
        let calls = self.engine.calls();
        if calls > MAX_CALLS { Err(format!("the log was called {calls} times")) } else { Ok(()) }
    }
}

/// Draws which faults occur and how often: from none to nearly all of them.
fn faults(rng: &mut fastrand::Rng) -> Faults {
    let mut percent = |max: u8| if rng.bool() { 0 } else { rng.u8(..max) };
    let mut faults = Faults {
        max_delay_ms: 0,
        refused: percent(30),
        lost_replies: percent(30),
        partial_batches: percent(50),
        sequence_gaps: percent(50),
        failed_reads: percent(30),
        stale_reads: percent(100),
        max_staleness_ms: 0,
        hung_calls: percent(5),
        failed_follows: percent(50),
        broken_follows: percent(100),
        breaking_changes: percent(30),
        dropped_changes: percent(30),
    };
    faults.max_delay_ms = if rng.bool() { 0 } else { rng.u64(0..100) };
    faults.max_staleness_ms = rng.u64(0..1_500);
    faults
}
