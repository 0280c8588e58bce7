//! The `EventSource` of a page: reconnects as its [`ConnectionPolicy`] decides, and applies events to
//! the feed. The page's scripts get it too (`tidings:connected`), for the events that they show.
//!
//! Nothing here runs on a server, since effects do not. This module and
//! `browser` are the only ones that use `web_sys` directly.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use js_sys::{JSON, Reflect};
use leptos::{leptos_dom::helpers::TimeoutHandle, prelude::*};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{
    AbortSignal, AddEventListenerOptions, EventSource, MessageEvent, PageTransitionEvent,
    PerformanceResourceTiming, VisibilityState,
};

use super::{
    connection::{Action, ConnectionPolicy, ConnectionStatus, Input},
    effect,
};
use crate::{
    feed::{Event, Feed},
    message::{
        DELETED, END_EVENT, LISTED, Message, NEW_MESSAGE, PING, RESET, ResetReason, STALE_PING,
        STREAM, WATCHERS, own_entry,
    },
};

/// The delay before a tab in the background shows the events that arrived.
const HIDDEN_UPDATE_DELAY: Duration = Duration::from_secs(1);

/// A handle to the page's subscription.
#[derive(Clone, Copy)]
pub struct Subscription {
    status: RwSignal<ConnectionStatus>,
    hydrated: RwSignal<bool>,
    hidden: RwSignal<bool>,
    beats: RwSignal<u32>,
    driver: StoredValue<Option<SendWrapper<Rc<Driver>>>>,
}

impl Subscription {
    /// Applies the event stream at the path `events` to `feed`, starting after the feed's cursor, until
    /// the page is unloaded or the streams end.
    pub fn new(events: String, feed: RwSignal<Feed>) -> Self {
        let begin_ended = feed.read_untracked().ended();
        let status = RwSignal::new(if begin_ended {
            ConnectionStatus::Ended
        } else {
            ConnectionStatus::Connecting
        });
        let hydrated = RwSignal::new(false);
        let hidden = RwSignal::new(false);
        let beats = RwSignal::new(0);
        let driver = StoredValue::new(None);
        effect(move || {
            hydrated.set(true);
            let new_driver = Driver::start(events.clone(), feed, status, hidden);
            new_driver
                .instance
                .listen("tidings:heartbeat", move |_| beats.update(|beats| *beats += 1));
            if !begin_ended {
                if !window().navigator().on_line() {
                    new_driver.handle(Input::Offline);
                }
                new_driver.handle(Input::Begin);
                // A tab may be opened in the background.
                new_driver.handle(visibility());
            }
            driver.set_value(Some(SendWrapper::new(new_driver)));
        });
        Self { status, hydrated, hidden, beats, driver }
    }

    /// The connection status that the page shows.
    pub fn status(self) -> ConnectionStatus {
        self.status.get()
    }

    /// Whether the stream has ended. Does not subscribe to the signal.
    pub fn ended(self) -> bool {
        self.status.get_untracked() == ConnectionStatus::Ended
    }

    /// Whether the page is hydrated. Until then it shows what the server rendered.
    pub fn hydrated(self) -> bool {
        self.hydrated.get()
    }

    /// Whether the tab is in the background.
    pub fn hidden(self) -> bool {
        self.hidden.get()
    }

    /// The number of heartbeats that the page's script has sent. The page answers by showing it.
    pub fn beats(self) -> u32 {
        self.beats.get()
    }

    /// Reconnects now instead of waiting for the next attempt.
    pub fn retry_now(self) {
        self.handle(Input::RetryNow);
    }

    /// Connects again, starting after the feed's cursor.
    pub fn begin(self) {
        self.handle(Input::Begin);
    }

    fn handle(self, input: Input) {
        self.driver.with_value(|driver| {
            if let Some(driver) = driver {
                driver.handle(input);
            }
        });
    }
}

struct Driver {
    instance: Instance,
    events: String,
    feed: RwSignal<Feed>,
    status: RwSignal<ConnectionStatus>,
    hidden: RwSignal<bool>,
    policy: RefCell<ConnectionPolicy>,
    clock: MonotonicClock,
    /// When the last event or ping arrived, in milliseconds on `clock`.
    heard: Cell<u64>,
    connection: RefCell<Option<Connection>>,
    timer: Cell<Option<TimeoutHandle>>,
    /// Whether the feed has changed since its views were last notified.
    changed: Cell<bool>,
}

/// An open connection and its listeners. Closed when dropped.
struct Connection {
    events: EventSource,
    _listeners: Vec<Closure<dyn Fn(MessageEvent)>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.events.close();
    }
}

impl Driver {
    fn start(
        events: String,
        feed: RwSignal<Feed>,
        status: RwSignal<ConnectionStatus>,
        hidden: RwSignal<bool>,
    ) -> Rc<Self> {
        let driver = Rc::new(Self {
            instance: Instance::current(),
            events,
            feed,
            status,
            hidden,
            policy: RefCell::default(),
            clock: MonotonicClock::default(),
            heard: Cell::default(),
            connection: RefCell::default(),
            timer: Cell::default(),
            changed: Cell::default(),
        });
        driver.forward("online", |_| Some(Input::Online));
        driver.forward("offline", |_| Some(Input::Offline));
        driver.forward("visibilitychange", |_| Some(visibility()));
        driver.forward("pagehide", |_| Some(Input::Left));
        driver.forward("pageshow", |event| {
            let shown = event.dyn_ref::<PageTransitionEvent>();
            shown.is_some_and(PageTransitionEvent::persisted).then_some(Input::Shown)
        });
        driver
    }

    /// Passes an event of the window to the policy, until the instance ends.
    fn forward(self: &Rc<Self>, name: &str, input: fn(&web_sys::Event) -> Option<Input>) {
        let driver = Rc::clone(self);
        // `visibilitychange` is dispatched at the document and bubbles up to the window.
        self.instance.listen(name, move |event| {
            if let Some(input) = input(&event) {
                driver.handle(input);
            }
        });
    }

    /// Passes an input to the policy and carries out its action.
    fn handle(self: &Rc<Self>, input: Input) {
        // A timer that was set before the instance ended may still fire.
        if self.instance.has_ended() {
            return;
        }
        match input {
            Input::Hidden { .. } => {
                // A hidden tab gets no animation frames.
                self.notify_views();
                self.hidden.set(true);
            }
            Input::Shown => self.hidden.set(false),
            _ => {}
        }
        let now = self.clock.now();
        let action = {
            let mut policy = self.policy.borrow_mut();
            policy.note_heard(self.heard.get());
            policy.handle(input, now, random_jitter())
        };
        match action {
            Action::Keep => {}
            Action::Close => drop(self.connection.take()),
            Action::Open => self.open(),
        }
        let status = self.policy.borrow().status(now);
        if self.status.get_untracked() != status {
            // Shows earlier events together with the new status: the last message with "ended".
            self.notify_views();
            self.status.set(status);
        }
        self.set_timer();
    }

    fn set_timer(self: &Rc<Self>) {
        if let Some(timer) = self.timer.take() {
            timer.clear();
        }
        let now = self.clock.now();
        let Some(at) = self.policy.borrow().next_tick(now) else { return };
        let driver = Rc::clone(self);
        let wake = move || driver.handle(Input::Tick);
        let pause = Duration::from_millis(at.saturating_sub(now));
        self.timer.set(set_timeout_with_handle(wake, pause).ok());
    }

    fn open(self: &Rc<Self>) {
        // Close the old connection first: a browser allows few per host.
        drop(self.connection.take());
        let cursor = self.feed.read_untracked().cursor();
        let url = match cursor.as_str() {
            "" => self.events.clone(),
            id => {
                let separator = if self.events.contains('?') { '&' } else { '?' };
                format!("{}{separator}last_event_id={id}", self.events)
            }
        };
        // Fails only for a URL that cannot be parsed, and this one can be.
        let Ok(events) = EventSource::new(&url) else { return };
        let listeners = vec![
            self.listen(&events, "open", |driver, _| driver.handle(Input::Opened)),
            self.listen(&events, "error", |driver, _| driver.handle(Input::Failed)),
            self.listen(&events, PING, |driver, event| {
                driver.heard.set(driver.clock.now());
                let stale = event.data().as_string().as_deref() == Some(STALE_PING);
                driver.handle(Input::Heard { stale });
            }),
            self.listen(&events, NEW_MESSAGE, |driver, event| {
                driver.apply_message(event, Event::Message);
            }),
            self.listen(&events, END_EVENT, |driver, event| {
                driver.apply_message(event, Event::End);
                if driver.feed.read_untracked().ended() {
                    driver.handle(Input::Ended);
                }
            }),
            // The page's scripts show these.
            self.listen(&events, STREAM, Self::pass),
            self.listen(&events, DELETED, Self::pass),
            self.listen(&events, LISTED, Self::pass),
            self.listen(&events, WATCHERS, |driver, _| driver.heard.set(driver.clock.now())),
            self.listen(&events, RESET, |driver, event| {
                let (reason, stream) = reset(event);
                match reason {
                    ResetReason::Expired => driver.handle(Input::Expired),
                    reason => driver.apply(&stream, Event::Reset(reason)),
                }
            }),
        ];
        self.instance.set_source(&events);
        self.connection.replace(Some(Connection { events, _listeners: listeners }));
    }

    fn listen(
        self: &Rc<Self>,
        events: &EventSource,
        name: &str,
        handler: fn(&Rc<Self>, &MessageEvent),
    ) -> Closure<dyn Fn(MessageEvent)> {
        let driver = Rc::clone(self);
        let listener = Closure::<dyn Fn(MessageEvent)>::new(move |event| handler(&driver, &event));
        let _ = events.add_event_listener_with_callback(name, listener.as_ref().unchecked_ref());
        listener
    }

    fn apply_message(self: &Rc<Self>, event: &MessageEvent, kind: fn(Message) -> Event) {
        let id = event.last_event_id();
        let (stream, id) = own_entry(&id);
        if let (Ok(id), Some(data)) = (id.parse(), event.data().as_string()) {
            self.apply(stream, kind(Message { id, data }));
        }
    }

    /// Moves the cursor after an event that is not shown here.
    fn pass(self: &Rc<Self>, event: &MessageEvent) {
        self.heard.set(self.clock.now());
        if let Ok(id) = event.last_event_id().parse() {
            self.feed.update_untracked(|feed| feed.advance(id));
        }
    }

    /// Applies an event of a stream at once; the views are notified once per animation frame. A tab in the
    /// background gets no frames and shows only its title, so a timer of 1 s notifies it.
    fn apply(self: &Rc<Self>, stream: &str, event: Event) {
        self.heard.set(self.clock.now());
        if self.status.get_untracked() == ConnectionStatus::Stale {
            self.handle(Input::Heard { stale: false });
        }
        self.feed.update_untracked(|feed| feed.apply_to(feed.index_of(stream), event));
        if !self.changed.replace(true) {
            let driver = Rc::clone(self);
            if self.hidden.get_untracked() {
                set_timeout(move || driver.notify_views(), HIDDEN_UPDATE_DELAY);
            } else {
                request_animation_frame(move || driver.notify_views());
            }
        }
    }

    fn notify_views(&self) {
        if self.changed.replace(false) && !self.instance.has_ended() {
            self.feed.notify();
        }
    }
}

/// This instance of the wasm, as the page's script (`loader.js`) holds it. When it has failed, the
/// script aborts its signal and closes its connection: its listeners are removed, and callbacks that
/// still run do nothing.
struct Instance {
    object: JsValue,
    end: AbortSignal,
}

impl Instance {
    /// The instance that the script has just started.
    fn current() -> Self {
        let get = |object: &JsValue, name: &str| Reflect::get(object, &name.into());
        let object = get(&window(), "tidings").unwrap_or_default();
        let end = get(&object, "signal").unwrap_or_default().unchecked_into();
        Self { object, end }
    }

    fn has_ended(&self) -> bool {
        self.end.aborted()
    }

    /// Listens to an event of the window until this instance ends.
    fn listen(&self, name: &str, then: impl Fn(web_sys::Event) + 'static) {
        let listener = Closure::<dyn Fn(web_sys::Event)>::new(then);
        let options = AddEventListenerOptions::new();
        options.set_signal(&self.end);
        let _ = window().add_event_listener_with_callback_and_add_event_listener_options(
            name,
            listener.as_ref().unchecked_ref(),
            &options,
        );
        listener.forget();
    }

    /// Gives the script the connection to close on failure, in place of an earlier one.
    fn set_source(&self, events: &EventSource) {
        let _ = Reflect::set(&self.object, &"source".into(), events);
    }
}

/// A monotonic clock, in milliseconds. Based on the time of day, because the browser's own monotonic
/// clock may stop while the computer sleeps; backward steps are cancelled out.
#[derive(Default)]
struct MonotonicClock {
    last: Cell<u64>,
    stepped_back: Cell<u64>,
}

impl MonotonicClock {
    fn now(&self) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "after 1970")]
        let time_of_day = js_sys::Date::now() as u64;
        let last = self.last.replace(time_of_day);
        self.stepped_back.set(self.stepped_back.get() + last.saturating_sub(time_of_day));
        time_of_day + self.stepped_back.get()
    }
}

/// The reason of a `reset` event, and its stream; empty if there is only one.
fn reset(event: &MessageEvent) -> (ResetReason, String) {
    let data = event.data().as_string().and_then(|json| JSON::parse(&json).ok());
    let text = |name: &str| Reflect::get(data.as_ref()?, &name.into()).ok()?.as_string();
    let reason = text("reason");
    let is_named = |known: &ResetReason| Some(known.as_str()) == reason.as_deref();
    let reason = ResetReason::ALL.into_iter().find(is_named).unwrap_or(ResetReason::UnknownCursor);
    (reason, text("stream").unwrap_or_default())
}

fn random_jitter() -> u8 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
    let jitter = (js_sys::Math::random() * 256.) as u8;
    jitter
}

fn visibility() -> Input {
    if document().visibility_state() == VisibilityState::Hidden {
        // Notifications (`notify.js`) need the connection.
        let notifies =
            document().document_element().is_some_and(|root| root.has_attribute("data-notify"));
        Input::Hidden { scarce: !notifies && connections_are_scarce() }
    } else {
        Input::Shown
    }
}

/// Whether the page was loaded over HTTP/1.1 (or that is unknown). Browsers then open six connections
/// per host for all tabs together; over HTTP/2 and HTTP/3 streams share one connection.
fn connections_are_scarce() -> bool {
    let navigation = window()
        .performance()
        .map(|performance| performance.get_entries_by_type("navigation").get(0));
    let protocol = navigation
        .and_then(|entry| entry.dyn_into::<PerformanceResourceTiming>().ok())
        .map(|entry| entry.next_hop_protocol());
    // The protocol is empty when the page came from a cache.
    !protocol.is_some_and(|protocol| ["h2", "h3"].contains(&protocol.as_str()))
}
