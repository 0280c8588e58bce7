// Stored streams: publish, watch, history, end, delete.

import { type Page } from "@playwright/test";
import { MessagePage, type Server, expect, holdHydration, idlePreload, messages, show, test, unreachable } from "../tidings.ts";

const IN_MEMORY = ["--data", ":memory:"];
const HOSTILE = "</textarea><script>document.title = 'owned'</script><b>&lt;&amp;";

test("a published message appears in every tab, in order and once", async ({ context, start }) => {
  const server = await start(...IN_MEMORY);
  const tabs = [await context.newPage(), await context.newPage()];
  const streams = await Promise.all(tabs.map((tab) => MessagePage.open(tab, server, "ci")));
  for (const stream of streams) {
    await stream.isLive();
    await expect(stream.page).toHaveTitle("ci · Tidings");
    await expect(stream.page.getByText("There are no messages yet.")).toBeVisible();
  }
  await server.publish("ci", ...messages(30));
  for (const stream of streams) {
    await stream.shows(messages(30));
    await expect(stream.page.getByText("There are no messages yet.")).toBeHidden();
  }
});

test("a page is rendered with the stored messages and continues from there", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("ci", ...messages(3));
  const letGo = await holdHydration(page);
  const stream = await MessagePage.open(page, server, "ci");
  expect(await stream.texts()).toEqual(messages(3));
  await server.publish("ci", "message 4");
  letGo();
  await stream.shows(messages(4));
  await stream.isLive();
});

test.describe("the composer", () => {
  test("publishes what is written, and is ready for the next message", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    const stream = await MessagePage.open(page, server, "ci");
    await stream.isLive();
    await stream.composer.fill("first\nand second line");
    await stream.button("Send").click();
    await stream.shows(["first\nand second line"]);
    await expect(stream.composer).toHaveValue("");
    await stream.composer.fill("by keyboard");
    await page.keyboard.press("Control+Enter");
    await stream.shows(["first\nand second line", "by keyboard"]);
    await expect(stream.composer).toHaveValue("");
    await expect(stream.composer).toBeFocused();
    expect(page.url(), "the page stays where it is").toBe(`${server.url}/streams/ci`);
  });

  test.describe("that is refused", () => {
    test.use({ mayComplain: unreachable });

    test("keeps the text and shows the reason", async ({ page, start }) => {
      const server = await start(...IN_MEMORY);
      const stream = await MessagePage.open(page, server, "ci");
      await stream.isLive();
      const long = "x".repeat(70_000);
      await stream.composer.fill(long);
      await stream.button("Send").click();
      const limit = page.getByRole("alert").filter({ hasText: "at most 65536 bytes" });
      await expect(limit).toBeVisible();
      await expect(stream.composer).toHaveValue(long);
      const longer = "x".repeat(250_000);
      await stream.composer.fill(longer);
      const answer = page.waitForResponse("**/api/publish");
      await stream.button("Send").click();
      expect((await answer).status()).toBe(413);
      await expect(limit).toBeVisible();
      await expect(stream.composer).toHaveValue(longer);

      await server.stop();
      await stream.composer.fill("kept");
      await stream.button("Send").click();
      await expect(page.getByRole("alert").filter({ hasText: "The server did not answer" })).toBeVisible();
      await expect(stream.composer).toHaveValue("kept");
      await server.startAgain();
      // By now the back-off may be up to half a minute.
      await expect(async () => {
        await stream.button("Retry now").click({ timeout: 1_000 }).catch(() => {});
        await expect(stream.status).toHaveText("Live", { timeout: 2_000 });
      }).toPass();
      await stream.button("Send").click();
      await stream.shows(["kept"]);
      await expect(page.getByRole("alert").filter({ hasText: /./ })).toHaveCount(0);
    });
  });

  test("sends with one click, wherever the focus was", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    const stream = await MessagePage.open(page, server, "ci");
    await stream.isLive();
    await stream.composer.fill("one click");
    await stream.log.focus();
    await stream.button("Send").click();
    await stream.shows(["one click"]);
  });

  test.describe("whose answer is lost", () => {
    test.use({ mayComplain: unreachable });

    test("retries, and the message is stored once", async ({ page, start }) => {
      const server = await start(...IN_MEMORY);
      const stream = await MessagePage.open(page, server, "ci");
      await stream.isLive();
      let lost = 0;
      await page.route("**/api/publish", async (route) => {
        if (lost++ > 1) return route.continue();
        // The first time it is stored and the answer is lost; then a proxy finds no server.
        if (lost === 1) await route.fetch();
        return lost === 1 ? route.abort() : route.fulfill({ status: 502, body: "Bad Gateway" });
      });
      await stream.composer.fill("once");
      await stream.button("Send").click();
      await expect(stream.composer).toHaveValue("");
      await server.publish("ci", "after it");
      await stream.shows(["once", "after it"]);
      expect(lost).toBe(3);
    });

    test("says that the result is unknown, and the same text sent again is stored once", async ({ page, start }) => {
      const server = await start(...IN_MEMORY);
      const stream = await MessagePage.open(page, server, "ci");
      await stream.isLive();
      await page.route("**/api/publish", async (route) => {
        await route.fetch();
        await route.abort();
      });
      await stream.composer.fill("once");
      await stream.button("Send").click();
      await expect(page.getByRole("alert").filter({ hasText: "stored once" })).toBeVisible({ timeout: 60_000 });
      await expect(stream.composer).toHaveValue("once");
      await page.unroute("**/api/publish");
      await stream.button("Send").click();
      await expect(stream.composer).toHaveValue("");
      // After success, the same text is a new message.
      await stream.composer.fill("once");
      await stream.button("Send").click();
      await expect(stream.composer).toHaveValue("");
      await stream.shows(["once", "once"]);
    });
  });

  test("disappears when the stream ends", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("ci", "one");
    const stream = await MessagePage.open(page, server, "ci");
    await stream.isLive();
    await server.end("ci", "that was it");
    await stream.ends();
    await stream.shows(["one", "that was it"]);
    await expect(stream.composer).toBeHidden();
    await expect(page.getByText("End this stream")).toBeHidden();
    await expect(stream.button("Watch again")).toBeHidden();
    await page.reload();
    await stream.ends();
    await stream.shows(["one", "that was it"]);
    await expect(stream.composer).toBeHidden();
  });
});

test.describe("without scripts", () => {
  test.use({ javaScriptEnabled: false, mayComplain: idlePreload });

  test("the forms publish a message, and end the stream", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    const stream = await MessagePage.open(page, server, "ci");
    await stream.composer.fill("two\nlines");
    await stream.button("Send").click();
    expect(page.url()).toBe(`${server.url}/streams/ci`);
    expect(await stream.texts()).toEqual(["two\nlines"]);
    await expect(stream.composer).toHaveValue("");

    const end = stream.button("End the stream");
    await expect(end).toBeHidden();
    await page.getByText("End this stream").click();
    await page.getByRole("textbox", { name: /^Closing text/ }).fill("so long");
    await end.click();
    expect(page.url()).toBe(`${server.url}/streams/ci`);
    expect(await stream.texts()).toEqual(["two\nlines", "so long"]);
    await expect(stream.composer).toBeHidden();
  });

  test.describe("a refused message", () => {
    test.use({ mayComplain: new RegExp(`${idlePreload.source}|${unreachable.source}`) });

    test("stays in the form, as text", async ({ page, start }) => {
      const server = await start(...IN_MEMORY, "--max-message-bytes", "1KiB");
      const stream = await MessagePage.open(page, server, "ci");
      const text = `\n${HOSTILE}\n${"x".repeat(2_000)}`;
      await stream.composer.fill(text);
      const [answer] = await Promise.all([page.waitForNavigation(), stream.button("Send").click()]);
      expect(answer!.status()).toBe(413);
      await expect(stream.composer).toHaveValue(text);
      await expect(page.getByRole("alert").filter({ hasText: /./ })).toBeVisible();
      await expect(page).toHaveTitle("ci · Tidings");
      await stream.composer.fill("short");
      await stream.button("Send").click();
      expect(page.url()).toBe(`${server.url}/streams/ci`);
      expect(await stream.texts()).toEqual(["short"]);
    });
  });

  test("older messages are pages", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("log", ...messages(250));
    const stream = await MessagePage.open(page, server, "log");
    expect(await stream.texts()).toEqual(messages(250, 151));
    await page.getByRole("link", { name: "Older messages" }).click();
    const list = page.getByRole("list", { name: "Messages" }).locator("p");
    expect(await list.allTextContents()).toEqual(messages(150, 51));
    await page.getByRole("link", { name: "Older" }).first().click();
    expect(await list.allTextContents()).toEqual(messages(50));
    await expect(page.getByRole("link", { name: "Older" })).toHaveCount(0);
    await page.getByRole("link", { name: "Newer" }).first().click();
    await expect(page.getByText("message 51", { exact: true })).toBeVisible();
    await page.getByRole("link", { name: "Live" }).first().click();
    expect(await stream.texts()).toEqual(messages(250, 151));
  });
});

test("a page with a refused message hydrates with its error", async ({ browser, start }) => {
  const server = await start(...IN_MEMORY, "--max-message-bytes", "1KiB");
  const context = await browser.newContext();
  const page = await context.newPage();
  const letGo = await holdHydration(page);
  const stream = await MessagePage.open(page, server, "ci");
  const text = `${HOSTILE}${"x".repeat(2_000)}`;
  await stream.composer.fill(text);
  await stream.button("Send").click();
  const problem = page.getByRole("alert").filter({ hasText: /./ });
  await expect(problem).toBeVisible();
  letGo();
  await stream.isLive();
  await expect(stream.composer).toHaveValue(text);
  await expect(problem).toBeVisible();
  await stream.composer.fill("short");
  await stream.button("Send").click();
  await stream.shows(["short"]);
  await expect(problem).toHaveCount(0);
  await context.close();
});

test("ending asks for confirmation", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("ci", "one");
  const stream = await MessagePage.open(page, server, "ci");
  await stream.isLive();
  await page.getByText("End this stream").click();
  await stream.button("End the stream").click();
  await stream.ends();
  await stream.shows(["one", "End of the stream"]);
});

test("a deleted stream leaves nothing, and can be created again", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("ci", ...messages(5));
  const stream = await MessagePage.open(page, server, "ci");
  await stream.isLive();
  await server.delete("ci");
  await stream.shows(["The stream was deleted."]);
  await expect(page.getByText("0 messages")).toBeVisible();
  await server.publish("ci", "anew");
  await stream.shows(["The stream was deleted.", "anew"]);
  await stream.isLive();
});

test.describe("a wiped store", () => {
  test.use({ mayComplain: unreachable });

  test("is reported, and the new messages are shown", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("ci", ...messages(5));
    const stream = await MessagePage.open(page, server, "ci");
    await stream.isLive();
    await server.stop();
    await server.startAgain();
    await server.publish("ci", "anew");
    await expect(stream.rows.filter({ hasText: "anew" })).toBeVisible();
    const shown = await stream.texts();
    expect(shown.at(-1)).toBe("anew");
    expect(shown.at(-2), "the gap is reported").toMatch(/^(Messages were lost before this point|The stream was deleted)\.$/);
    await server.publish("ci", "and on");
    await stream.shows([...shown, "and on"]);
  });
});

async function scrollPlace(page: Page): Promise<number> {
  return page.getByRole("log").evaluate((log) => log.scrollTop);
}

test("older messages load in place, without a jump", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("log", ...messages(250));
  const stream = await MessagePage.open(page, server, "log");
  await stream.isLive();
  await stream.shows(messages(250, 151));
  const older = page.getByRole("link", { name: "Older messages" });
  await older.scrollIntoViewIfNeeded();
  const seen = stream.rows.filter({ hasText: /^[\d:]*message 155$/ });
  // Until the rows in sight are laid out.
  const settled = async () => {
    const before = await scrollPlace(page);
    await page.waitForTimeout(500);
    return before === (await scrollPlace(page));
  };
  await expect.poll(settled).toBe(true);
  const before = await scrollPlace(page);
  const top = (await seen.boundingBox())!.y;
  await older.click();
  await stream.shows(messages(250, 51));
  expect(await scrollPlace(page)).toBe(before);
  expect((await seen.boundingBox())!.y).toBe(top);
  expect(page.url()).toBe(`${server.url}/streams/log`);

  await older.focus();
  await page.keyboard.press("Enter");
  await stream.shows(messages(250));
  await expect(older).toBeHidden();
  await expect(stream.log).toBeFocused();
  await expect(stream.log.locator(".day"), "one date for one day").toHaveCount(1);
  await server.publish("log", "message 251");
  await stream.button(/1 new message$/).click();
  await stream.shows(messages(251));
});

test.describe("older messages that fail to load", () => {
  test.use({ mayComplain: unreachable });

  test("can be requested again", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("log", ...messages(120));
    const stream = await MessagePage.open(page, server, "log");
    await stream.isLive();
    await page.route("**/messages?*", (route) => route.fulfill({ status: 503 }), { times: 1 });
    await page.getByRole("link", { name: "Older messages" }).click();
    await page.getByRole("link", { name: "Older messages could not be loaded. Try again" }).click();
    await stream.shows(messages(120));
    await expect(page.getByText("could not be loaded")).toBeHidden();
  });
});

test("each message has a permanent link, which shows it among its neighbours", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  const ids = await server.publish("log", ...messages(250));
  const stream = await MessagePage.open(page, server, "log");
  const id = ids[199]!;
  const link = stream.rows.filter({ hasText: "message 200" }).getByRole("link");
  await expect(link).toHaveAttribute("href", `/streams/log?at=${id}#at`);
  await link.click();
  const about = page.locator("[aria-current=true]");
  await expect(about).toContainText("message 200");
  await expect(about).toBeInViewport();
  await expect(page.getByText("message 199", { exact: true })).toBeVisible();
  await expect(page.getByText("message 201", { exact: true })).toBeVisible();
});

test("the counter's rows have neither link nor date", async ({ page, start }) => {
  const server = await start();
  const counter = await MessagePage.open(page, server);
  await counter.isLive();
  await expect(counter.rows.getByRole("link")).toHaveCount(0);
  await expect(counter.log.locator(".day")).toHaveCount(0);
});

test("a date marks where a day begins in the reader's time zone", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  const letGo = await holdHydration(page);
  const [id] = await server.publish("ci", "now");
  const stream = await MessagePage.open(page, server, "ci");
  const said = Number(id!.split("-")[0]);
  const date = (millis: number) => new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeZone: "UTC" }).format(millis);
  const day = stream.log.locator(".day");
  await expect(day).toHaveText([date(said)]);
  letGo();
  await stream.isLive();
  await expect(day, "in Kolkata").toHaveText([date(said + 5.5 * 3_600_000)]);
});

test("a tab in the background shows the number of new messages in its title", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await server.publish("ci", "before");
  const stream = await MessagePage.open(page, server, "ci");
  await stream.isLive();
  await show(page, "hidden");
  await server.publish("ci", ...messages(3));
  await expect(page).toHaveTitle("(3) ci · Tidings");
  await show(page, "visible");
  await expect(page).toHaveTitle("ci · Tidings");
  await server.publish("ci", "seen");
  await stream.shows(["before", ...messages(3), "seen"]);
  await expect(page).toHaveTitle("ci · Tidings");
});

test("eleven tabs of one browser: each is served, none misses a message", async ({ context, start }) => {
  const server = await start(...IN_MEMORY);
  const tabs: MessagePage[] = [];
  for (let i = 0; i < 11; i++) {
    const page = await context.newPage();
    await page.clock.install();
    const stream = await MessagePage.open(page, server, "ci");
    await stream.isLive();
    tabs.push(stream);
    if (i < 10) {
      await show(page, "hidden");
      await page.clock.fastForward(10_000);
      await expect.poll(() => server.openStreams()).toBe(0);
    }
  }
  await server.publish("ci", ...messages(5));
  await tabs[10]!.shows(messages(5));
  for (const tab of tabs.slice(0, 10)) {
    await show(tab.page, "visible");
    await tab.shows(messages(5));
    await show(tab.page, "hidden");
    await tab.page.clock.fastForward(10_000);
    await expect.poll(() => server.openStreams()).toBe(1);
  }
});

test("messages are shown as text on every page, whatever they contain", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  const said = [HOSTILE, "<!--", "שלום 123", "  two\n\n  lines ", "x".repeat(5_000)];
  const [id] = await server.publish("ci", ...said);
  const stream = await MessagePage.open(page, server, "ci");
  await stream.isLive();
  await stream.shows(said);
  await server.publish("ci", ...said);
  await stream.shows([...said, ...said]);
  await page.goto(`${server.url}/streams/ci?at=${id}`);
  expect(await page.getByRole("list", { name: "Messages" }).locator("p").allTextContents()).toEqual([...said, ...said]);
  await server.publish("ci", HOSTILE);
  await page.goto(`${server.url}/streams`);
  await expect(page.getByText(HOSTILE)).toBeVisible();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  expect(wide, "no horizontal scrolling").toBe(false);
});

async function listed(page: Page, server: Server): Promise<string[]> {
  await page.goto(`${server.url}/streams`);
  return page.getByRole("heading", { level: 2 }).allTextContents();
}

test("the page of all streams", async ({ page, context, start }) => {
  const server = await start(...IN_MEMORY);
  expect(await listed(page, server)).toEqual([]);
  await expect(page.getByText(`curl -d 'Hello' ${new URL(server.url).host}/streams/my-stream`)).toBeVisible();

  await server.publish("first", ...messages(3));
  await server.publish("second", "hello");
  await server.end("first", "all done");
  const watcher = await MessagePage.open(await context.newPage(), server, "second");
  await watcher.isLive();
  expect(await listed(page, server)).toEqual(["first", "second"]);
  const first = page.getByRole("listitem").filter({ hasText: "first" });
  await expect(first).toContainText("Ended");
  await expect(first).toContainText("3 messages");
  await expect(first).toContainText("all done");
  const second = page.getByRole("listitem").filter({ hasText: "second" });
  await expect(second).toContainText("Open");
  await expect(second).toContainText("1 message");
  await expect(second).toContainText("1 watching");
  await expect(second).toContainText("hello");
  await second.getByRole("link").click();
  await expect(page.getByRole("heading", { level: 1, name: "second" })).toBeVisible();
  await expect(page.getByText("One other reader is connected now.")).toBeVisible();
  await page.getByRole("link", { name: "All streams" }).click();
  await expect(page).toHaveTitle("Streams · Tidings");
});

test("commands can be copied", async ({ page, context, start }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const server = await start(...IN_MEMORY);
  const stream = await MessagePage.open(page, server, "ci");
  await stream.isLive();
  await page.getByText("Use a terminal").click();
  const publish = page.getByRole("group", { name: "Publish" });
  await publish.getByRole("button").click();
  await expect(publish.getByRole("button")).toHaveText("Copied");
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  expect(copied).toBe(`curl -d 'Hello' ${new URL(server.url).host}/streams/ci`);
});

test.describe("an invalid address", () => {
  test.use({ mayComplain: unreachable });

  test("is answered with an error page", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    const bad = await page.goto(`${server.url}/streams/Not%20a%20name`);
    expect(bad!.status()).toBe(400);
    await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
    await expect(page.getByRole("link", { name: "See all streams" })).toBeVisible();
    await server.publish("ci", "one");
    const gone = await page.goto(`${server.url}/streams/ci?at=1-1`);
    expect(gone!.status()).toBe(404);
    await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
  });
});

test.describe("the chart", () => {
  const drawn = (page: Page) => page.getByRole("img", { name: /^Chart of the newest numbers/ });

  test("draws messages that differ only in their numbers, and plain data", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    for (const [name, texts, newest] of [
      ["builds", ["built in 42 s", "built in 1,042.5 s"], "1042.5"],
      ["queue", ["12:00:01 queue=5 host=10.0.0.1", "12:00:07 queue=8 host=10.0.0.1"], "8"],
      ["sensor", ['{"temp":21.5,"hum":40}', '{"temp":.5,"hum":40}'], "0.5"],
      ["price", ["$1,234.50"], "1234.5"],
    ] as const) {
      await server.publish(name, ...texts);
      const stream = await MessagePage.open(page, server, name);
      await stream.isLive();
      await expect(drawn(page)).toHaveAttribute("aria-label", new RegExp(`now ${newest.replace(".", "\\.")}$`));
    }
  });

  test("draws nothing where numbers are not values", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    for (const [name, texts] of [
      ["log", ["5 users signed in", "Deployed v1.2.3 at 12:00", "Issue #42 was closed", "Nothing else"]],
      ["one", ["Deployed 5 services to production"]],
      ["builds", ["ci-7 is done", "ci-8 is done"]],
    ] as const) {
      await server.publish(name, ...texts);
      const stream = await MessagePage.open(page, server, name);
      await stream.isLive();
      await expect(drawn(page)).toBeHidden();
    }
  });
});
