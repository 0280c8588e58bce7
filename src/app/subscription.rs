//! The subscription of a page: an `EventSource` that does as its [`ConnectionPolicy`] says.
//!
//! Nothing here runs on a server, since effects do not; it and
//! [`browser`](super::browser) are the only modules that use `web_sys` themselves.

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

use super::connection::{Action, ConnectionPolicy, Input, Link};
use crate::{
    feed::{Event, Feed, Reason},
    message::{END_EVENT, Message, NEW_MESSAGE, PING, RESET},
};

/// What arrives in a tab in the background is shown after so long.
const UNSEEN: Duration = Duration::from_secs(1);

/// A page's subscription; a handle that is copied around.
#[derive(Clone, Copy)]
pub struct Subscription {
    link: RwSignal<Link>,
    hydrated: RwSignal<bool>,
    hidden: RwSignal<bool>,
    beats: RwSignal<u32>,
    driver: StoredValue<Option<SendWrapper<Rc<Driver>>>>,
}

impl Subscription {
    /// Feeds `feed` from the event stream at the path `events`, from the feed's cursor on, for as
    /// long as the page is there and the stream has not ended.
    pub fn new(events: String, feed: RwSignal<Feed>) -> Self {
        let begin_ended = feed.read_untracked().ended();
        let link = RwSignal::new(if begin_ended { Link::Ended } else { Link::Connecting });
        let hydrated = RwSignal::new(false);
        let hidden = RwSignal::new(false);
        let beats = RwSignal::new(0);
        let driver = StoredValue::new(None);
        Effect::new(move || {
            hydrated.set(true);
            let started = Driver::start(events.clone(), feed, link, hidden);
            started
                .instance
                .listen("tidings:heartbeat", move |_| beats.update(|beats| *beats += 1));
            if !begin_ended {
                if !window().navigator().on_line() {
                    started.tell(Input::Offline);
                }
                started.tell(Input::Begin);
                // A tab may be opened in the background.
                started.tell(visibility());
            }
            driver.set_value(Some(SendWrapper::new(started)));
        });
        Self { link, hydrated, hidden, beats, driver }
    }

    /// What the reader is told of the connection.
    pub fn link(self) -> Link {
        self.link.get()
    }

    /// Whether the stream has ended, as of now.
    pub fn ended(self) -> bool {
        self.link.get_untracked() == Link::Ended
    }

    /// Whether the page has come to life. Until then it shows what the server wrote.
    pub fn hydrated(self) -> bool {
        self.hydrated.get()
    }

    /// Whether the tab is in the background.
    pub fn hidden(self) -> bool {
        self.hidden.get()
    }

    /// How often the page's script has asked whether the page lives. To show it is the answer.
    pub fn beats(self) -> u32 {
        self.beats.get()
    }

    /// Does not wait for the next attempt.
    pub fn retry_now(self) {
        self.tell(Input::RetryNow);
    }

    /// Begins anew, from the feed's cursor.
    pub fn begin(self) {
        self.tell(Input::Begin);
    }

    fn tell(self, input: Input) {
        self.driver.with_value(|driver| {
            if let Some(driver) = driver {
                driver.tell(input);
            }
        });
    }
}

struct Driver {
    instance: Instance,
    events: String,
    feed: RwSignal<Feed>,
    link: RwSignal<Link>,
    hidden: RwSignal<bool>,
    policy: RefCell<ConnectionPolicy>,
    clock: Timers,
    /// When the server was last heard.
    heard: Cell<u64>,
    source: RefCell<Option<Source>>,
    timer: Cell<Option<TimeoutHandle>>,
    /// Whether the feed has changed since it was last shown.
    changed: Cell<bool>,
}

/// An open connection and those who listen to it; both go together.
struct Source {
    events: EventSource,
    _listeners: Vec<Closure<dyn Fn(MessageEvent)>>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.events.close();
    }
}

impl Driver {
    fn start(
        events: String,
        feed: RwSignal<Feed>,
        link: RwSignal<Link>,
        hidden: RwSignal<bool>,
    ) -> Rc<Self> {
        let driver = Rc::new(Self {
            instance: Instance::current(),
            events,
            feed,
            link,
            hidden,
            policy: RefCell::default(),
            clock: Timers::default(),
            heard: Cell::default(),
            source: RefCell::default(),
            timer: Cell::default(),
            changed: Cell::default(),
        });
        driver.watch("online", |_| Some(Input::Online));
        driver.watch("offline", |_| Some(Input::Offline));
        driver.watch("visibilitychange", |_| Some(visibility()));
        driver.watch("pagehide", |_| Some(Input::Left));
        driver.watch("pageshow", |event| {
            let shown = event.dyn_ref::<PageTransitionEvent>();
            shown.is_some_and(PageTransitionEvent::persisted).then_some(Input::Shown)
        });
        driver
    }

    /// Tells the policy what the window says, until the page is gone.
    fn watch(self: &Rc<Self>, name: &str, input: fn(&web_sys::Event) -> Option<Input>) {
        let driver = Rc::clone(self);
        // `visibilitychange` happens to the document and bubbles up to the window.
        self.instance.listen(name, move |event| {
            if let Some(input) = input(&event) {
                driver.tell(input);
            }
        });
    }

    /// Asks the policy, and does what it says.
    fn tell(self: &Rc<Self>, input: Input) {
        // A timer may have been set before.
        if self.instance.is_over() {
            return;
        }
        match input {
            Input::Hidden { .. } => {
                // No frame will show it.
                self.show();
                self.hidden.set(true);
            }
            Input::Shown => self.hidden.set(false),
            _ => {}
        }
        let now = self.clock.now();
        let action = {
            let mut policy = self.policy.borrow_mut();
            policy.heard(self.heard.get());
            policy.on(input, now, jitter())
        };
        match action {
            Action::Stay => {}
            Action::Close => drop(self.source.take()),
            Action::Open => self.open(),
        }
        let link = self.policy.borrow().link(now);
        if self.link.get_untracked() != link {
            // What came before it is shown with it: "ended", and the last message.
            self.show();
            self.link.set(link);
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
        let wake = move || driver.tell(Input::Tick);
        let pause = Duration::from_millis(at.saturating_sub(now));
        self.timer.set(set_timeout_with_handle(wake, pause).ok());
    }

    fn open(self: &Rc<Self>) {
        // The old connection goes first: a browser has few.
        drop(self.source.take());
        let cursor = self.feed.read_untracked().cursor();
        let url = match cursor {
            Some(id) => format!("{}?last_event_id={id}", self.events),
            None => self.events.clone(),
        };
        // Fails for a URL that can not be parsed, which ours always can.
        let Ok(events) = EventSource::new(&url) else { return };
        let listeners = vec![
            self.listen(&events, "open", |driver, _| driver.tell(Input::Opened)),
            self.listen(&events, "error", |driver, _| driver.tell(Input::Failed)),
            self.listen(&events, PING, |driver, _| driver.heard.set(driver.clock.now())),
            self.listen(&events, NEW_MESSAGE, |driver, event| driver.take(event, Event::Message)),
            self.listen(&events, END_EVENT, |driver, event| {
                driver.take(event, Event::End);
                driver.tell(Input::Ended);
            }),
            self.listen(&events, RESET, |driver, event| match reason(event) {
                Some(reason) => driver.apply(Event::Reset(reason)),
                None => driver.tell(Input::Expired),
            }),
        ];
        self.instance.hand_over(&events);
        self.source.replace(Some(Source { events, _listeners: listeners }));
    }

    fn listen(
        self: &Rc<Self>,
        events: &EventSource,
        name: &str,
        then: fn(&Rc<Self>, &MessageEvent),
    ) -> Closure<dyn Fn(MessageEvent)> {
        let driver = Rc::clone(self);
        let listener = Closure::<dyn Fn(MessageEvent)>::new(move |event| then(&driver, &event));
        let _ = events.add_event_listener_with_callback(name, listener.as_ref().unchecked_ref());
        listener
    }

    fn take(self: &Rc<Self>, event: &MessageEvent, kind: fn(Message) -> Event) {
        let id = event.last_event_id().parse();
        if let (Ok(id), Some(data)) = (id, event.data().as_string()) {
            self.apply(kind(Message { id, data }));
        }
    }

    /// Every event is applied when it comes; what they amount to is shown once per frame. A tab in
    /// the background has no frames, only its title to show.
    fn apply(self: &Rc<Self>, event: Event) {
        self.heard.set(self.clock.now());
        self.feed.update_untracked(|feed| feed.apply(event));
        if !self.changed.replace(true) {
            let driver = Rc::clone(self);
            if self.hidden.get_untracked() {
                set_timeout(move || driver.show(), UNSEEN);
            } else {
                request_animation_frame(move || driver.show());
            }
        }
    }

    fn show(&self) {
        if self.changed.replace(false) && !self.instance.is_over() {
            self.feed.notify();
        }
    }
}

/// This instance of the wasm, as the page's script (`loader.js`) keeps it. When it has failed, the
/// script ends it from outside: its listeners go, its connection is closed, and what is still called
/// does nothing.
struct Instance {
    object: JsValue,
    end: AbortSignal,
}

impl Instance {
    /// The one that the script has just started.
    fn current() -> Self {
        let get = |object: &JsValue, name: &str| Reflect::get(object, &name.into());
        let object = get(&window(), "tidings").unwrap_or_default();
        let end = get(&object, "signal").unwrap_or_default().unchecked_into();
        Self { object, end }
    }

    fn is_over(&self) -> bool {
        self.end.aborted()
    }

    /// Listens to the window for as long as this instance lasts.
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

    /// Leaves a connection to the script to close, in place of an earlier one.
    fn hand_over(&self, events: &EventSource) {
        let _ = Reflect::set(&self.object, &"source".into(), events);
    }
}

/// Milliseconds that never go back. From the time of day, because the browser's monotonic clock
/// may stand still while a computer sleeps; steps back are left out.
#[derive(Default)]
struct Timers {
    last: Cell<u64>,
    stepped_back: Cell<u64>,
}

impl Timers {
    fn now(&self) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "after 1970")]
        let time_of_day = js_sys::Date::now() as u64;
        let last = self.last.replace(time_of_day);
        self.stepped_back.set(self.stepped_back.get() + last.saturating_sub(time_of_day));
        time_of_day + self.stepped_back.get()
    }
}

/// Why the stream begins anew; none where it does not, because the reader's token has expired.
fn reason(event: &MessageEvent) -> Option<Reason> {
    let data = event.data().as_string().and_then(|json| JSON::parse(&json).ok());
    let reason = data.and_then(|data| Reflect::get(&data, &"reason".into()).ok()?.as_string());
    match reason.as_deref() {
        Some("expired") => None,
        Some("deleted") => Some(Reason::Deleted),
        _ => Some(Reason::Lost),
    }
}

fn jitter() -> u8 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
    let jitter = (js_sys::Math::random() * 256.) as u8;
    jitter
}

fn visibility() -> Input {
    if document().visibility_state() == VisibilityState::Hidden {
        Input::Hidden { scarce: connections_are_scarce() }
    } else {
        Input::Shown
    }
}

/// Browsers open six connections to a host for all tabs together, unless they are streams of one
/// HTTP/2 connection.
fn connections_are_scarce() -> bool {
    let navigation =
        window().performance().map(|clock| clock.get_entries_by_type("navigation").get(0));
    let protocol = navigation
        .and_then(|entry| entry.dyn_into::<PerformanceResourceTiming>().ok())
        .map(|entry| entry.next_hop_protocol());
    // Empty when the page came from a cache.
    !protocol.is_some_and(|protocol| ["h2", "h3"].contains(&protocol.as_str()))
}
