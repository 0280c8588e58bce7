// Find: filters the rows of a live page as one types, and searches the history behind them.
//
// Loaded when the reader opens it (see page.js). It works on the rows that the wasm has made: one that does
// not match gets the attribute `hidden` before the browser paints it, or tells a screen reader of it. Nothing
// else knows of the filter: the rows, the cursor and the count of new messages are what they were. What has
// to know whether a message is shown (a notification) looks at that attribute, or calls `matches`.
//
// The rules are those of src/filter.rs: what is changed here is changed there.

// A pause in typing after which the number of hits is announced, and how long the log then says nothing: it
// would read out all rows that are shown again. The timeout of a request.
const ANNOUNCE_AFTER_MS = 700;
const QUIET_MS = 1_500;
const FETCH_TIMEOUT_MS = 15_000;
// The most hits that are highlighted in one row.
const MAX_RANGES = 100;
const KEY = "tidings:find-key";

const fold = (text) => text.toLowerCase().replaceAll("ς", "σ");

// What people type: words, "phrases", and both after a hyphen.
export const parse = (typed) => {
  const filter = { contains: [], excludes: [] };
  for (const [, hyphen, phrase, word] of typed.matchAll(/(-?)(?:"([^"]*)"?|(\S*))/g)) {
    const text = fold(phrase ?? word);
    if (text) (hyphen ? filter.excludes : filter.contains).push(text);
  }
  return filter;
};

const matchesFolded = ({ contains, excludes }, folded) =>
  contains.every((word) => folded.includes(word)) && !excludes.some((word) => folded.includes(word));

let filter = parse("");
const isFiltering = () => filter.contains.length + filter.excludes.length > 0;

// Whether the page shows a message with this text (without escape sequences).
export const matches = (text) => matchesFolded(filter, fold(text));

// The elements of the filter, and the link that opened it, which leads to the page of hits.
let finder;
let address;
const part = (name) => finder.querySelector(`[data-part="${name}"]`);
const log = () => document.querySelector(".live .log");
const setText = (name, text) => {
  if (part(name).textContent !== text) part(name).textContent = text;
};
const setHidden = (element, hidden) => {
  if (element.hidden !== hidden) element.hidden = hidden;
};
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

// The folded text of each row, and whether it matches the current filter.
const texts = new WeakMap();
let results = new WeakMap();

const rowMatches = (row) => {
  if (!results.has(row)) {
    // A JSON message is in its summary as it was published.
    if (!texts.has(row)) texts.set(row, fold(row.querySelector("summary, p")?.textContent ?? ""));
    results.set(row, matchesFolded(filter, texts.get(row)));
  }
  return results.get(row);
};

// Shows the rows that match, and the dates before them. The rows that say what happened to the stream stay.
const apply = () => {
  let [shown, total] = [0, 0];
  const days = new Map();
  let day;
  for (const row of document.querySelectorAll(".live .log li")) {
    if (row.className === "day") {
      day = row;
      days.set(day, isFiltering());
      continue;
    }
    const isMessage = row.className === "message";
    const isShown = !isMessage || rowMatches(row);
    setHidden(row, !isShown);
    if (isShown) days.set(day, false);
    if (isShown && isFiltering()) highlight(row);
    total += isMessage;
    shown += isMessage && isShown;
  }
  for (const [day, hidden] of days) if (day) setHidden(day, hidden);
  setText("count", isFiltering() ? `${shown} of ${total} shown` : "");
};

// Hits are highlighted without a change of the page (CSS Custom Highlight API, not in all browsers). The
// ranges are static: live ones would make every change of the page slower.
const highlights = globalThis.Highlight && CSS.highlights;
const ranges = new Map();

const highlight = (row) => {
  if (!highlights || ranges.has(row)) return;
  const found = [...row.querySelectorAll("summary, p")].flatMap(rangesIn);
  ranges.set(row, found);
  if (!highlights.has("found")) highlights.set("found", new Highlight());
  for (const range of found) highlights.get("found").add(range);
};

// The ranges of the words in an element, whose text may be in several nodes.
const rangesIn = (element) => {
  const nodes = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let end = 0; walker.nextNode(); ) nodes.push({ node: walker.currentNode, start: end, end: (end += walker.currentNode.length) });
  const text = element.textContent;
  const folded = fold(text);
  // Few characters are longer in lower case; places after one cannot be told.
  if (folded.length !== text.length) return [];
  const at = (place) => {
    const { node, start } = nodes.find(({ end }) => place <= end);
    return [node, place - start];
  };
  const found = [];
  for (const word of filter.contains) {
    for (let from = folded.indexOf(word); from >= 0 && found.length < MAX_RANGES; from = folded.indexOf(word, from + word.length)) {
      const [[startContainer, startOffset], [endContainer, endOffset]] = [at(from), at(from + word.length)];
      found.push(new StaticRange({ startContainer, startOffset, endContainer, endOffset }));
    }
  }
  return found;
};

const forgetRanges = (isForgotten) => {
  for (const [row, found] of ranges) {
    if (!isForgotten(row)) continue;
    for (const range of found) highlights.get("found")?.delete(range);
    ranges.delete(row);
  }
};

// The search of the history: the cursor where it goes on (null: at its end), the number of messages it has
// examined, the hits that have left the window since, and the request that is under way.
const NOT_BEGUN = { begun: false, before: undefined, examined: 0, left: 0, running: undefined };
let search = { ...NOT_BEGUN };

const forgetHistory = () => {
  search.running?.abort(null);
  search = { ...NOT_BEGUN };
  part("hits").querySelector("ol").replaceChildren();
  showHistory();
};

const pad = (number) => String(number).padStart(2, "0");
const timeOf = (date) => [date.getHours(), date.getMinutes(), date.getSeconds()].map(pad).join(":");
const dateOf = (date) => [date.getFullYear(), pad(date.getMonth() + 1), pad(date.getDate())].join("-");
const dayOf = (date) => date.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });

const showHistory = (failure) => {
  const { begun, before, examined, left, running } = search;
  const hits = part("hits").querySelectorAll("li.message").length;
  part("hits").hidden = !hits;
  const button = part("search");
  button.textContent = running ? "Stop" : !begun ? "Search older messages" : left ? "Search again" : "Search further back";
  const isDone = !isFiltering() || (begun && before === null && !running && !left);
  if (isDone && document.activeElement === button) part("input").focus();
  button.hidden = isDone;
  let text = begun ? `${hits} found in ${plural(examined, "older message")}` : "";
  if (begun && before) {
    const place = new Date(Number(before.split("-")[0]));
    text += `, back to ${dayOf(place)}, ${timeOf(place)}.`;
  } else if (begun) {
    text += running ? " so far." : ". That is all there are.";
  }
  if (left) text += ` ${plural(left, "hit")} left the window since.`;
  setText("history", failure ?? text);
  if (!running && (failure ?? text)) announce(failure ?? text);
};

// Searches from where it stopped, or from the oldest row on; page after page until there is a hit.
const searchHistory = async () => {
  if (search.left) forgetHistory();
  const running = new AbortController();
  const mine = Object.assign(search, { begun: true, running });
  const idOf = (link) => new URL(link.href).searchParams.get("at");
  mine.before ??= [...document.querySelectorAll(".live .log li.message > a")].map(idOf)[0];
  showHistory();
  let failure;
  try {
    for (let found = 0; !found && mine.before !== null && !running.signal.aborted; ) {
      const { rows, examined, next } = await fetchHits(mine.before, running);
      if (search !== mine) return;
      mine.examined += examined;
      mine.before = next;
      found = rows.length;
      addHits(rows);
      showHistory();
    }
  } catch (error) {
    // Without a reason it was stopped by the reader.
    failure = running.signal.aborted ? (running.signal.reason ?? undefined) : error.message;
  }
  if (search !== mine) return;
  mine.running = undefined;
  showHistory(failure);
};

// A page of hits, as the server renders it: requested as plain text, since proxies rewrite only HTML.
const fetchHits = async (before, running) => {
  const url = new URL(address);
  url.searchParams.set("find", part("input").value);
  if (before) url.searchParams.set("before", before);
  const timeout = setTimeout(() => running.abort("The server did not answer. Try again."), FETCH_TIMEOUT_MS);
  const failed = "Older messages could not be searched. Try again.";
  let response, text;
  try {
    response = await fetch(url, { headers: { accept: "text/plain" }, cache: "no-store", signal: running.signal });
    text = await response.text();
  } catch {
    throw new Error(failed);
  } finally {
    clearTimeout(timeout);
  }
  const page = new DOMParser().parseFromString(text, "text/html");
  const main = page.querySelector("main[data-examined]");
  if (!response.ok || !main) {
    // A page that says why.
    const why = response.status < 500 && page.querySelector("main :is(h1 + p, .notice)");
    throw new Error(why ? why.textContent : failed);
  }
  const next = main.querySelector("a[rel=next]")?.getAttribute("href");
  return {
    rows: [...main.querySelectorAll(".log li.message")],
    examined: Number(main.dataset.examined),
    next: next ? new URL(next, url).searchParams.get("before") : null,
  };
};

// Adds hits above those there are, with dates and times in the zone of the reader.
const addHits = (rows) => {
  const list = part("hits").querySelector("ol");
  for (const time of rows.map((row) => row.querySelector("time"))) time.textContent = timeOf(new Date(time.dateTime));
  list.prepend(...rows);
  for (const day of list.querySelectorAll(".day")) day.remove();
  let last;
  for (const row of list.querySelectorAll("li")) {
    const date = new Date(row.querySelector("time").dateTime);
    if (last === (last = dateOf(date))) continue;
    const time = Object.assign(document.createElement("time"), { dateTime: last, textContent: dayOf(date) });
    const day = Object.assign(document.createElement("li"), { className: "day" });
    day.append(time);
    row.before(day);
  }
  rows.forEach(highlight);
};

// Tells screen readers, once nothing has been typed for a moment. The visible count, which changes with
// each message, is not announced.
let announcement;
const announce = (text) => {
  clearTimeout(announcement);
  announcement = setTimeout(() => finder && setText("status", text ?? part("count").textContent), ANNOUNCE_AFTER_MS);
};

let quiet;
const silenceLog = () => {
  clearTimeout(quiet);
  log()?.setAttribute("aria-live", "off");
  quiet = setTimeout(() => log()?.removeAttribute("aria-live"), QUIET_MS);
};

const setFilter = (typed) => {
  filter = parse(typed);
  document.documentElement.toggleAttribute("data-finding", isFiltering());
  silenceLog();
  results = new WeakMap();
  forgetRanges(() => true);
  forgetHistory();
  apply();
  announce();
};

// Follows the page: rows that come and go, and a recovery, which replaces all of `main` (see loader.js).
const observer = new MutationObserver((records) => {
  if (records.every(({ target }) => finder.contains(target))) return;
  if (!finder.isConnected) {
    insert();
    if (document.activeElement === document.body && hadFocus) part("input").focus();
    forgetHistory();
  }
  const isRow = (name) => (node) => node.localName === "li" && node.className === name;
  const changed = records.filter(({ target }) => target.parentElement?.closest(".live .log"));
  const removed = changed.flatMap(({ removedNodes }) => [...removedNodes]).filter(isRow("message"));
  if (changed.some(({ addedNodes }) => [...addedNodes].some(isRow("lost")))) {
    // What is behind the window may be another stream of this name.
    forgetHistory();
  } else if (search.begun && isFiltering() && removed.some((row) => !row.hidden)) {
    search.left += removed.filter((row) => !row.hidden).length;
    showHistory();
  }
  forgetRanges((row) => !row.isConnected);
  apply();
});

// Whether the focus was in the filter; it is nowhere when `main` is replaced.
let hadFocus = false;
document.addEventListener("focusin", ({ target }) => (hadFocus = Boolean(finder?.contains(target))));

const TEMPLATE = `
  <label for="find">Find</label>
  <input id="find" type="search" data-part="input" autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="400" aria-describedby="find-help">
  <span class="count" data-part="count"></span>
  <button type="submit" data-part="search" hidden></button>
  <button type="button" data-part="close">Close</button>
  <p id="find-help"><code>-word</code> leaves messages out, <code>"quotes"</code> make a phrase, Escape closes. <label><input type="checkbox" data-part="key"> The key / opens this</label></p>
  <p data-part="history"></p>
  <p class="unseen" role="status" data-part="status"></p>
  <div class="log hits" role="region" aria-label="Older messages found" tabindex="0" data-part="hits" hidden><ol></ol></div>`;

const insert = () => document.querySelector("main leptos-island, main .live")?.before(finder);

const close = () => {
  setFilter("");
  observer.disconnect();
  finder.remove();
  finder = undefined;
  log()?.focus();
};

// Storage may be absent or refused.
const stored = (use) => {
  try {
    return use(localStorage);
  } catch {
    return null;
  }
};

// Opens the filter. `link` leads to the page that finds without scripts; `typed` was typed meanwhile.
export const open = (link, typed) => {
  if (!finder) {
    address = link.href;
    finder = Object.assign(document.createElement("form"), { className: "finder", innerHTML: TEMPLATE });
    finder.setAttribute("role", "search");
    part("input").addEventListener("input", ({ target }) => setFilter(target.value));
    part("close").addEventListener("click", close);
    part("key").checked = stored((storage) => storage.getItem(KEY)) !== "off";
    part("key").addEventListener("change", ({ target }) => stored((storage) => storage.setItem(KEY, target.checked ? "on" : "off")));
    finder.addEventListener("submit", (event) => {
      event.preventDefault();
      if (search.running) search.running.abort(null);
      else if (!part("search").hidden) searchHistory();
    });
    insert();
    observer.observe(document.body, { childList: true, subtree: true });
  }
  part("input").focus();
  part("input").select();
  if (!typed) return;
  part("input").value = typed;
  setFilter(typed);
};

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (key !== "Escape" || !finder || !(finder.contains(target) || target.closest?.(".live .log"))) return;
  event.preventDefault();
  close();
});
