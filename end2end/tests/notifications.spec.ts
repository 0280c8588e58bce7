// What is told while the reader looks elsewhere: notifications, and the mark on the icon.

import { type Page } from "@playwright/test";
import { MessagePage, Server, expect, messages, nothingToFind, show, test, unreachable } from "../tidings.ts";

const IN_MEMORY = ["--data", ":memory:"];
const ON = "Notify me of new messages";
const OFF = "Stop notifying me";

/** Records the notifications that the page shows; they are real ones as well. */
async function record(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const shown: string[] = [];
    Object.assign(globalThis, { shown });
    globalThis.Notification = class extends Notification {
      constructor(title: string, options?: NotificationOptions) {
        super(title, options);
        shown.push(`${title} | ${options?.body}`);
      }
    };
  });
}
const shown = (page: Page) => page.evaluate(() => (globalThis as unknown as { shown: string[] }).shown);

async function open(page: Page, server: Server, stream = "ci"): Promise<MessagePage> {
  await record(page);
  const opened = await MessagePage.open(page, server, stream);
  await opened.isLive();
  return opened;
}

test.describe("permitted", () => {
  test.use({ permissions: ["notifications"], mayComplain: unreachable });

  test("messages are notified while the tab is hidden, many as one, and nothing before a click", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("ci", "before");
    await page.clock.install();
    const stream = await open(page, server);
    await show(page, "hidden");
    await server.publish("ci", "unasked");
    await show(page, "visible");
    await stream.shows(["before", "unasked"]);
    expect(await shown(page)).toEqual([]);

    await stream.button(ON).click();
    await expect(stream.button(OFF)).toBeVisible();
    await expect(stream.button(ON)).toBeHidden();
    expect(await shown(page)).toEqual(["ci | You will see new messages here while the tab is hidden."]);
    await server.publish("ci", "seen");
    await stream.shows(["before", "unasked", "seen"]);

    await show(page, "hidden");
    await server.publish("ci", "\x1b[31mfailed\x1b[0m");
    await expect.poll(async () => (await shown(page)).slice(1)).toEqual(["ci | failed"]);
    await server.publish("ci", ...messages(3));
    await page.clock.fastForward(5_000);
    await expect.poll(async () => (await shown(page)).slice(2)).toEqual(["ci: 4 new messages | message 3"]);
    // No message, no notification.
    await page.clock.fastForward(20_000);
    await server.end("ci", "bye");
    await expect.poll(async () => (await shown(page)).slice(3)).toEqual(["ci: 5 new messages | bye"]);
  });

  test("a filter holds for notifications too", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    const stream = await open(page, server);
    await stream.button(ON).click();
    await expect(stream.button(OFF)).toBeVisible();
    await page.keyboard.press("/");
    await page.keyboard.type("error");
    await server.publish("ci", "another error");
    await stream.shows(["another error"]);
    await show(page, "hidden");
    await server.publish("ci", "all is well", "an \x1b[31mError\x1b[0m");
    await expect.poll(async () => (await shown(page)).slice(1)).toEqual(["ci | an Error"]);
  });

  test("they are for one stream, last, and keep the connection of a hidden tab", async ({ context, start }) => {
    const server = await start(...IN_MEMORY);
    const page = await context.newPage();
    await page.clock.install();
    let stream = await open(page, server);
    await stream.button(ON).click();
    await expect(stream.button(OFF)).toBeVisible();

    await page.reload();
    stream = new MessagePage(page);
    await stream.isLive();
    await expect(stream.button(OFF)).toBeVisible();
    await show(page, "hidden");
    await page.clock.fastForward(60_000);
    await server.publish("ci", "after a minute");
    await expect.poll(() => shown(page)).toEqual(["ci | after a minute"]);
    expect(await server.openStreams()).toBe(1);

    await show(page, "visible");
    await stream.button(OFF).click();
    await expect(stream.button(ON)).toBeVisible();
    await show(page, "hidden");
    await page.clock.fastForward(10_000);
    await expect.poll(() => server.openStreams()).toBe(0);
    await page.close();

    const other = await context.newPage();
    await expect((await open(other, server, "news")).button(ON)).toBeVisible();
  });

  test("none is lost or repeated by a cut connection, and a new log begins again", async ({ page, start }, info) => {
    const server = await start("--data", info.outputPath("tidings.db"));
    await server.publish("ci", ...messages(2));
    const stream = await open(page, server);
    await stream.button(ON).click();
    await expect(stream.button(OFF)).toBeVisible();
    await show(page, "hidden");
    await server.stop();
    await server.startAgain();
    await server.publish("ci", "message 3");
    await expect.poll(async () => (await shown(page)).slice(1)).toEqual(["ci | message 3"]);
    await show(page, "visible");
    await stream.shows(messages(3));
    await server.delete("ci");
    await stream.shows(["The stream was deleted."]);
    await show(page, "hidden");
    await server.publish("ci", "the first of another");
    await expect.poll(async () => (await shown(page)).slice(2)).toEqual(["ci | the first of another"]);
  });
});

test("where the reader or the browser refuses, the page says so, and asks for nothing else", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await page.addInitScript(() => {
    Notification.requestPermission = async () => "denied";
  });
  const stream = await open(page, server);
  await stream.button(ON).click();
  await expect(page.getByRole("alert")).toHaveText(/^The browser blocks notifications from this site\./);
  await expect(stream.button(ON)).toBeVisible();
  await nothingToFind(page, "a refusal of notifications");
  await page.evaluate(() => Reflect.deleteProperty(globalThis, "Notification"));
  await stream.button(ON).click();
  await expect(page.getByRole("alert")).toHaveText("This browser has no notifications for pages.");
});

test("a page that is not a secure context says that notifications need HTTPS", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  await page.addInitScript(() => Object.defineProperty(globalThis, "isSecureContext", { value: false }));
  const stream = await open(page, server);
  await stream.button(ON).click();
  await expect(page.getByRole("alert")).toHaveText("Notifications need HTTPS, and this page was loaded without it.");
});

test("the icon is marked while there are new messages", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  const stream = await open(page, server);
  const icon = page.locator("link[rel=icon]");
  await expect(icon).toHaveAttribute("href", /\/favicon\.svg$/);
  await show(page, "hidden");
  await server.publish("ci", "news");
  await expect(icon).toHaveAttribute("href", /\/favicon-unread\.svg$/);
  expect((await page.request.get(`${server.url}/favicon-unread.svg`)).headers()["content-type"]).toBe("image/svg+xml");
  await show(page, "visible");
  await stream.shows(["news"]);
  await expect(icon).toHaveAttribute("href", /\/favicon\.svg$/);
});
