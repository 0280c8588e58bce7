//! The state of the router, built from the options: the parts that handlers extract.

use std::sync::Arc;

use axum::extract::FromRef;

use super::{
    Server,
    api::{
        body::BodyReader, counter::Counter, publishing::Publishing, response::Responses,
        streams::Listing, watch::Watching,
    },
    fan_out::FanOut,
    guard::{
        Access, ConcurrencyLimit, Limits, MemoryBudget, Rates, security_headers::FrameAncestors,
    },
    log::Log,
    observe::Metrics,
    openapi::{Document, Terms},
    pages::Pages,
    shutdown::Shutdown,
    site::Site,
    sse::EventStreams,
    streams::Streams,
};

/// The state of the router. One counter for all of it, since each layer clones it for each request.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

/// Defines the parts of the state, each of which a handler can extract.
macro_rules! parts {
    ($($field:ident: $part:ty,)*) => {
        struct Parts {
            $($field: $part,)*
        }

        $(impl FromRef<App> for $part {
            fn from_ref(app: &App) -> Self {
                app.0.$field.clone()
            }
        })*
    };
}

parts! {
    access: Access,
    counter: Counter,
    document: Document,
    events: EventStreams,
    limits: Limits,
    listing: Listing,
    log: Log,
    memory: MemoryBudget,
    metrics: Metrics,
    pages: Arc<Pages>,
    publishing: Arc<Publishing>,
    responses: Responses,
    shutdown: Shutdown,
    site: Arc<Site>,
    watching: Watching,
}

impl App {
    pub(crate) fn new(server: &Server) -> Self {
        let Server { config, access, clock, shutdown, .. } = server;
        let Streams { log, hub, list, memory, metrics, supervisor } = server.streams.clone();
        let (access, site) = (access.clone(), Arc::new(server.site.clone()));
        let options = &config.limits;
        let rates = Rates {
            publishes: options.publish_rate.0,
            reads: options.read_rate.0,
            sign_ins: options.sign_in_rate.0,
        };
        let requests = ConcurrencyLimit::new(u64::MAX, options.max_requests_per_address);
        let watchers =
            ConcurrencyLimit::new(options.max_watchers, options.max_watchers_per_address);
        let limits = Limits::new(rates, requests, watchers, &supervisor);
        let max_message_bytes = usize::try_from(options.max_message_bytes.0).unwrap_or(usize::MAX);
        let counter = Counter::new(config.counter_count, config.counter_delay.into(), *clock);
        let timeout = options.body_timeout.into();
        let publishing = Arc::new(Publishing {
            bodies: BodyReader::new(memory.clone(), shutdown.clone(), timeout),
            limits: limits.clone(),
            log: log.clone(),
            metrics: metrics.clone(),
            max_message_bytes,
        });
        let responses = Responses::new(limits.clone(), memory.clone(), max_message_bytes);
        let pages = Arc::new(Pages {
            access: access.clone(),
            counter,
            frame_ancestors: FrameAncestors::new(&config.frame_ancestors),
            hub: hub.clone(),
            limits: limits.clone(),
            list: list.clone(),
            log: log.clone(),
            publishing: Arc::clone(&publishing),
            responses: responses.clone(),
            site: Arc::clone(&site),
        });
        let document =
            Document::new(&Terms { access: &access, base: &config.base_path(), max_message_bytes });
        let events = EventStreams {
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            retry: config.retry.into(),
        };
        let listing = Listing {
            access: access.clone(),
            events: events.clone(),
            freshness: log.freshness(),
            limits: limits.clone(),
            list,
            responses: responses.clone(),
        };
        let watching = Watching {
            access: access.clone(),
            clock: *clock,
            events: events.clone(),
            fan_out: FanOut::new(events.clone(), log.freshness(), supervisor),
            freshness: log.freshness(),
            hub,
            limits: limits.clone(),
        };
        Self(Arc::new(Parts {
            access,
            counter,
            document,
            events,
            limits,
            listing,
            log,
            memory,
            metrics,
            pages,
            publishing,
            responses,
            shutdown: shutdown.clone(),
            site,
            watching,
        }))
    }

    /// The event streams that are open.
    pub(crate) fn watchers(&self) -> ConcurrencyLimit {
        self.0.limits.watchers.clone()
    }
}
