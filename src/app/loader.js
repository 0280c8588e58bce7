// Hydrates the islands of a page, and recovers when hydration or the wasm fails.
//
// Other programs change pages before hydration: extensions, translators, proxies, and phones that turn
// numbers into links. Hydration then fails, at once or later, and without an error. So this script first
// checks that the islands are as the server sent them, listens for traps of the wasm, and sends it
// heartbeats, which the page must show. On a failure it fetches the page again, replaces the broken
// `main` and starts a new instance of the wasm there. Until that is live the page shows that it is not
// (`data-hydration="failed"`). If this script itself does not run, the style sheet shows it after 15 s.

const root = document.documentElement;

// The interval of the heartbeat, and the timeout of its answer; the time after which an instance is
// stable, so that the count of failures restarts; the timeout of fetching the page.
const HEARTBEAT_INTERVAL_MS = 15_000;
const HEARTBEAT_TIMEOUT_MS = 50;
const STABLE_AFTER_MS = 60_000;
const FETCH_TIMEOUT_MS = 15_000;
// Back-off: the longest pause before each new attempt. A message that makes the wasm trap does so for
// all watchers at once, and a restarting server needs a while. If the last attempt fails, the reader
// has to reload the page.
const RETRY_PAUSES_MS = [500, 2_000, 10_000];

// The current instance: the URL of its module, its event source, and its abort signal.
let current;
class Instance {
  end = new AbortController();
  signal = this.end.signal;
  #source;

  get source() {
    return this.#source;
  }

  // The wasm has connected. Notifications listen to the connection too.
  set source(source) {
    this.#source = source;
    dispatchEvent(new CustomEvent("tidings:connected", { detail: source }));
  }
}

let instances = 0;
let failures = 0;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Whether an island has as many nodes as the server sent.
const isUntouched = (island) => {
  const nodes = document.createTreeWalker(island, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_COMMENT);
  let count = 0;
  while (nodes.nextNode()) count++;
  return count === Number(island.dataset.nodes);
};

// The rows of a page, which the wasm updates, or those of the list, which stream_list.js updates.
const LOG = ".live .log, .streams";
const ROWS = ".live .log > div > ol:last-of-type, .streams";

// Whether a heartbeat is answered on the elements of the state and of the rows, and whether the page has
// as many rows as it should have.
const isAlive = async () => {
  if (!current?.hasLive) return true;
  const beats = () =>
    [".live .state", ROWS].map((selector) => document.querySelector(selector)?.dataset.beat);
  const before = beats();
  dispatchEvent(new Event("tidings:heartbeat"));
  await pause(HEARTBEAT_TIMEOUT_MS);
  const answered = beats().every((beat, i) => beat !== undefined && beat !== before[i]);
  const log = document.querySelector(LOG);
  return answered && log?.querySelectorAll("li:not(.day)").length === Number(log?.dataset.rows);
};

// Changes the page, and keeps drafts, focus and selection.
const preserveInput = (change) => {
  const focusable = () => [...document.querySelectorAll("main :is(a, button, input, textarea, summary, [tabindex])")];
  const active = document.activeElement;
  const index = focusable().indexOf(active);
  const selection = [active?.selectionStart, active?.selectionEnd];
  const fields = [...document.querySelectorAll("main :is(textarea, input)[id]")];
  change();
  for (const { id, value, dataset } of fields) {
    const field = document.getElementById(id);
    if (field) field.value = value;
    // The idempotency key of the draft, if it was sent.
    if (field && dataset.key) Object.assign(field.dataset, { key: dataset.key, sent: dataset.sent });
  }
  const focused = active?.id ? document.getElementById(active.id) : focusable()[index];
  if (index >= 0 && focused?.localName === active.localName) focused.focus({ preventScroll: true });
  if (index >= 0 && selection[0] != null) focused?.setSelectionRange?.(...selection);
};

// The page as the server renders it. Requested as plain text, since proxies rewrite only HTML, and parsed
// into a document that extensions do not see. Not from the cache, which holds the HTML page of this URL.
const fetchPage = async () => {
  const address = document.getElementById("loader")?.dataset.page ?? location.href;
  const response = await fetch(address, {
    headers: { accept: "text/plain" },
    cache: "no-store",
    signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
  });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  if (!response.ok || !page.getElementById("loader")) throw new Error(`the page was answered with ${response.status}`);
  return page;
};

const start = async (getPage) => {
  const instance = (current = new Instance());
  try {
    const page = await getPage();
    const { script, wasm, page: address } = page.getElementById("loader").dataset;
    instance.hasLive = address !== undefined;
    // A new URL loads a new module: a failed instance cannot be started again.
    instance.url = new URL(instances++ ? `${script}?${instances}` : script, location.href).href;
    const module = await import(instance.url);
    await module.default({ module_or_path: wasm });
    if (current !== instance) return;
    // Synchronous from here on, so that no other script runs in between.
    if (page !== document) {
      const broken = document.querySelector("main");
      const main = page.querySelector("main");
      preserveInput(() => (broken ? broken.replaceWith(main) : document.body.append(main)));
      document.title = page.title;
    }
    const islands = [...document.querySelectorAll("leptos-island")];
    if (!islands.every(isUntouched)) throw new Error("the page is not as it was sent");
    globalThis.tidings = instance;
    module.hydrate();
    for (const island of islands) module[island.dataset.component](island);
    // The wasm listens for heartbeats once its effects have run.
    await pause(0);
    if (!(await isAlive())) throw new Error("the live part does not answer");
    if (current !== instance) return;
    instance.aliveSince = performance.now();
    root.dataset.hydration = "done";
  } catch (error) {
    fail(instance, error);
  }
};

const fail = async (instance, error) => {
  // Ignore errors of earlier instances.
  if (!instance || current !== instance) return;
  current = undefined;
  root.dataset.hydration = "failed";
  console.warn("Tidings: the live part of the page has failed.", error);
  // A failed instance must not stay connected, nor be called again. Cloned islands have no listeners, so
  // that forms and links work as they do without scripts.
  instance.end.abort();
  instance.source?.close();
  preserveInput(() => {
    for (const island of document.querySelectorAll("leptos-island")) island.replaceWith(island.cloneNode(true));
  });
  const wasStable = performance.now() - instance.aliveSince > STABLE_AFTER_MS;
  failures = wasStable ? 1 : failures + 1;
  const longest = RETRY_PAUSES_MS[failures - 1];
  if (longest === undefined) return;
  await pause(longest * Math.random());
  if (!current) start(fetchPage);
};

// Tries again when the browser is online again or shows a cached page.
const restart = () => {
  if (current || root.dataset.hydration !== "failed") return;
  failures = 0;
  start(fetchPage);
};
addEventListener("online", restart);
addEventListener("pageshow", ({ persisted }) => persisted && restart());

// The stack of a trap names the module that called into the wasm. If the stack is too deep it names only
// wasm functions, which may belong to an extension; then a heartbeat shows whether this wasm has failed.
Error.stackTraceLimit = 100;
const onError = async ({ error, reason }) => {
  const instance = current;
  const cause = error ?? reason;
  const stack = String(cause?.stack);
  const [module] = stack.match(/\/pkg\/[\w.-]+\.js(\?\d+)?(?=:)/) ?? [];
  const isOurs = module ? instance?.url?.endsWith(module) : stack.includes("wasm-function") && !(await isAlive());
  if (isOurs) fail(instance, cause);
};
addEventListener("error", onError);
addEventListener("unhandledrejection", onError);

setInterval(async () => {
  const instance = current;
  if (!instance?.aliveSince || document.hidden || (await isAlive())) return;
  fail(instance, new Error("the live part does not answer"));
}, HEARTBEAT_INTERVAL_MS);

start(async () => document);
