// Reconnecting: what the page does when its connection fails. Chromium rightly complains about
// unreachable servers.

import { type Page } from "@playwright/test";
import { once } from "node:events";
import { type ServerResponse, createServer } from "node:http";
import { type AddressInfo } from "node:net";
import { ENDLESS, MessagePage, expect, nothingToFind, show, test, unreachable, values } from "../tidings.ts";

const RUN = [...values(20), "End of the stream"];

test.use({ mayComplain: unreachable });

for (const signal of ["SIGKILL", "SIGTERM"] as const) {
  test(`a server that is stopped by ${signal} and restarted during a run: no gap, no repeat`, async ({ page, start }) => {
    const server = await start("--counter-delay", "300ms");
    const counter = await MessagePage.open(page, server);
    await counter.reaches("Counter value 4");
    await server.stop(signal);
    await expect(counter.status).toHaveText("Reconnecting");
    await server.startAgain();
    await counter.ends();
    await counter.shows(RUN);
  });
}

test("the network goes and comes back: no gap, no repeat", async ({ page, context, start }) => {
  const server = await start("--counter-delay", "300ms");
  const counter = await MessagePage.open(page, server);
  await counter.reaches("Counter value 4");
  await context.setOffline(true);
  await expect(counter.status).toHaveText("Offline");
  await expect(page.getByText(/^retry in \d+ s$/)).toBeVisible();
  await context.setOffline(false);
  await counter.ends();
  await counter.shows(RUN);
});

test("a first answer of 502, after which EventSource gives up, is retried", async ({ page, start }) => {
  const server = await start("--counter-delay", "200ms");
  await page.route("**/stream?*", (route) => route.fulfill({ status: 502 }), { times: 2 });
  const counter = await MessagePage.open(page, server);
  await expect(counter.status).toHaveText("Reconnecting");
  await counter.ends();
  await counter.shows(RUN);
});

test("the reader can retry at once", async ({ page, start }) => {
  const server = await start("--counter-delay", "300ms", ...ENDLESS);
  await page.clock.install();
  const counter = await MessagePage.open(page, server);
  await counter.reaches("Counter value 3");
  // From here on the page's clock stands still: only the reader can end the wait.
  await page.clock.pauseAt(Date.now() + 10_000);
  await server.stop();
  await server.startAgain();
  await expect(counter.status).toHaveText("Reconnecting");
  await counter.button("Retry now").click();
  await expect(counter.status).toHaveText("Live");
  await expect(counter.button("Retry now")).toBeHidden();
});

test("a connection that died silently is noticed and replaced", async ({ page, start }) => {
  const server = await start("--counter-delay", "1h");
  await page.clock.install();
  const counter = await MessagePage.open(page, server);
  await expect(counter.status).toHaveText("Live");
  const again = page.waitForRequest(/\/stream\?last_event_id=\d+-1$/);
  // Two and a half ping intervals.
  await page.clock.fastForward(37_500);
  await expect(counter.status).toHaveText("Reconnecting");
  await page.clock.fastForward(2_000);
  await again;
  await expect(counter.status).toHaveText("Live");
});

test("a hidden tab closes its connection on HTTP/1.1, and resumes when shown", async ({ page, start }) => {
  const server = await start("--counter-delay", "500ms", ...ENDLESS);
  await page.clock.install();
  const counter = await MessagePage.open(page, server);
  await counter.reaches("Counter value 2");
  await page.clock.pauseAt(Date.now() + 10_000);
  await expect(counter.status).toHaveText("Live");
  await show(page, "hidden");
  await page.clock.fastForward(9_000);
  expect(await server.openStreams()).toBe(1);
  await page.clock.fastForward(1_000);
  await expect.poll(() => server.openStreams()).toBe(0);
  const before = (await counter.texts()).length;
  await page.clock.resume();
  await show(page, "visible");
  await expect(counter.status).toHaveText("Live");
  await counter.reaches(`Counter value ${before + 5}`);
  const after = await counter.texts();
  expect(after).toEqual(values(after.length));
});

test("seven tabs of one browser: each is served", async ({ context, start }) => {
  const server = await start("--counter-delay", "1h");
  for (let i = 0; i < 6; i++) {
    const page = await context.newPage();
    await page.clock.install();
    const counter = await MessagePage.open(page, server);
    await expect(counter.status).toHaveText("Live");
    await show(page, "hidden");
    await page.clock.fastForward(10_000);
    await expect.poll(() => server.openStreams()).toBe(0);
  }
  const seventh = await MessagePage.open(await context.newPage(), server);
  await expect(seventh.status).toHaveText("Live");
});

/** Answers the page's subscription with a fixed event stream. */
async function say(page: Page, stream: string): Promise<void> {
  await page.route("**/stream?*", (route) =>
    route.fulfill({ status: 200, contentType: "text/event-stream", body: stream }),
  );
}

test("a reset is shown, and so are the messages after it", async ({ page, start }) => {
  const server = await start();
  await say(
    page,
    'event: reset\ndata: {"reason":"unknown-cursor"}\n\n' +
      "event: new_message\nid: 1763891234567-1\ndata: anew\n\n" +
      "event: end_event\nid: 1763891234567-2\ndata: done\n\n",
  );
  const counter = await MessagePage.open(page, server);
  await counter.ends();
  await counter.shows(["Counter value 1", "Messages were lost before this point.", "anew", "done"]);
});

test("messages are shown as text, whatever they contain", async ({ page, start }) => {
  const server = await start();
  const said = ["<b>bold</b><script>alert(1)</script>", "&amp; \"quotes\"", "שלום 123", "  two\n\n  lines ", "x".repeat(5_000), ""];
  const frames = said.map((text, i) => `event: new_message\nid: 1-${i + 2}\n${text.split("\n").map((line) => `data: ${line}\n`).join("")}\n`);
  // Unknown events, events without an id and repeats change nothing.
  await say(page, `event: other\nid: 1-9\ndata: x\n\n${frames.join("")}${frames[1]}event: end_event\nid: 1-90\ndata: done\n\n`);
  const counter = await MessagePage.open(page, server);
  await counter.ends();
  await counter.shows(["Counter value 1", ...said, "done"]);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  expect(wide, "no horizontal scrolling").toBe(false);
});

test("a stream that is accepted and closed at once: reconnects back off", async ({ page, start }) => {
  const server = await start();
  await server.publish("news", "hello");
  let connections = 0;
  await page.route("**/streams/news/events*", (route) => {
    connections++;
    return route.fulfill({ contentType: "text/event-stream", body: "retry: 15000\n\n" });
  });
  await page.clock.install();
  const news = await MessagePage.open(page, server, "news");
  await expect(news.status).toHaveText("Reconnecting");
  for (let seconds = 0; seconds < 30; seconds++) await page.clock.runFor(1_000);
  // Pauses of at least half a second, then of one, two, four, and seven and a half.
  expect(connections).toBeLessThanOrEqual(9);
  expect(connections).toBeGreaterThan(3);
  await page.unroute("**/streams/news/events*");
  // The time of the page passes only here.
  await expect(async () => {
    await page.clock.runFor(1_000);
    await expect(news.status).toHaveText("Live", { timeout: 1_000 });
  }).toPass();
});

const PING = "event: ping\ndata: {}\n\n";
const STALE_PING = 'event: ping\ndata: {"stale":true}\n\n';

/** A server of one event stream, which stays open and sends what the test says. */
async function startStub() {
  const open = new Set<ServerResponse>();
  const stub = createServer((_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" }).write(`retry: 15000\n${PING}`);
    open.add(response.on("close", () => open.delete(response)));
  });
  await once(stub.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${(stub.address() as AddressInfo).port}/`,
    send: (frame: string) => open.forEach((response) => response.write(frame)),
    disconnect: () => stub.closeAllConnections(),
    close: () => stub.close().closeAllConnections(),
  };
}

test("a server that cannot reach its database says so, and the page shows it", async ({ page, start }) => {
  const server = await start();
  await server.publish("news", "hello");
  const stub = await startStub();
  await page.route("**/streams/news/events*", (route) => route.continue({ url: stub.url }));
  const notice = page.getByText("the server cannot reach its database");
  const news = await MessagePage.open(page, server, "news");
  await news.isLive();
  await expect(notice).toBeHidden();

  stub.send(STALE_PING);
  await expect(news.status).toHaveText("May be out of date");
  await expect(notice).toBeVisible();
  await expect(news.button("Retry now")).toBeHidden();
  await nothingToFind(page, "out of date");
  stub.send(PING);
  await news.isLive();
  await expect(notice).toBeHidden();

  // A message is as good a sign.
  stub.send(STALE_PING);
  await expect(news.status).toHaveText("May be out of date");
  stub.send("event: new_message\nid: 9999999999999-99\ndata: again\n\n");
  await news.isLive();
  await news.shows(["hello", "again"]);

  // The next connection may be to another server.
  stub.send(STALE_PING);
  await expect(news.status).toHaveText("May be out of date");
  stub.disconnect();
  await expect(news.status).toHaveText("Reconnecting");
  await expect(notice).toBeHidden();
  await news.isLive();
  stub.close();
});
