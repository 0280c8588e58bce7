// Find: the filter of a live page, the history behind it, and the page that works without scripts.

import { type Page } from "@playwright/test";
import { MessagePage, type Server, expect, idlePreload, messages, nothingToFind, test, unreachable } from "../tidings.ts";

const IN_MEMORY = ["--data", ":memory:", "--publish-rate", "0"];

/** The filter of a live page, found by roles and texts. */
class Finder {
  readonly box;
  readonly count;
  readonly status;
  readonly search;
  readonly hits;

  constructor(readonly page: Page) {
    const form = page.getByRole("search");
    this.box = form.getByRole("searchbox", { name: "Find" });
    this.count = form.getByText(/^\d+ of \d+ shown$/).first();
    this.status = form.getByRole("status");
    this.search = form.getByRole("button", { name: /^Search/ });
    this.hits = form.getByRole("region", { name: "Older messages found" }).getByRole("listitem");
  }

  /** Opens the filter by its key, and types. */
  static async open(page: Page, typed: string): Promise<Finder> {
    const finder = new Finder(page);
    await page.getByRole("log").press("/");
    await expect(finder.box).toBeFocused();
    await page.keyboard.type(typed);
    return finder;
  }
}

/** The texts of the rows that are shown. */
async function shown(stream: MessagePage, texts: string[]): Promise<void> {
  await expect.poll(() => stream.rows.locator("p").filter({ visible: true }).allTextContents()).toEqual(texts);
}

async function isLive(stream: MessagePage): Promise<void> {
  await expect(stream.page.getByRole("region", { name: "Stream" }).getByRole("status")).toHaveText("Live");
}

/** A stream whose page is live. */
async function open(page: Page, server: Server, stream = "ci"): Promise<MessagePage> {
  const opened = await MessagePage.open(page, server, stream);
  await isLive(opened);
  return opened;
}

async function publishLines(server: Server, stream: string, lines: string[]): Promise<void> {
  const response = await fetch(`${server.url}/streams/${stream}?lines`, { method: "POST", body: lines.join("\n") });
  expect(response.ok).toBe(true);
}

test("rows and live messages are filtered as one types, and all are back after Escape", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("ci", "\x1b[31mer\x1b[1mror\x1b[0m: disk", "info: disk", '{"level":"error"}', "error: network");
  const stream = await open(page, server);
  const finder = await Finder.open(page, "Error");
  await expect(finder.count).toHaveText("3 of 4 shown");
  await expect(finder.status).toHaveText("3 of 4 shown");
  await expect(stream.rows.filter({ visible: true, hasText: /info/ })).toHaveCount(0);
  await page.keyboard.type(" -disk");
  await expect(finder.count).toHaveText("2 of 4 shown");

  await server.publish("ci", "an ERROR", "error: disk again", "nothing");
  await expect(finder.count).toHaveText("3 of 7 shown");
  await shown(stream, ["error: network", "an ERROR"]);
  await finder.box.fill('"error: disk"');
  await shown(stream, ["error: disk", "error: disk again"]);
  await finder.box.fill("no such text");
  await expect(finder.count).toHaveText("0 of 7 shown");
  await shown(stream, []);

  await page.keyboard.press("Escape");
  await expect(page.getByRole("search")).toHaveCount(0);
  await expect(stream.log).toBeFocused();
  await shown(stream, ["error: disk", "info: disk", "error: network", "an ERROR", "error: disk again", "nothing"]);
  await server.publish("ci", "more");
  await expect(stream.rows.last()).toContainText("more");
  await expect(stream.rows.last()).toBeVisible();
});

/** The same table is in src/filter.rs, for the server. */
test("what people type is parsed as the server does", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await open(page, server);
  const parse = (typed: string) => page.evaluate(async ([address, typed]) => (await import(address!)).parse(typed), [`${server.url}/find.js`, typed]);
  const table: [string, string[], string[]][] = [
    ["", [], []],
    ["  ", [], []],
    ["error", ["error"], []],
    [" Error\t WARN ", ["error", "warn"], []],
    ["error -debug", ["error"], ["debug"]],
    ['"a phrase" -"not  this" word', ["a phrase", "word"], ["not  this"]],
    ['"-v" --verbose', ["-v"], ["-verbose"]],
    ['a-b a"b c"', ["a-b", 'a"b', 'c"'], []],
    ['"a"b', ["a", "b"], []],
    ["error -", ["error"], []],
    ['error -"', ["error"], []],
    ['"" -"" -', [], []],
    ['"no end ', ["no end "], []],
    ["ΣΊΣΥΦΟΣ İ", ["σίσυφοσ", "i̇"], []],
  ];
  for (const [typed, contains, excludes] of table) expect(await parse(typed), typed).toEqual({ contains, excludes });
});

test("the filter is used with the keyboard alone, and its key can be turned off", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("ci", "one", "two");
  const stream = await open(page, server);
  await stream.composer.press("/");
  await expect(stream.composer).toHaveValue("/");
  await page.getByRole("link", { name: "Find" }).press("Enter");
  const finder = new Finder(page);
  await expect(finder.box).toBeFocused();
  await page.keyboard.type("two");
  await shown(stream, ["two"]);
  await page.keyboard.press("Tab");
  await expect(finder.search).toBeFocused();
  await page.keyboard.press("Tab");
  await expect(stream.button("Close")).toBeFocused();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Space");
  await page.keyboard.press("Escape");
  await expect(stream.log).toBeFocused();
  await shown(stream, ["one", "two"]);
  await page.keyboard.press("/");
  await expect(page.getByRole("search")).toHaveCount(0);
  await stream.composer.fill("");
  await page.getByRole("link", { name: "Find" }).click();
  await expect(finder.box).toBeFocused();
  await page.getByRole("checkbox").check();
  await stream.button("Close").click();
  await Finder.open(page, "on again");
});

test("what is typed while the filter loads is not lost", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("ci", "one", "two");
  const stream = await open(page, server);
  let letGo = () => {};
  const held = new Promise<void>((resolve) => (letGo = resolve));
  await page.route("**/find.js", async (route) => {
    await held;
    await route.continue();
  });
  await stream.log.press("/");
  await page.keyboard.type("tw");
  letGo();
  await expect(new Finder(page).box).toHaveValue("tw");
  await page.keyboard.type("o");
  await shown(stream, ["two"]);
});

test("the history behind the window is searched, page after page", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await publishLines(server, "ci", ["\x1b[31mneedle\x1b[0m 1", ...messages(25_000), "needle 2", ...messages(150)]);
  const stream = await open(page, server);
  const finder = await Finder.open(page, "needle");
  await expect(finder.count).toHaveText("0 of 100 shown");
  await finder.box.press("Enter");
  await expect(finder.hits.filter({ hasText: "needle" })).toHaveCount(1);
  await expect(page.getByText(/^1 found in 20000 older messages, back to /)).toBeVisible();
  await server.publish("ci", "a live needle");
  await shown(stream, ["a live needle"]);

  await stream.button("Search further back").click();
  await expect(finder.hits.locator("p")).toHaveText(["needle 1", "needle 2"]);
  await expect(page.getByText("2 found in 25052 older messages. That is all there are.")).toBeVisible();
  await expect(finder.status).toHaveText("2 found in 25052 older messages. That is all there are.");
  await expect(finder.search).toBeHidden();
  await expect(finder.box).toBeFocused();
  await shown(stream, ["a live needle"]);
  const time = await finder.hits.last().locator("time").textContent();
  expect(time, "in the zone of the reader").toBe(await stream.rows.last().locator("time").textContent().then((now) => now!.slice(0, 2) + time!.slice(2)));

  await finder.box.fill("needle 1");
  await expect(finder.hits).toHaveCount(0);
  await expect(finder.search).toBeVisible();
  await page.keyboard.press("Enter");
  await expect(finder.hits.locator("p")).toHaveText(["needle 1"]);
  await finder.hits.last().getByRole("link").click();
  await expect(page.locator("[aria-current]")).toContainText("needle 1");
});

test("hits that leave the window, and a stream that is deleted, are not claimed", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await publishLines(server, "ci", ["older needle", ...messages(100), "needle"]);
  const stream = await open(page, server);
  const finder = await Finder.open(page, "needle");
  await finder.search.click();
  await expect(finder.hits.locator("p")).toHaveText(["older needle"]);
  await publishLines(server, "ci", messages(600));
  await expect(page.getByText("1 hit left the window since.")).toBeVisible();
  await stream.button("Search again").click();
  await expect(finder.hits.locator("p")).toHaveText(["older needle", "needle"]);

  await server.delete("ci");
  await expect(finder.hits).toHaveCount(0);
  await expect(stream.rows.filter({ hasText: "The stream was deleted." })).toBeVisible();
});

test("a cut connection resumes while the page is filtered: every message is there once", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("ci", ...messages(10));
  const stream = await open(page, server);
  const finder = await Finder.open(page, "message 1");
  await expect(finder.count).toHaveText("2 of 10 shown");
  const cut = await page.context().newCDPSession(page);
  await cut.send("Network.enable");
  const offline = (offline: boolean) => cut.send("Network.emulateNetworkConditions", { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  await offline(true);
  await page.evaluate(() => dispatchEvent(new Event("offline")));
  await server.publish("ci", ...messages(20, 11));
  await offline(false);
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await expect(finder.count).toHaveText("11 of 20 shown");
  await page.keyboard.press("Escape");
  await stream.shows(messages(20));
  await isLive(stream);
});

test("new messages are counted whether they match or not, and wait while the reader has scrolled up", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("ci", ...messages(60));
  const stream = await open(page, server);
  const finder = await Finder.open(page, "message");
  await stream.log.focus();
  await page.keyboard.press("Home");
  await server.publish("ci", "message 61", "other");
  await expect(stream.button("2 new messages")).toBeVisible();
  await expect(finder.count).toHaveText("60 of 60 shown");
  await stream.button("2 new messages").click();
  await expect(finder.count).toHaveText("61 of 62 shown");
});

test("the log announces neither hidden rows nor those that are shown again", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("ci", ...messages(3));
  const stream = await open(page, server);
  const finder = await Finder.open(page, "message 2");
  await expect(finder.count).toHaveText("1 of 3 shown");
  await expect(stream.log).toHaveAttribute("aria-live", "off");
  await expect(stream.log).not.toHaveAttribute("aria-live");
  await server.publish("ci", "not this");
  await expect(finder.count).toHaveText("1 of 4 shown");
  await expect(stream.log).toMatchAriaSnapshot(`
    - log "Messages":
      - list:
        - listitem:
          - time
        - listitem:
          - paragraph: message 2
  `);
  await expect(finder.status, "live messages do not change what is announced").toHaveText("1 of 3 shown");
});

for (const colorScheme of ["light", "dark"] as const) {
  for (const width of [1280, 390]) {
    test(`axe finds nothing in the filter, ${colorScheme}, ${width} wide`, async ({ page, start }) => {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 900 });
      const server = await start(...IN_MEMORY);
      await publishLines(server, "ci", ["INFO older needle", ...messages(120), "INFO needle at http://a.example", '{"needle":1}']);
      await open(page, server);
      await nothingToFind(page, "closed");
      const finder = await Finder.open(page, "needle");
      await nothingToFind(page, "filtered");
      await finder.search.click();
      await expect(finder.hits.locator("p")).toHaveText(["INFO older needle"]);
      await nothingToFind(page, "with older messages");
      await page.goto(`${server.url}/streams/ci?find=needle`);
      await nothingToFind(page, "the page of what was found");
      await page.goto(`${server.url}/streams/ci?find=`);
      await nothingToFind(page, "the form");
    });
  }
}

test.describe("when the page or the server fails", () => {
  test.use({ mayComplain: /^Failed to load resource: |the live part of the page has failed/ });

  test("the filter survives a recovery of the page", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("ci", ...messages(3));
    const stream = await open(page, server);
    const finder = await Finder.open(page, "2");
    await shown(stream, ["message 2"]);
    // The wasm traps: an error whose stack names its module.
    await page.evaluate(() => {
      const script = document.getElementById("loader")!.dataset.script!;
      const error = new Error("a trap");
      error.stack = `at ${new URL(script, location.href)}:1:1`;
      dispatchEvent(new ErrorEvent("error", { error }));
    });
    await isLive(stream);
    await expect(finder.box).toHaveValue("2");
    await shown(stream, ["message 2"]);
    await server.publish("ci", "message 22", "message 3");
    await shown(stream, ["message 2", "message 22"]);
  });

  test("the reader is told that the history cannot be searched, and may try again", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await publishLines(server, "ci", ["needle", ...messages(150)]);
    await open(page, server);
    const finder = await Finder.open(page, "needle");
    await page.route("**/streams/ci?find=*", (route) => route.abort());
    await finder.search.click();
    await expect(page.getByText("Older messages could not be searched. Try again.").first()).toBeVisible();
    await page.unroute("**/streams/ci?find=*");
    await finder.search.click();
    await expect(finder.hits.locator("p")).toHaveText(["needle"]);
  });

  test("where the filter cannot be loaded, the page of what was found is there", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("ci", "one");
    await page.route("**/find.js", (route) => route.abort());
    await open(page, server);
    await page.getByRole("link", { name: "Find" }).click();
    await expect(page).toHaveURL(`${server.url}/streams/ci?find=`);
  });
});

test.describe("without scripts", () => {
  test.use({ javaScriptEnabled: false, mayComplain: idlePreload });

  test("messages are found on a page of their own", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await publishLines(server, "ci", ["needle <b>1</b>", ...messages(20_000), "needle 2"]);
    await page.goto(`${server.url}/streams/ci`);
    await page.getByRole("link", { name: "Find" }).click();
    await page.getByRole("searchbox", { name: "Find" }).fill("NEEDLE");
    await page.keyboard.press("Enter");
    await expect(page.getByText(/^1 found in the \d+ newest messages examined\.$/)).toBeVisible();
    await page.getByRole("link", { name: "Older" }).first().click();
    await expect(page.getByText(/older messages examined\. That is all there are\.$/)).toBeVisible();
    await page.getByRole("listitem").filter({ hasText: "needle <b>1</b>" }).getByRole("link").click();
    await expect(page.locator("[aria-current]")).toContainText("needle <b>1</b>");
    await page.getByRole("link", { name: "Find" }).click();
    await expect(page.getByRole("searchbox", { name: "Find" })).toBeVisible();
  });
});

test.describe("a server that refuses", () => {
  test.use({ mayComplain: unreachable });

  test("the reader is told to search more slowly", async ({ page, start }) => {
    const server = await start(...IN_MEMORY, "--read-rate", "1");
    await publishLines(server, "ci", messages(150));
    await open(page, server);
    const finder = await Finder.open(page, "nothing");
    // Ten pages a search, ten at once: the second one is refused, unless it takes ten seconds to get there.
    await expect(async () => {
      await finder.box.press("End");
      await finder.box.press("x");
      await finder.search.click();
      await expect(page.getByText(/^Read more slowly/).first()).toBeVisible({ timeout: 2_000 });
    }).toPass();
  });
});
