// The counter page, from first paint to end.

import { EventSource } from "eventsource";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo } from "node:net";
import { ENDLESS, MessagePage, expect, holdHydration, test, values } from "../tidings.ts";

const RUN = [...values(20), "End of the stream"];

test("a run to its end, after which the connection stays closed", async ({ page, start }) => {
  const server = await start("--counter-delay", "100ms", "--retry", "500ms");
  const requests: string[] = [];
  page.on("request", (request) => requests.push(new URL(request.url()).pathname));

  const counter = await MessagePage.open(page, server);
  await expect(page).toHaveTitle("Counter · Tidings");
  await counter.ends();
  await counter.shows(RUN);
  await expect(page.getByText("20 messages")).toBeVisible();
  expect(requests.filter((path) => path === "/stream")).toHaveLength(1);

  requests.length = 0;
  await page.waitForTimeout(1_200);
  expect(requests, "no request in two retry periods").toEqual([]);
  expect(await server.openStreams()).toBe(0);
});

test("the server renders the first value, and hydration keeps the elements", async ({ page, start }) => {
  const server = await start("--counter-delay", "200ms");
  const letGo = await holdHydration(page);
  const counter = await MessagePage.open(page, server);
  expect(await counter.texts()).toEqual(["Counter value 1"]);
  await expect(counter.status).toHaveText("Connecting");
  await expect(page.getByText("times in UTC")).toBeVisible();
  const time = counter.rows.first().getByRole("time");
  const utc = (await time.getAttribute("datetime"))!;
  await expect(time).toHaveText(utc.slice(11, 19));
  const parts = [counter.log, counter.status, counter.rows.first(), time, page.getByRole("img", { name: /^Chart/ })];
  for (const part of parts) await part.evaluate((element) => Object.assign(element, { fromServer: true }));

  letGo();
  await expect(counter.status).toHaveText("Live");
  for (const part of parts) {
    expect(await part.evaluate((element) => "fromServer" in element), "hydrated, not replaced").toBe(true);
  }
  await expect(page.getByText("times are local")).toBeVisible();
  const inKolkata = new Date(Date.parse(utc) + 5.5 * 3_600_000).toISOString();
  await expect(time).toHaveText(inKolkata.slice(11, 19));
  await counter.ends();
  await counter.shows(RUN);
});

test("each value has its own time", async ({ page, start }) => {
  const server = await start("--counter-delay", "1s", "--counter-count", "3");
  const counter = await MessagePage.open(page, server);
  await counter.ends();
  const times = await counter.rows.getByRole("time").evaluateAll((all) => all.map((time) => Date.parse((time as HTMLTimeElement).dateTime)));
  expect(times.map((time) => time - times[0]!)).toEqual([0, 1000, 2000, 3000]);
});

test("each page has its own run", async ({ context, start }) => {
  const server = await start("--counter-delay", "100ms");
  const pages = await Promise.all([context.newPage(), context.newPage()]);
  const counters = await Promise.all(pages.map((page) => MessagePage.open(page, server)));
  for (const counter of counters) {
    await counter.ends();
    await counter.shows(RUN);
  }
});

test("pause holds new messages and shows their number, resume shows them", async ({ page, start }) => {
  const server = await start("--counter-delay", "100ms", ...ENDLESS);
  const counter = await MessagePage.open(page, server);
  await counter.reaches("Counter value 3");
  await counter.button("Pause").click();
  await expect(counter.status).toHaveText("Paused");
  const before = await counter.texts();
  await expect(page.getByText(/^\d{2,} waiting$/)).toBeVisible();
  expect(await counter.texts(), "nothing moves in a pause").toEqual(before);
  await counter.button("Resume").click();
  await expect(counter.status).toHaveText("Live");
  await counter.reaches(`Counter value ${before.length + 20}`);
  const after = await counter.texts();
  expect(after).toEqual(values(after.length));
});

test("a pause outlasts the end of the stream", async ({ page, start }) => {
  const server = await start("--counter-delay", "400ms");
  const counter = await MessagePage.open(page, server);
  await counter.button("Pause").click();
  await counter.ends();
  expect((await counter.texts()).length).toBeLessThan(21);
  await counter.button("Resume").click();
  await counter.shows(RUN);
  await expect(counter.button("Watch again")).toBeVisible();
});

test("the log follows new messages, stays put when scrolled back, and offers a button to the newest", async ({ page, start }) => {
  await page.setViewportSize({ width: 800, height: 500 });
  const server = await start("--counter-delay", "60ms", ...ENDLESS);
  const counter = await MessagePage.open(page, server);
  const newest = counter.button(/new messages?$/);
  await counter.reaches("Counter value 30");
  await expect(counter.rows.last()).toBeInViewport();
  await expect(newest).toBeHidden();

  await counter.log.hover();
  await page.mouse.wheel(0, -150);
  await expect(newest).toBeVisible();
  const before = await counter.texts();
  await expect(newest).toHaveText(/^\d{2,} new messages$/);
  expect(await counter.texts(), "nothing moves while the reader looks back").toEqual(before);

  await newest.click();
  await expect(newest).toBeHidden();
  await expect(counter.log).toBeFocused();
  await counter.reaches(`Counter value ${before.length + 20}`);
  await expect(counter.rows.last()).toBeInViewport();
  const after = await counter.texts();
  expect(after).toEqual(values(after.length));
});

test("watch again starts a new run", async ({ page, start }) => {
  const server = await start("--counter-delay", "50ms");
  const counter = await MessagePage.open(page, server);
  await counter.ends();
  const ids = () => counter.rows.getByRole("time").evaluateAll((all) => all.map((time) => (time as HTMLTimeElement).dateTime));
  const first = await ids();
  await counter.button("Watch again").click();
  await expect.poll(ids).not.toEqual(first);
  await counter.ends();
  await counter.shows(RUN);
});

test("the chart draws the counter values", async ({ page, start }) => {
  const server = await start("--counter-delay", "50ms");
  const counter = await MessagePage.open(page, server);
  await counter.ends();
  const chart = page.getByRole("img", { name: "Chart of the newest numbers, from 1 to 20; now 20" });
  await expect(chart).toBeVisible();
  const points = (await chart.locator("polyline").first().getAttribute("points"))!.split(" ");
  expect(points).toHaveLength(20);
  expect(points[0]).toBe("0,96");
  expect(points[19]).toBe("600,0");
});

test("twenty thousand values: the page stays bounded, in order and live", async ({ page, start }) => {
  const server = await start("--counter-delay", "0ms", "--counter-count", "20000");
  // The highest number of rows at the end of any frame.
  await page.addInitScript(() => {
    const seen = { mostRows: 0 };
    Object.assign(window, { seen });
    const look = () => {
      seen.mostRows = Math.max(seen.mostRows, document.querySelector("[role=log] ol")?.childElementCount ?? 0);
      requestAnimationFrame(look);
    };
    look();
  });
  const counter = await MessagePage.open(page, server);
  await counter.ends();
  await expect(page.getByText("20000 messages")).toBeVisible();
  await counter.shows([...values(20_000, 19_502), "End of the stream"]);
  await expect(counter.rows).toHaveCount(500);
  await counter.button("Watch again").click();
  await counter.ends();
  await counter.shows([...values(20_000, 19_502), "End of the stream"]);

  const mostRows = await page.evaluate(() => (window as unknown as { seen: { mostRows: number } }).seen.mostRows);
  expect(mostRows).toBe(500);
});

test("leaving the page closes its event stream", async ({ page, context, start }) => {
  const server = await start("--counter-delay", "1s", ...ENDLESS);
  const counter = await MessagePage.open(page, server);
  await expect(counter.status).toHaveText("Live");
  expect(await server.openStreams()).toBe(1);
  await page.goto(`${server.url}/problems`);
  await expect.poll(() => server.openStreams()).toBe(0);

  await page.goBack();
  await expect(counter.status).toHaveText("Live");
  await context.close();
  await expect.poll(() => server.openStreams()).toBe(0);
});

test("a plain EventSource sees the same stream, in a browser and in Node", async ({ page, start }) => {
  const server = await start("--counter-delay", "20ms", "--allow-origin", "*");
  const listen = (Source: typeof globalThis.EventSource, url: string) =>
    new Promise<string[]>((resolve, reject) => {
      const seen: string[] = [];
      const source = new Source(url);
      const note = (event: MessageEvent) => seen.push(`${event.type} ${event.lastEventId.replace(/.*-/, "")} ${event.data}`);
      source.addEventListener("new_message", note);
      source.addEventListener("end_event", (event) => {
        note(event);
        source.close();
        resolve(seen);
      });
      source.addEventListener("error", () => reject(new Error(`after ${seen.length} events`)));
    });
  const expected = [...values(20).map((value, i) => `new_message ${i + 1} ${value}`), "end_event 21 End of the stream"];
  await page.goto(`${server.url}/problems`);
  const inBrowser = await page.evaluate(`(${listen.toString()})(EventSource, "/stream")`);
  expect(inBrowser).toEqual(expected);
  expect(await listen(EventSource as typeof globalThis.EventSource, `${server.url}/stream`)).toEqual(expected);
});

test("CORS: a page of an allowed origin can read the stream", async ({ page, start }) => {
  const elsewhere = createServer((_, response) => response.end("<title>Elsewhere</title>"));
  await once(elsewhere.listen(0, "127.0.0.1"), "listening");
  const there = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}`;
  const server = await start("--counter-delay", "20ms", "--allow-origin", there);
  await page.goto(there);
  const last = await page.evaluate(
    (url) =>
      new Promise<string>((resolve, reject) => {
        const source = new EventSource(url);
        source.addEventListener("end_event", (event) => resolve(event.data));
        source.addEventListener("error", () => reject(new Error("not allowed")));
      }),
    `${server.url}/stream`,
  );
  expect(last).toBe("End of the stream");
  elsewhere.close();
});

test("a page loads a script, the wasm and its events only, compressed", async ({ page, start }) => {
  const server = await start();
  const encodings = new Map<string, string | undefined>();
  page.on("response", (response) => {
    const { pathname } = new URL(response.url());
    const name = pathname.startsWith("/pkg/") ? pathname.replace(/.*\./, "") : pathname;
    encodings.set(name, response.headers()["content-encoding"]);
  });
  const counter = await MessagePage.open(page, server);
  await expect(counter.status).toHaveText("Live");
  // Whether the icon is requested depends on the browser; the logo is inline.
  encodings.delete("/favicon.svg");
  expect(Object.fromEntries(encodings)).toEqual({ "/": "gzip", js: "br", wasm: "br", "/stream": undefined });
  await expect(page.locator("img, link[rel=stylesheet]")).toHaveCount(0);
});
