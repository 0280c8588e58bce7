// Several streams on one page and one connection, merged and side by side; and a wall.

import { type Page } from "@playwright/test";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { EVERYTHING, MessagePage, type Server, expect, idlePreload, messages, nothingToFind, signIn, test, unreachable } from "../tidings.ts";

const IN_MEMORY = ["--data", ":memory:"];

/** The messages that a page shows of each stream, and the number of other rows. */
async function shown(page: Page): Promise<Record<string, string[]>> {
  const rows = await page.getByRole("log").locator("li:not(.day)").evaluateAll((rows) =>
    rows.map((row) => [row.querySelector(".from")!.textContent!, row.querySelector("p")!.textContent!] as const),
  );
  const streams: Record<string, string[]> = {};
  for (const [name, text] of rows) (streams[name] ??= []).push(text);
  return streams;
}

/** A proxy that cuts the connections of event streams after a random number of bytes. */
async function startCutter(server: Server) {
  let cuts = 0;
  let cutting = true;
  const proxy = createServer((reader) => {
    const upstream = connect(Number(new URL(server.url).port), "127.0.0.1");
    for (const [one, other] of [[reader, upstream], [upstream, reader]] as const) {
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
    let left = Infinity;
    reader.on("data", (data: Buffer) => {
      if (cutting && /^GET \S+\/events/.test(data.toString("latin1"))) left = Math.floor(Math.random() * 1_500);
      upstream.write(data);
    });
    upstream.on("data", (data: Buffer) => {
      reader.write(data.subarray(0, left));
      left -= data.length;
      if (left > 0) return;
      cuts++;
      reader.end(() => reader.destroy());
    });
  });
  await once(proxy.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    cuts: () => cuts,
    stopCutting: () => (cutting = false),
    close: () => proxy.close(),
  };
}

test("three streams are merged on one connection, with their names", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("a", "a1");
  await server.publish("b", "b1");
  await server.publish("a", "a2");
  const several = await MessagePage.open(page, server, "a,b,c");
  await several.isLive();
  await several.shows(["a1", "b1", "a2"]);
  expect(await server.openStreams()).toBe(1);
  await expect(page).toHaveTitle("a, b, c · Tidings");
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("a, b, c");
  await expect(page.getByRole("textbox")).toHaveCount(0);

  await server.publish("c", "c1");
  await server.publish("b", "b2");
  await several.shows(["a1", "b1", "a2", "c1", "b2"]);
  expect(await shown(page)).toEqual({ a: ["a1", "a2"], b: ["b1", "b2"], c: ["c1"] });
  await expect(several.rows.last().getByRole("link", { name: "b", exact: true })).toHaveAttribute("href", "/streams/b");
  await expect(several.rows.last().getByRole("link").first()).toHaveAttribute("href", /^\/streams\/b\?at=\d+-\d+#at$/);

  await server.delete("b");
  await several.shows(["a1", "a2", "c1", "The stream was deleted."]);
  expect((await shown(page))["b"]).toEqual(["The stream was deleted."]);
  await server.publish("b", "b of the next generation");
  await several.shows(["a1", "a2", "c1", "The stream was deleted.", "b of the next generation"]);

  for (const name of ["a", "c"]) await server.end(name, `${name} is over`);
  await expect.poll(() => shown(page)).toMatchObject({ a: ["a1", "a2", "a is over"], c: ["c1", "c is over"] });
  await several.isLive();
  await server.end("b");
  await several.ends();
  await expect.poll(() => server.openStreams()).toBe(0);
  await page.reload();
  await several.ends();
  expect(await shown(page)).toMatchObject({ a: ["a1", "a2", "a is over"], c: ["c1", "c is over"] });
});

test.describe("cut at random", () => {
  // A head that is cut leaves half of a content type.
  test.use({ mayComplain: /^Failed to load resource: |^EventSource's response has/ });

  test("every message of three streams is shown once, in order", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    const cutter = await startCutter(server);
    await server.publish("a", "message 1");
    await page.goto(`${cutter.url}/streams/a,b,c`);
    const several = new MessagePage(page);
    const names = ["a", "b", "c"];
    // Network errors end the pause before the next attempt at once.
    const hurry = setInterval(() => void page.evaluate(() => dispatchEvent(new Event("online"))).catch(() => {}), 100);
    for (let n = 1; n <= 100; n++) {
      for (const name of names) if (name !== "a" || n > 1) await server.publish(name, `message ${n}`);
      if (n % 10 === 0) await page.waitForTimeout(100);
    }
    await expect.poll(() => cutter.cuts(), { timeout: 60_000 }).toBeGreaterThan(8);
    cutter.stopCutting();
    for (const name of names) await server.end(name);
    await several.ends();
    clearInterval(hurry);
    const expected = [...messages(100), "End of the stream"];
    expect(await shown(page)).toEqual({ a: expected, b: expected, c: expected });
    cutter.close();
  });
});

test("side by side: a column for each, without scripts too; on a phone they are merged", async ({ page, browser, start }) => {
  const server = await start(...IN_MEMORY);
  for (let n = 1; n <= 3; n++) for (const name of ["a", "b", "c"]) await server.publish(name, `${name}${n}`);
  await page.setViewportSize({ width: 1280, height: 800 });
  const several = await MessagePage.open(page, server, "a,b,c");
  await several.isLive();
  await page.getByRole("link", { name: "Side by side" }).click();
  await several.isLive();
  expect(page.url()).toBe(`${server.url}/streams/a,b,c?side-by-side`);
  await server.publish("b", "b4");
  await expect(page.getByText("b4")).toBeVisible();
  const left = async (of: Page, text: string) => (await of.getByText(text, { exact: true }).boundingBox())!.x;
  for (const [one, other] of [["a1", "b1"], ["b1", "c1"]]) expect(await left(page, one!)).toBeLessThan((await left(page, other!)) - 100);
  expect(await left(page, "b4"), "its own column").toBe(await left(page, "b1"));
  const columns = page.getByRole("navigation", { name: "Columns" });
  await expect(columns.getByRole("link")).toHaveText(["a", "b", "c"]);
  const heading = (await columns.getByRole("link", { name: "c" }).boundingBox())!.x;
  expect(Math.abs(heading - (await left(page, "c1"))), "below its name").toBeLessThan(40);
  await nothingToFind(page, "side by side");

  const context = await browser.newContext({ javaScriptEnabled: false });
  const plain = await context.newPage();
  await plain.goto(page.url());
  expect(await left(plain, "a1")).toBeLessThan((await left(plain, "c1")) - 200);
  await plain.getByRole("link", { name: "Merged" }).click();
  expect(await left(plain, "a1")).toBe(await left(plain, "c1"));
  await context.close();

  await page.setViewportSize({ width: 390, height: 844 });
  expect(await left(page, "a1")).toBe(await left(page, "c1"));
  await expect(columns).toBeHidden();
  await expect(several.rows.last().getByRole("link", { name: "b", exact: true })).toBeVisible();
});

test.describe("streams that are not public", () => {
  test.use({ mayComplain: unreachable });

  test("need a right for each: without it there is the form to sign in with", async ({ page, startGuarded, secret }) => {
    const server = await startGuarded("--public", "open");
    await server.publish("open", "for all");
    await server.publish("closed", "for some");
    await page.goto(`${server.url}/streams/open,closed?wall`);
    await expect(page.getByRole("heading", { level: 1, name: "Sign in" })).toBeVisible();
    await signIn(page, secret.token("Ada", ...EVERYTHING));
    const wall = new MessagePage(page);
    await wall.isLive();
    await wall.shows(["for all", "for some"]);
    expect(page.url()).toBe(`${server.url}/streams/open,closed?wall`);
  });
});

test.describe("pages of several streams that fail", () => {
  test.use({ mayComplain: /the live part of the page has failed/ });

  test("recover as they were", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("a", ...messages(3));
    await server.publish("b", "message 4");
    await page.route("**/streams/a,b?wall&side-by-side", async (route) => {
      if (route.request().resourceType() !== "document") return route.continue();
      const response = await route.fetch();
      await route.fulfill({ response, body: (await response.text()).replaceAll("message 2", "<mark>message</mark> 2") });
    });
    await page.goto(`${server.url}/streams/a,b?wall&side-by-side`);
    const several = new MessagePage(page);
    await several.isLive();
    await server.publish("b", "message 5");
    await expect.poll(() => shown(page)).toEqual({ a: messages(3), b: messages(5, 4) });
    await expect(page.locator("main")).toHaveAttribute("data-columns", "2");
  });
});

for (const [width, height] of [[1280, 800], [390, 844]] as const) {
  for (const colorScheme of ["light", "dark"] as const) {
    test.describe(`${width} pixels wide, ${colorScheme}`, () => {
      test.use({ viewport: { width, height }, colorScheme, mayComplain: unreachable });

      test("there is nothing for axe to find, and a wall is large", async ({ page, start }, info) => {
        const server = await start(...IN_MEMORY);
        for (let n = 1; n <= 20; n++) {
          await server.publish("web", `GET /orders/${n} 200 in ${n * 3} ms`);
          await server.publish("worker", `job ${n} done`);
          if (n % 4 === 0) await server.publish("deploy-production", `Deployed revision ${n}`);
        }
        const picture = (name: string) => page.screenshot({ path: info.outputPath(`${name}-${width}-${colorScheme}.png`) });
        const names = "web,worker,deploy-production";
        const several = new MessagePage(page);
        for (const [query, name] of [["", "merged"], ["?side-by-side", "side-by-side"], ["?view=log", "as a log"], ["?embed", "embed"], ["?wall", "wall"], ["?wall&side-by-side", "wall-side-by-side"]] as const) {
          await page.goto(`${server.url}/streams/${names}${query}`);
          await several.isLive();
          await nothingToFind(page, name);
          await picture(name);
        }
        await page.goto(`${server.url}/streams/web?wall`);
        await several.isLive();
        await nothingToFind(page, "a wall of one stream");
        await picture("wall-of-one");
        const size = () => several.rows.last().locator("p").evaluate((p) => parseFloat(getComputedStyle(p).fontSize));
        const large = await size();
        expect(large).toBeGreaterThan(width > 1000 ? 26 : 17);
        await expect(page.getByRole("banner")).toHaveCount(0);
        await expect(page.getByRole("textbox")).toHaveCount(0);
        // It follows the newest.
        await server.publish("web", ...messages(60));
        await expect(page.getByText("message 60", { exact: true })).toBeInViewport();

        await server.stop();
        await expect(several.status).toHaveText("Reconnecting");
        await expect(several.status).toBeInViewport();
        const status = await several.status.evaluate((state) => parseFloat(getComputedStyle(state).fontSize));
        expect(status, "seen from afar").toBeGreaterThan(1.8 * large);
        await nothingToFind(page, "reconnecting");
        await picture("wall-reconnecting");
        await server.startAgain();
        await several.isLive();

        const leave = page.getByRole("link", { name: "Leave the wall" });
        await leave.focus();
        await expect(leave).toBeInViewport();
        await page.keyboard.press("Enter");
        await expect(page.getByRole("banner")).toBeVisible();
        expect(page.url()).toBe(`${server.url}/streams/web`);
        await page.getByRole("link", { name: "For a wall" }).click();
        await expect(page.getByRole("banner")).toHaveCount(0);
      });
    });
  }
}

test.describe("a wall whose script fails", () => {
  test.use({ mayComplain: /./ });

  test("says so, large", async ({ page, start }, info) => {
    const server = await start(...IN_MEMORY);
    await server.publish("a", "a1");
    await page.route("**/*.wasm", (route) => route.abort());
    await page.goto(`${server.url}/streams/a,b?wall`);
    const notLive = page.getByText("Not live");
    await expect(notLive).toBeVisible();
    await expect(notLive).toBeInViewport();
    expect(await notLive.evaluate((state) => parseFloat(getComputedStyle(state).fontSize))).toBeGreaterThan(40);
    await page.screenshot({ path: info.outputPath("wall-not-live.png") });
    await nothingToFind(page, "not live");
  });
});

test.describe("without scripts", () => {
  test.use({ javaScriptEnabled: false, mayComplain: idlePreload });

  test("a page of several streams and a wall show what there is", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("a", "a1");
    await server.publish("b", "b1");
    for (const query of ["", "?wall"]) {
      await page.goto(`${server.url}/streams/a,b${query}`);
      expect(await shown(page)).toEqual({ a: ["a1"], b: ["b1"] });
      await expect(page.getByText("Not live")).toBeVisible();
    }
  });
});
