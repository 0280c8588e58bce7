// The main flows in Firefox. All else is tested in Chromium alone.

import { FirefoxPage, expect, test } from "../firefox.ts";
import { ENDLESS, type Server, messages, values, trapInTenthMessage } from "../tidings.ts";

test.skip(!process.env.TIDINGS_FIREFOX, "TIDINGS_FIREFOX is not the path of a Firefox");
// One worker, and so one Firefox.
test.describe.configure({ mode: "default" });

test("a run to its end, after which the connection stays closed", async ({ tab, start }) => {
  const server = await start("--counter-delay", "100ms", "--retry", "500ms");
  const requests: string[] = [];
  tab.on("request", (request) => requests.push(new URL(request.url()).pathname));
  const counter = await FirefoxPage.open(tab, server);
  await counter.is("Ended");
  await counter.shows([...values(20), "End of the stream"]);
  await counter.says("20 messages");
  await counter.says("times are local");
  const time = await tab.$eval("[role=log] time", ({ dateTime, textContent }) => ({ dateTime, textContent }));
  const inKolkata = new Date(Date.parse(time.dateTime) + 5.5 * 3_600_000).toISOString();
  expect(time.textContent).toBe(inKolkata.slice(11, 19));
  expect(await tab.$$("aria/Chart of the newest numbers, from 1 to 20; now 20")).toHaveLength(1);
  expect(requests.filter((path) => path === "/stream")).toHaveLength(1);

  requests.length = 0;
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  expect(requests, "no request in two retry periods").toEqual([]);
  expect(await server.openStreams()).toBe(0);
});

test("the composer publishes what is written, and is ready for the next message", async ({ tab, start }) => {
  const server = await start();
  await server.publish("ci", ...messages(2));
  const stream = await FirefoxPage.open(tab, server, "ci");
  await stream.is("Live");
  await stream.composer.fill("first\nand second line");
  await stream.button("Send").click();
  await stream.shows([...messages(2), "first\nand second line"]);
  const draft = () => tab.$eval("textarea", ({ value }) => value);
  await expect.poll(draft).toBe("");
  await stream.composer.fill("by keyboard");
  await tab.keyboard.down("Control");
  await tab.keyboard.press("Enter");
  await tab.keyboard.up("Control");
  await stream.shows([...messages(2), "first\nand second line", "by keyboard"]);
  await expect.poll(draft).toBe("");
  expect(tab.url(), "the page stays where it is").toBe(`${server.url}/streams/ci`);

  await server.end("ci", "that was it");
  await stream.is("Ended");
  await stream.shows([...messages(2), "first\nand second line", "by keyboard", "that was it"]);
});

test("the form publishes a message without scripts", async ({ tabWithoutScripts: tab, start }) => {
  const server = await start();
  const stream = await FirefoxPage.open(tab, server, "ci");
  await stream.says("Without JavaScript this page shows");
  await (await tab.$('aria/Say something[role="textbox"]'))!.focus();
  await tab.keyboard.type("two\nlines");
  // On to the button.
  await tab.keyboard.press("Tab");
  await tab.keyboard.press("Enter");
  await stream.shows(["two\nlines"]);
  expect(tab.url()).toBe(`${server.url}/streams/ci`);
});

test("a connection that is cut and comes back: no gap, no repeat", async ({ tab, start, startProxy }) => {
  const server = await start();
  await server.publish("ci", ...messages(3));
  const proxy = await startProxy(server);
  const stream = await FirefoxPage.open(tab, proxy, "ci");
  await stream.is("Live");
  await server.publish("ci", ...messages(6, 4));
  await stream.shows(messages(6));

  proxy.cut();
  await stream.is("Reconnecting");
  await server.publish("ci", ...messages(9, 7));
  expect(await stream.texts()).toEqual(messages(6));
  proxy.restore();
  await stream.is("Live");
  await stream.shows(messages(9));
  await server.publish("ci", "message 10");
  await stream.shows(messages(10));
  expect(await server.openStreams()).toBe(1);
});

test("a server that is stopped and restarted during a run: no gap, no repeat", async ({ tab, start }) => {
  const server = await start("--counter-delay", "300ms");
  const counter = await FirefoxPage.open(tab, server);
  await expect.poll(() => counter.texts()).toContain("Counter value 4");
  await server.stop();
  await counter.is("Reconnecting");
  await server.startAgain();
  await counter.is("Ended");
  await counter.shows([...values(20), "End of the stream"]);
});

test("the network goes and comes back: no gap, no repeat", async ({ tab, start }) => {
  const server = await start();
  await server.publish("ci", ...messages(3));
  const stream = await FirefoxPage.open(tab, server, "ci");
  await stream.is("Live");
  await tab.setOfflineMode(true);
  await stream.is("Offline");
  await server.publish("ci", ...messages(6, 4));
  await tab.setOfflineMode(false);
  await stream.is("Live");
  await stream.shows(messages(6));
});

test("pause holds new messages and shows their number, resume shows them", async ({ tab, start }) => {
  const server = await start("--counter-delay", "100ms", ...ENDLESS);
  const counter = await FirefoxPage.open(tab, server);
  await expect.poll(() => counter.texts()).toContain("Counter value 3");
  await counter.button("Pause").click();
  await counter.is("Paused");
  const before = await counter.texts();
  await counter.says(/\d{2,} waiting/);
  expect(await counter.texts(), "nothing moves in a pause").toEqual(before);
  await counter.button("Resume").click();
  await counter.is("Live");
  await expect.poll(() => counter.texts()).toContain(`Counter value ${before.length + 20}`);
  const after = await counter.texts();
  expect(after).toEqual(values(after.length));
});

test("rows and live messages are filtered as one types, and all are back after Escape", async ({ tab, start }) => {
  const server = await start();
  await server.publish("ci", "\x1b[31mer\x1b[1mror\x1b[0m: disk", "info: disk", "error: network");
  const stream = await FirefoxPage.open(tab, server, "ci");
  await stream.is("Live");
  // Firefox's own search begins by this key too, where a page has no other use for it.
  await tab.focus("[role=log]");
  await tab.keyboard.press("/");
  await tab.waitForSelector('aria/Find[role="searchbox"]');
  await expect.poll(() => tab.evaluate(() => document.activeElement?.localName)).toBe("input");
  await tab.keyboard.type("Error -disk");
  await stream.says("1 of 3 shown");
  await server.publish("ci", "an ERROR", "error: disk again", "nothing");
  await stream.says("2 of 6 shown");
  await stream.shows(["error: network", "an ERROR"]);
  await tab.keyboard.press("Escape");
  await stream.shows(["error: disk", "info: disk", "error: network", "an ERROR", "error: disk again", "nothing"]);
  expect(await tab.$$("[role=search]")).toHaveLength(0);
});

test("the other pages complain of nothing, and fit a phone", async ({ tab, start }) => {
  const server = await start();
  await server.publish("log", ...messages(150), "\x1b[31mred\x1b[0m https://example.org", '{"key":"value"}');
  await tab.setViewport({ width: 390, height: 844 });
  for (const path of ["/streams", "/streams/log", "/streams/log?before=9999999999999-0", "/streams/log?view=log", "/problems"]) {
    await tab.goto(server.url + path);
    await expect.poll(() => tab.evaluate(() => document.readyState)).toBe("complete");
    const isWide = await tab.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
    expect(isWide, `${path}: no horizontal scrolling`).toBe(false);
  }
});

test.describe("a page that is changed", () => {
  // Expected: the page's script logs what failed.
  test.use({ mayComplain: /^Tidings: the live part|planted/ });

  const notices: string[] = [];
  test.beforeEach(({ tab }) => {
    notices.length = 0;
    tab.on("console", (message) => notices.push(message.text()));
  });
  test.afterEach(() => {
    expect(notices, "the change did harm").toContainEqual(expect.stringMatching(/^Tidings: the live part of the page has failed/));
  });

  /** Messages with a phone number, which other programs turn into a link. */
  const FIRST = ["555-123-4567 called", "write to 7 Main Street"];

  /** Checks that the page is live: it shows the log and new messages, and its buttons work. */
  async function isAlive(stream: FirefoxPage, server: Server, said: string[]): Promise<void> {
    await stream.is("Live");
    await server.publish("news", "what comes");
    await stream.shows([...said, "what comes"]);
    await stream.button("Pause").click();
    await stream.is("Paused");
    await server.publish("news", "in the pause");
    await stream.says("1 waiting");
    await stream.button("Resume").click();
    await stream.is("Live");
    await stream.shows([...said, "what comes", "in the pause"]);
    // Failed instances of the page hold no connection.
    await expect.poll(() => server.openStreams()).toBe(1);
  }

  test("by a proxy recovers", async ({ tab, start, startProxy }) => {
    const server = await start();
    await server.publish("news", ...FIRST);
    const proxy = await startProxy(server);
    proxy.rewrite = (html) => html.replaceAll(/(?<=<p dir="auto">[^<]*)\d+/g, "<a href='/'>$&</a>");
    const news = await FirefoxPage.open(tab, proxy, "news");
    await isAlive(news, server, FIRST);
    expect(await news.allTexts("[role=log] li p a"), "the page is as the server sent it").toEqual([]);
  });

  test("by a script before hydration recovers", async ({ tab, start }) => {
    const server = await start();
    await server.publish("news", ...FIRST);
    await tab.evaluateOnNewDocument(() =>
      document.addEventListener("readystatechange", () => document.querySelector(".live")?.prepend(document.createElement("aside")), { once: true }),
    );
    await isAlive(await FirefoxPage.open(tab, server, "news"), server, FIRST);
    expect(await tab.$$(".live > aside"), "the page is as the server sent it").toHaveLength(0);
  });

  test("by a script after hydration recovers", async ({ tab, start }) => {
    const server = await start();
    await server.publish("news", ...FIRST);
    const news = await FirefoxPage.open(tab, server, "news");
    await news.is("Live");
    await tab.waitForFunction(() => document.documentElement.dataset.hydration === "done");
    await tab.evaluate(() => {
      const live = document.querySelector(".live")!;
      live.replaceWith(Object.assign(live.cloneNode(true), { copy: true }));
    });
    // Until after the next heartbeat.
    await tab.waitForFunction(() => !("copy" in document.querySelector(".live")!), { timeout: 60_000 });
    await isAlive(news, server, FIRST);
  });

  test("a trap in the tenth message: no message is lost, draft and focus stay", async ({ tab, start }) => {
    const server = await start();
    await server.publish("news", ...FIRST);
    await tab.evaluateOnNewDocument(trapInTenthMessage);
    const news = await FirefoxPage.open(tab, server, "news");
    await news.is("Live");
    await news.composer.fill("half written");
    await tab.$eval("textarea", (box) => {
      box.focus();
      box.setSelectionRange(4, 4);
    });
    await server.publish("news", ...messages(12));
    await news.shows([...FIRST, ...messages(12)]);
    const draft = await tab.$eval("textarea", (box) => [box.value, box.selectionStart, document.activeElement === box]);
    expect(draft).toEqual(["half written", 4, true]);
    await news.composer.fill("");
    await isAlive(news, server, [...FIRST, ...messages(12)]);
  });
});
