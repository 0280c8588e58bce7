//! One history.

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
    truth::Witness,
};
use crate::{
    message::StreamName,
    server::{
        guard::{ConcurrencyLimit, MemoryBudget},
        hub::{
            Hub, Sizes,
            planted::{HubBug, plant},
        },
        log::{
            Bound, Log, RetentionLimits,
            faulty::{Faults, Faulty, Past},
            message_text::MessageText,
        },
        observe::Metrics,
        shutdown::Shutdown,
        sse::EventStreams,
        supervisor::Supervisor,
    },
};

/// A bug that the simulation has to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// In the hub.
    Hub(HubBug),
    /// In a client: what may have been stored is sent again as if it had not been.
    UnknownTakenForRefused,
}

/// How long it takes until nothing of what went wrong is under way any more, and everything that was
/// given up has been tried again: longer than any read or follow may take.
const CALM: Duration = Duration::from_secs(20);
/// How soon after that a reader has what is published. It would take longer to find it in the log.
const LIVE: Duration = Duration::from_millis(200);
/// How long a history may take: many times as long as any does.
const MAX_TIME: Duration = Duration::from_hours(1);
/// How often the log may be asked in a history: several times as often as it is.
const MAX_CALLS: u64 = 1_000;

/// Runs the history of a seed.
pub(super) fn run(seed: u64, planted: Option<Planted>) -> Result<Tally, String> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    fastrand::seed(seed);
    plant(match planted {
        Some(Planted::Hub(bug)) => Some(bug),
        Some(Planted::UnknownTakenForRefused) | None => None,
    });
    runtime.block_on(async {
        let history = timeout(MAX_TIME, History::new(seed, planted).run());
        history.await.unwrap_or_else(|_| Err("the history does not come to its end".to_owned()))
    })
}

struct History {
    chance: fastrand::Rng,
    planted: Option<Planted>,
    engine: Faulty,
    log: Log,
    supervisor: Supervisor,
    hubs: Vec<Hub>,
    stream: StreamName,
    phase: watch::Sender<Phase>,
    permits: ConcurrencyLimit,
}

impl History {
    fn new(seed: u64, planted: Option<Planted>) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let keep = if chance.bool() { 1_000 } else { chance.u64(1..8) };
        let limits = RetentionLimits {
            messages: keep,
            age: Duration::MAX,
            bytes: u64::MAX,
            streams: u64::MAX,
            keys: u64::MAX,
            all_keys: u64::MAX,
        };
        let engine = Faulty::new(chance.u64(..), limits, chance.bool());
        let mut faults = faults(&mut chance);
        match planted {
            Some(Planted::Hub(HubBug::NoGapCheck)) => faults.gaps = 10,
            Some(Planted::Hub(HubBug::OneFollow)) => faults.broken_follows = 50,
            Some(Planted::UnknownTakenForRefused) => faults.lost_answers = 20,
            None => {}
        }
        engine.set_faults(faults);
        let (log, supervisor) = (Log::Faulty(engine.clone()), Supervisor::new(Shutdown::default()));
        let small = |chance: &mut fastrand::Rng| Bound {
            messages: chance.usize(1..8),
            bytes: chance.usize(100..1_000),
        };
        let sizes = Sizes {
            tail: small(&mut chance),
            all_tails: chance.usize(200..3_000),
            page: small(&mut chance),
        };
        let memory = MemoryBudget::new(64 * 1024 * 1024, 64 * 1024);
        let hub = |_| Hub::new(log.clone(), supervisor.clone(), memory.clone(), sizes);
        Self {
            hubs: (0..chance.usize(1..3)).map(hub).collect(),
            planted,
            engine,
            log,
            supervisor,
            stream: "news".parse().expect("a name"),
            phase: watch::Sender::new(Phase::Stormy),
            permits: ConcurrencyLimit::new(u64::MAX, u64::MAX),
            chance,
        }
    }

    async fn run(mut self) -> Result<Tally, String> {
        let mut tally = Tally { histories: 1, ..Tally::default() };
        let publishers: Vec<_> = (0..self.chance.usize(1..4)).map(|n| self.publisher(n)).collect();
        let mut readers = Vec::new();
        for _ in 0..self.chance.usize(1..6) {
            let pause = if self.chance.bool() { 0 } else { self.chance.u64(0..2_000) };
            readers.push(self.reader(Duration::from_millis(pause)));
        }
        for publisher in publishers {
            publisher.await.map_err(|_| "a publisher panicked")??;
        }
        self.engine.set_faults(Faults::default());
        self.phase.send_replace(Phase::Calm);
        sleep(CALM).await;
        self.phase.send_replace(Phase::Settled);
        sleep(Duration::from_millis(1)).await;
        self.phase.send_replace(Phase::Calm);
        // Nothing stands in the way of it, unless the stream has ended.
        let probe = MessageText::new(b"probe".to_vec(), 10).expect("data");
        drop(self.log.append(self.stream.clone(), probe, None).await);
        sleep(LIVE).await;
        self.phase.send_replace(Phase::Over);
        for reader in readers {
            tally.add(&reader.await.map_err(|_| "a reader panicked")??);
        }
        self.is_stored_once()?;
        self.leaves_nothing().await?;
        let messages = |past: &[Past]| past.iter().map(|of| of.messages.len() as u64).sum();
        tally.stored = self.engine.with_past(&self.stream, messages);
        (tally.follows, tally.stale_reads) = self.engine.follows_and_stale_reads();
        (tally.calls, tally.most_calls) = (self.engine.calls(), self.engine.calls());
        Ok(tally)
    }

    fn publisher(&mut self, name: usize) -> JoinHandle<Result<(), String>> {
        let publisher = PublishingClient {
            log: self.log.clone(),
            engine: self.engine.clone(),
            stream: self.stream.clone(),
            name,
            acts: self.chance.usize(1..24),
            mistaken: self.planted == Some(Planted::UnknownTakenForRefused),
            texts: 0,
            chance: self.chance.fork(),
        };
        tokio::spawn(publisher.run())
    }

    fn reader(&mut self, after: Duration) -> JoinHandle<Result<Tally, String>> {
        // Each history has its own of everything but this, which is dear to make.
        static METRICS: OnceLock<Metrics> = OnceLock::new();
        let metrics = METRICS.get_or_init(|| Metrics::new(|_| {})).clone();
        let retry = Duration::from_secs(15);
        let reader = ReadingClient {
            hubs: self.hubs.clone(),
            events: EventStreams { metrics, shutdown: Shutdown::default(), retry },
            permits: self.permits.clone(),
            stream: self.stream.clone(),
            witness: Witness::new(self.engine.clone(), self.stream.clone()),
            chance: self.chance.fork(),
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

    /// No text is twice in a generation, whatever was repeated.
    fn is_stored_once(&self) -> Result<(), String> {
        let twice = |of: &Past| {
            let mut texts: Vec<_> = of.messages.iter().map(|message| &message.data).collect();
            texts.sort();
            texts.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone())
        };
        match self.engine.with_past(&self.stream, |past| past.iter().find_map(twice)) {
            Some(text) => Err(format!("{text:?} is stored twice")),
            None => Ok(()),
        }
    }

    /// When all have gone, nothing is left of them.
    async fn leaves_nothing(&self) -> Result<(), String> {
        sleep(Duration::from_millis(1)).await;
        let watched: usize = self.hubs.iter().map(|hub| hub.survey().0).sum();
        let left = (watched, self.engine.followers(), self.permits.in_use());
        if left != (0, 0, 0) {
            return Err(format!("streams, follows and permits are left: {left:?}"));
        }
        if let Some(failure) = self.supervisor.failure() {
            return Err(failure.to_string());
        }
        let calls = self.engine.calls();
        if calls > MAX_CALLS { Err(format!("the log was asked {calls} times")) } else { Ok(()) }
    }
}

/// What goes wrong, and how often: in some histories little, in some nearly everything.
fn faults(chance: &mut fastrand::Rng) -> Faults {
    let mut percent = |max: u8| if chance.bool() { 0 } else { chance.u8(..max) };
    let mut faults = Faults {
        delay: 0,
        refused: percent(30),
        lost_answers: percent(30),
        partly: percent(50),
        sparse: percent(50),
        failed_reads: percent(30),
        stale_reads: percent(100),
        staleness: 0,
        hanging: percent(5),
        failed_follows: percent(50),
        broken_follows: percent(100),
        breaks: percent(30),
        gaps: percent(30),
    };
    faults.delay = if chance.bool() { 0 } else { chance.u64(0..100) };
    faults.staleness = chance.u64(0..1_500);
    faults
}
