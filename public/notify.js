// Notifications of the browser: shows a stream's new messages while its tab is hidden. Loaded when the
// reader turns them on, and with each page of a stream for which they are on.

// At most one notification in this time; it stands for all messages that have arrived by then.
const INTERVAL_MS = 5_000;
const MAX_CHARACTERS = 200;

const root = document.documentElement;
// Two tabs of a stream share one notification.
const tag = location.origin + location.pathname;
const isHidden = () => document.visibilityState === "hidden";
const name = () => document.querySelector("h1").textContent;

// The last message that arrived, by its place in the stream: a stream that is resumed may repeat messages.
let newest = 0;
// The messages that have arrived since the tab was hidden, those that have been shown, and the last one.
let count = 0;
let shownCount = 0;
let text = "";
let timer;
let notification;
// Ends the listeners of the current connection.
let connection = new AbortController();

// Says it to the reader.
const say = (sentence) => {
  const note = document.querySelector(".notify-note");
  if (note) note.textContent = sentence;
};

// Why there can be no notifications here, or undefined.
const refusal = () => {
  if (!isSecureContext) return "Notifications need HTTPS, and this page was loaded without it.";
  if (!globalThis.Notification) return "This browser has no notifications for pages.";
};

// A text as the page shows it: without escape sequences.
const visible = (data) => data.replace(/\x1b(?:[\]PX^_](?:[^\x00-\x1f]*(?:\x07|\x1b\\))?|\[[ -?]*[@-~]?|[ -/]*[0-~]?)/g, "");

const show = () => {
  timer = undefined;
  if (count === shownCount) return;
  shownCount = count;
  notification = new Notification(count === 1 ? name() : `${name()}: ${count} new messages`, {
    body: text.slice(0, MAX_CHARACTERS),
    tag,
  });
  notification.addEventListener("click", () => {
    focus();
    notification?.close();
  });
  timer = setTimeout(show, INTERVAL_MS);
};

// The tab is shown: there is nothing left to tell.
const forget = () => {
  clearTimeout(timer);
  timer = undefined;
  count = shownCount = 0;
  notification?.close();
  notification = undefined;
};

const onMessage = async ({ lastEventId, data }) => {
  const place = Number(lastEventId.split("-")[1]);
  if (place <= newest) return;
  newest = place;
  if (!isHidden()) return;
  const message = visible(data);
  const { signal } = connection;
  if (root.dataset.finding !== undefined && !(await import("./find.js")).matches(message)) return;
  // Meanwhile the tab may have been shown, or notifications turned off.
  if (!isHidden() || signal.aborted) return;
  count++;
  text = message;
  if (!timer) show();
};

// Listens to a connection of the page, in place of the one before.
const listen = (events) => {
  connection.abort();
  connection = new AbortController();
  const { signal } = connection;
  for (const type of ["new_message", "end_event"]) events.addEventListener(type, onMessage, { signal });
  events.addEventListener("reset", () => (newest = 0), { signal });
};

const onConnected = ({ detail }) => listen(detail);
const onVisibility = () => isHidden() || forget();

/** Begins to notify, if the browser permits it. */
export const start = () => {
  const reason = refusal();
  if (reason || Notification.permission !== "granted") {
    delete root.dataset.notify;
    say(reason ?? "The browser no longer allows notifications for this site.");
    return false;
  }
  // A hidden tab then keeps its connection.
  root.dataset.notify = "";
  addEventListener("tidings:connected", onConnected);
  document.addEventListener("visibilitychange", onVisibility);
  if (globalThis.tidings?.source) listen(globalThis.tidings.source);
  return true;
};

/** Stops notifying. */
export const stop = () => {
  delete root.dataset.notify;
  removeEventListener("tidings:connected", onConnected);
  document.removeEventListener("visibilitychange", onVisibility);
  connection.abort();
  forget();
  say("");
};

/** Asks the reader's permission, and begins. Returns whether it has begun. */
export const ask = async () => {
  const reason = refusal();
  if (reason) {
    say(reason);
    return false;
  }
  const permission = await Notification.requestPermission();
  if (permission !== "granted") {
    const blocked = "The browser blocks notifications from this site. Allow them in its settings for the site.";
    say(permission === "denied" ? blocked : "Notifications were not allowed.");
    return false;
  }
  try {
    // Throws in browsers that have them only in service workers, such as Chrome on Android. It shows as
    // well whether the system lets them through.
    new Notification(name(), { body: "You will see new messages here while the tab is hidden.", tag });
  } catch {
    say("This browser has notifications only for installed apps.");
    return false;
  }
  return start();
};
