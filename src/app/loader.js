// Brings the islands of a page to life, and says so where it cannot.
//
// Other programs change pages between the server and the wasm: extensions, translators, proxies, a
// phone that makes links of numbers. Hydration then fails, at once or later, and silently. So this
// script looks first whether the islands are as they were sent, hears when the wasm traps, and asks
// it now and then whether it still shows what it knows. Where anything is wrong, it fetches the page
// again, puts its `main` in place of the broken one and starts a new instance of the wasm there;
// after the second failure in a row it says that the page is not live (`data-hydration="failed"`).
// Where this script itself does not run, the style sheet says it after a while.

const root = document.documentElement;

/** How often the wasm is asked whether it lives, how long it may take, and how long an instance must
    have lived for a failure to be a first one again; in milliseconds. */
const BEAT = 15_000;
const PATIENCE = 50;
const LASTING = 60_000;
const MAX_FAILURES = 2;

/** What runs now: where its module is, the source of its events, and the signal that it ends. */
let current;
let instances = 0;
let failures = 0;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Whether an island has the nodes that the server sent. */
const isUntouched = (island) => {
  const nodes = document.createTreeWalker(island, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_COMMENT);
  let count = 0;
  while (nodes.nextNode()) count++;
  return count === Number(island.dataset.nodes);
};

/** Whether the wasm answers, on the element that it believes to show its state, and whether the page
    has the rows that it believes to show. */
const lives = async () => {
  if (!current?.hasLive) return true;
  const state = document.querySelector(".live .state");
  const log = document.querySelector(".live .log");
  const before = state?.dataset.beat;
  dispatchEvent(new Event("beat"));
  await pause(PATIENCE);
  const rows = log?.querySelectorAll("li:not(.day)").length;
  return state != null && state.dataset.beat !== before && rows === Number(log?.dataset.rows);
};

/** Runs a change of the page; what is half written in it stays, and so does the focus. */
const keeping = (change) => {
  const active = document.activeElement;
  const classes = [...(active?.classList ?? [])].map((name) => `.${CSS.escape(name)}`);
  const selector = active?.id ? `#${CSS.escape(active.id)}` : active && active.localName + classes.join("");
  const selection = [active?.selectionStart, active?.selectionEnd];
  const fields = [...document.querySelectorAll("main :is(textarea, input)[id]")].map(({ id, value }) => [id, value]);
  change();
  for (const [id, value] of fields) {
    const field = document.getElementById(id);
    if (field) field.value = value;
  }
  const again = active !== document.body && selector ? document.querySelector(`main ${selector}`) : null;
  again?.focus({ preventScroll: true });
  if (again && selection[0] != null) again.setSelectionRange?.(...selection);
};

/** The page at this address as the server writes it: as text, since proxies rewrite only pages, and
    parsed where no extension sees it. */
const fetchPage = async () => {
  const response = await fetch(location.href, { headers: { accept: "text/plain" } });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  if (!response.ok || !page.getElementById("loader")) throw new Error(`the page was answered with ${response.status}`);
  return page;
};

const begin = async (getPage) => {
  const end = new AbortController();
  const self = (current = { end, signal: end.signal, since: Date.now() });
  try {
    const page = await getPage();
    const { script, wasm, live } = page.getElementById("loader").dataset;
    self.hasLive = live !== undefined;
    // Another address is another module: an instance that has failed cannot be started again.
    self.url = new URL(instances++ ? `${script}?${instances}` : script, location.href).href;
    const module = await import(self.url);
    await module.default({ module_or_path: wasm });
    if (current !== self) return;
    // From here on in one go, so that no one else comes in between.
    const main = page.querySelector("main");
    if (page !== document) {
      const broken = document.querySelector("main");
      keeping(() => (broken ? broken.replaceWith(main) : document.body.append(main)));
    }
    const islands = [...document.querySelectorAll("leptos-island")];
    if (!islands.every(isUntouched)) throw new Error("the page is not as it was sent");
    globalThis.tidings = self;
    module.hydrate();
    for (const island of islands) module[island.dataset.component](island);
    // It listens once its effects have run.
    await pause(0);
    if (!(await lives())) throw new Error("the live part does not answer");
    if (current !== self) return;
    self.hydrated = true;
    root.dataset.hydration = "done";
  } catch (error) {
    failed(self, error);
  }
};

const failed = async (self, error) => {
  // What comes from an earlier instance is no news.
  if (current !== self) return;
  current = undefined;
  root.dataset.hydration = "failed";
  console.warn("Tidings: the live part of the page has failed.", error);
  // A dead instance must not go on to be a watcher, nor be called again.
  self.end.abort();
  self.source?.close();
  failures = self.hydrated && Date.now() - self.since > LASTING ? 1 : failures + 1;
  if (failures <= MAX_FAILURES) {
    if (failures > 1) await pause(1_000);
    return begin(fetchPage);
  }
  // Copies have no listeners: forms and links work as they do without scripts.
  keeping(() => {
    for (const island of document.querySelectorAll("leptos-island")) island.replaceWith(island.cloneNode(true));
  });
  addEventListener("online", () => begin(fetchPage), { once: true });
};

// A trap names the module that called into the wasm, or, where the stack is too deep, the wasm alone.
Error.stackTraceLimit = 100;
const heard = ({ error, reason }) => {
  const cause = error ?? reason;
  const stack = String(cause?.stack);
  const [module] = stack.match(/\/pkg\/[\w.-]+\.js(\?\d+)?(?=:)/) ?? [];
  if (module ? current?.url?.endsWith(module) : stack.includes("wasm-function")) failed(current, cause);
};
addEventListener("error", heard);
addEventListener("unhandledrejection", heard);

setInterval(async () => {
  const self = current;
  if (self?.hydrated && !document.hidden && !(await lives())) failed(self, new Error("the live part does not answer"));
}, BEAT);

begin(async () => document);
