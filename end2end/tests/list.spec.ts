// The live list of the streams, and the number of readers on the page of a stream.

import type { Page } from "@playwright/test";

import { MessagePage, type Server, expect, idlePreload, messages, nothingToFind, signIn, test, unreachable } from "../tidings.ts";

const IN_MEMORY = ["--data", ":memory:", "--publish-rate", "0"];

class ListPage {
  readonly status;
  readonly rows;

  constructor(readonly page: Page) {
    this.status = page.getByRole("status");
    this.rows = page.locator("main").getByRole("listitem");
  }

  static async open(page: Page, server: Server): Promise<ListPage> {
    await page.goto(`${server.url}/streams`);
    return new ListPage(page);
  }

  async isLive(): Promise<void> {
    await expect(this.status).toHaveText("Live");
  }

  row(name: string) {
    return this.rows.filter({ has: this.page.getByRole("heading", { name, exact: true }) });
  }

  /** Waits until the names are these, in this order. */
  async shows(names: string[]): Promise<void> {
    await expect.poll(() => this.page.getByRole("heading", { level: 2 }).allTextContents(), { timeout: 30_000 }).toEqual(names);
  }
}

test("the list changes as the streams do", async ({ page, context, start }) => {
  const server = await start(...IN_MEMORY);
  const list = await ListPage.open(page, server);
  await list.isLive();
  await expect(page.getByText("There are none yet.")).toBeVisible();
  await server.publish("first", "hello");
  await expect(list.row("first")).toContainText("1 message");
  await expect(page.getByText("There are none yet.")).toBeHidden();
  await expect(page.getByText("newest activity first")).toBeVisible();
  await server.publish("second", "\u001b[31mred\u001b[0m <b>&amp;", "x");
  await list.shows(["second", "first"]);
  await server.publish("first", "\u001b]0;title\u0007plain \u001b[1mtext <b>&amp;");
  await list.shows(["first", "second"]);
  await expect(list.row("first").locator(".last span")).toHaveText("plain text <b>&amp;");
  await expect(list.row("first")).toContainText("2 messages");

  const watcher = await MessagePage.open(await context.newPage(), server, "second");
  await watcher.isLive();
  await expect(list.row("second")).toContainText("1 watching");
  await watcher.page.close();
  await expect(list.row("second")).toContainText("0 watching");
  await server.end("second", "all done");
  await expect(list.row("second")).toContainText("Ended");
  await expect(list.row("second")).toContainText("all done");

  // What is shown live is what the server renders.
  const texts = async () => (await list.rows.allInnerTexts()).map((text) => text.replace(/\d+ \w+ \d{4}, [\d:]+/, "TIME"));
  await list.shows(["second", "first"]);
  const live = await texts();
  await page.reload();
  expect(await texts()).toEqual(live);
  await list.isLive();
  await server.delete("first");
  await list.shows(["second"]);
  await list.row("second").getByRole("link").click();
  await expect(page.getByRole("heading", { level: 1, name: "second" })).toBeVisible();
});

test("rows stay where they are while they are in use", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  for (const name of ["c", "b", "a"]) await server.publish(name, "1");
  const list = await ListPage.open(page, server);
  await list.isLive();
  await list.shows(["a", "b", "c"]);
  await list.row("b").getByRole("link").focus();
  await server.publish("c", "2");
  await expect(list.row("c")).toContainText("2 messages");
  await server.publish("new", "1");
  await list.shows(["a", "b", "c", "new"]);
  await server.delete("a");
  await expect(list.row("a")).toContainText("Deleted");
  await list.shows(["a", "b", "c", "new"]);
  await expect(list.row("b").getByRole("link")).toBeFocused();
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  await list.shows(["new", "c", "b"]);
});

test.describe("without a network", () => {
  test.use({ mayComplain: unreachable });

  test("a list that was cut off continues", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("kept", "1");
    await server.publish("gone", "1");
    const list = await ListPage.open(page, server);
    await list.isLive();
    await page.context().setOffline(true);
    await expect(list.status).toHaveText("Offline");
    await server.publish("kept", "2");
    await server.publish("new", "1");
    await server.delete("gone");
    const resumed = page.waitForRequest(/\/streams\?last_event_id=\d+-\d+$/);
    await page.context().setOffline(false);
    await resumed;
    await list.isLive();
    await list.shows(["new", "kept"]);
    await expect(list.row("kept")).toContainText("2 messages");
  });

  test("a list follows a server that was started again", async ({ page, start }, info) => {
    const server = await start("--data", info.outputPath("tidings.db"));
    await server.publish("kept", "1");
    await server.publish("gone", "1");
    const list = await ListPage.open(page, server);
    await list.isLive();
    await server.stop("SIGTERM");
    await expect(list.status).toHaveText("Reconnecting");
    await server.startAgain();
    await server.delete("gone");
    await server.publish("new", "1");
    await page.getByRole("button", { name: "Retry now" }).click();
    await list.isLive();
    await list.shows(["new", "kept"]);
  });
});

test.describe("changed by another program", () => {
  test.use({ mayComplain: /^Tidings: the (list|live part)/ });

  test("rows that cannot be updated are rendered again", async ({ page, start }) => {
    test.slow();
    const server = await start(...IN_MEMORY);
    await server.publish("news", "1");
    const list = await ListPage.open(page, server);
    await list.isLive();
    await page.evaluate(() => document.querySelector(".streams .facts")!.remove());
    await server.publish("news", "2");
    await expect(list.row("news")).toContainText("2 messages", { timeout: 60_000 });
    await list.isLive();
  });

  test("a row that another program added is noticed", async ({ page, start }) => {
    test.slow();
    const server = await start(...IN_MEMORY);
    await server.publish("news", "1");
    const list = await ListPage.open(page, server);
    await list.isLive();
    await page.evaluate(() => document.querySelector(".streams")!.append(document.createElement("li")));
    await expect(page.locator(".streams > li")).toHaveCount(1, { timeout: 60_000 });
    await list.isLive();
  });
});

test.describe("without JavaScript", () => {
  test.use({ javaScriptEnabled: false, mayComplain: idlePreload });

  test("the list is a page", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("news", ...messages(3));
    const list = await ListPage.open(page, server);
    await expect(list.row("news")).toContainText("3 messages");
    await expect(page.getByText("Times are in UTC.")).toBeVisible();
    await expect(page.getByText("Not live")).toBeVisible();
    expect(await server.openStreams()).toBe(0);
  });
});

test("a list has what its reader may watch", async ({ page, startGuarded, secret }) => {
  const server = await startGuarded("--public", "open-*");
  for (const name of ["open-1", "mine-1", "other-1"]) await server.publish(name, "1");
  const list = await ListPage.open(page, server);
  await list.isLive();
  await list.shows(["open-1"]);
  await server.publish("mine-1", "2");
  await server.publish("open-2", "1");
  await list.shows(["open-2", "open-1"]);
  await page.goto(`${server.url}/sign-in?to=/streams`);
  await signIn(page, secret.token("reader", "--watch", "mine-*"));
  await list.isLive();
  await list.shows(["open-2", "mine-1", "open-1"]);
  await server.publish("other-1", "2");
  await server.publish("mine-2", "1");
  await list.shows(["mine-2", "open-2", "mine-1", "open-1"]);

  // Signed out in another tab: what is no longer allowed goes.
  await page.context().clearCookies();
  await page.context().setOffline(true);
  await expect(list.status).toHaveText("Offline");
  await page.context().setOffline(false);
  await list.isLive();
  await list.shows(["open-2", "open-1"]);
});

test("the list works below a base path", async ({ page, start }) => {
  const server = await start(...IN_MEMORY, "--base-path", "/t");
  const list = await ListPage.open(page, server);
  await list.isLive();
  await fetch(`${server.url}/streams/news`, { method: "POST", body: "hello" });
  await expect(list.row("news")).toContainText("hello");
  await list.row("news").getByRole("link").click();
  await expect(page).toHaveURL(/\/t\/streams\/news$/);
});

test("the page of a stream says how many watch now", async ({ page, context, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("news", "1");
  const stream = await MessagePage.open(page, server, "news");
  await stream.isLive();
  await expect(page.getByText("No other reader is connected now.")).toBeVisible();
  const others = [await context.newPage(), await context.newPage()];
  for (const other of others) await (await MessagePage.open(other, server, "news")).isLive();
  await expect(page.getByText("2 other readers are connected now.")).toBeVisible();
  await others[0]!.close();
  await expect(page.getByText("One other reader is connected now.")).toBeVisible();
  await page.getByRole("button", { name: "Pause" }).click();
  await others[1]!.close();
  await expect(page.getByText("No other reader is connected now.")).toBeVisible();
  await page.context().setOffline(true);
  await expect(page.getByText("is connected now")).toBeHidden();
  await page.context().setOffline(false);
  await expect(page.getByText("No other reader is connected now.")).toBeVisible();
});

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme, viewport: { width: 390, height: 800 } });

    test("axe finds nothing in a live list", async ({ page, start }) => {
      const server = await start(...IN_MEMORY);
      const list = await ListPage.open(page, server);
      await list.isLive();
      await nothingToFind(page, "no streams");
      await server.publish("n".repeat(64), "wide ".repeat(100));
      await server.publish("ended", "x".repeat(2_000));
      await server.end("ended");
      await list.shows(["ended", "n".repeat(64)]);
      await nothingToFind(page, "streams that came");
    });
  });
}
