// Logs: colours, links, JSON, and the two views of a stream.

import { type Locator } from "@playwright/test";
import { MessagePage, expect, idlePreload, nothingToFind, test } from "../tidings.ts";

const IN_MEMORY = ["--data", ":memory:"];
const RED = "\x1b[31mred\x1b[0m and \x1b[1;4mbold\x1b[0m";
const JSON_TEXT = '{"level":"info", "url":"https://example.com/a","n":1.0e2,"tags":["<b>"]}';
const style = (of: Locator, name: string) => of.evaluate((it, name) => getComputedStyle(it).getPropertyValue(name), name);
const isMonospaced = async (page: MessagePage) => /mono/.test(await style(page.rows.locator("p").last(), "font-family"));

/** Each of the 16 colours on each of the 16 backgrounds, then as 256 and as true colours. */
function everyColour(): string[] {
  const digits = [...Array(16).keys()];
  const code = (colour: number, base: number) => (colour < 8 ? base + colour : base + 52 + colour);
  const lines = digits.map((back) => digits.map((fore) => `\x1b[${code(fore, 30)};${code(back, 40)}m${fore}\x1b[0m`).join(" "));
  const styles = ["1", "2", "3", "4", "7", "9", "2;41", "7;31", "38;5;208", "48;5;25", "38;2;10;20;30", "48;2;250;250;250"];
  return [...lines, styles.map((style) => `\x1b[${style}m${style}\x1b[0m`).join(" "), "\x1b[43mhttp://a.example\x1b[0m"];
}

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test("colours of a terminal are shown, from the server and live", async ({ page, start }) => {
      const server = await start(...IN_MEMORY);
      await server.publish("ci", RED);
      const stream = await MessagePage.open(page, server, "ci");
      await stream.isLive();
      await server.publish("ci", RED);
      await stream.shows(["red and bold", "red and bold"]);
      for (const row of [stream.rows.nth(1), stream.rows.nth(2)]) {
        expect(await style(row.getByText("red", { exact: true }), "color")).toBe(colorScheme === "light" ? "rgb(172, 33, 28)" : "rgb(246, 148, 145)");
        expect(await style(row.getByText("bold", { exact: true }), "font-weight")).toBe("700");
        expect(await style(row.getByText("bold", { exact: true }), "text-decoration-line")).toBe("underline");
      }
    });

    for (const width of [1280, 390]) {
      test(`axe finds nothing in a coloured log, ${width} wide`, async ({ page, start }) => {
        await page.setViewportSize({ width, height: 1_000 });
        const server = await start(...IN_MEMORY);
        const ids = await server.publish("ci", ...everyColour(), JSON_TEXT);
        const stream = await MessagePage.open(page, server, "ci");
        await stream.isLive();
        await nothingToFind(page, "a log");
        await page.locator("summary").filter({ hasText: "level" }).click();
        await nothingToFind(page, "JSON");
        await page.getByRole("link", { name: "Show as text" }).click();
        await nothingToFind(page, "as text");
        await page.goto(`${server.url}/streams/ci?at=${ids[5]}`);
        await nothingToFind(page, "a page of older messages");
      });
    }
  });
}

test("the page decides by the messages, the reader may choose otherwise, and the choice lasts", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  const stream = await MessagePage.open(page, server, "ci");
  await stream.isLive();
  await server.publish("ci", "prose", "INFO listening", "INFO ready");
  await stream.shows(["prose", "INFO listening", "INFO ready"]);
  const [toText, toLog] = ["Show as text", "Show as a log"].map((name) => page.getByRole("link", { name }));
  await expect(toText!).toBeVisible();
  expect(await isMonospaced(stream)).toBe(true);
  const wide = (await stream.log.boundingBox())!.width;

  await toText!.focus();
  await page.keyboard.press("Enter");
  await expect(toLog!).toBeFocused();
  await expect(toText!).toBeHidden();
  expect(await isMonospaced(stream)).toBe(false);
  expect((await stream.log.boundingBox())!.width).toBeLessThan(wide);
  expect(page.url()).toBe(`${server.url}/streams/ci`);
  await page.reload();
  await expect(toLog!).toBeVisible();
  expect(await isMonospaced(stream)).toBe(false);

  await MessagePage.open(page, server, "news");
  await stream.isLive();
  await server.publish("news", "INFO another stream");
  await expect(toText!, "a choice is for one stream").toBeVisible();
  await MessagePage.open(page, server, "ci");
  await toLog!.click();
  await page.reload();
  await expect(toText!).toBeVisible();
  expect(await isMonospaced(stream)).toBe(true);
});

test("a browser that stores nothing can choose too", async ({ page, start }) => {
  await page.addInitScript(() => {
    Object.defineProperty(window, "localStorage", {
      get() {
        throw new DOMException("refused", "SecurityError");
      },
    });
  });
  const server = await start(...IN_MEMORY);
  await server.publish("ci", "INFO listening");
  const stream = await MessagePage.open(page, server, "ci");
  await stream.isLive();
  await page.getByRole("link", { name: "Show as text" }).click();
  await expect(page.getByRole("link", { name: "Show as a log" })).toBeVisible();
});

test("links are followed in a new tab, without the page behind them", async ({ page, start }) => {
  const server = await start(...IN_MEMORY);
  const stream = await MessagePage.open(page, server, "ci");
  await stream.isLive();
  await server.publish("ci", "see http://localhost:\x1b[1m5173\x1b[0m/a?b&c. Not javascript:alert(1)");
  const link = page.getByRole("link", { name: "http://localhost:5173/a?b&c" });
  await expect(link).toHaveAttribute("href", "http://localhost:5173/a?b&c");
  await expect(link).toHaveAttribute("rel", "noopener noreferrer nofollow");
  await expect(link).toHaveAttribute("target", "_blank");
  await expect(stream.rows.last().getByRole("link"), "and the permanent link").toHaveCount(2);
});

test("JSON is folded, and copied as it was published", async ({ page, context, start }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const server = await start(...IN_MEMORY);
  await server.publish("ci", JSON_TEXT);
  const stream = await MessagePage.open(page, server, "ci");
  await stream.isLive();
  await server.publish("ci", JSON_TEXT);
  const summaries = stream.log.locator("summary");
  await expect(summaries).toHaveText([JSON_TEXT, JSON_TEXT]);
  for (const row of [stream.rows.nth(1), stream.rows.nth(2)]) {
    const [copy, unfolded] = [row.getByRole("button", { name: "Copy" }), row.locator("p")];
    await expect(unfolded).toBeHidden();
    await row.locator("summary").click();
    await expect(unfolded).toHaveText(JSON.stringify(JSON.parse(JSON_TEXT), null, 2).replace("100", "1.0e2"), { useInnerText: true });
    await expect(row.getByRole("link", { name: "https://example.com/a" })).toBeVisible();
    await copy.click();
    await expect(row.getByRole("button", { name: "Copied" })).toBeVisible();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(JSON_TEXT);
  }
  await server.publish("ci", "one more");
  await expect(stream.rows.nth(1).locator("p"), "it stays unfolded").toBeVisible();
});

test.describe("without scripts", () => {
  test.use({ javaScriptEnabled: false, mayComplain: idlePreload });

  test("colours, links, JSON and both views work", async ({ page, start }) => {
    const server = await start(...IN_MEMORY);
    await server.publish("ci", RED, "https://example.com/a", JSON_TEXT);
    const stream = await MessagePage.open(page, server, "ci");
    expect(await style(page.getByText("red", { exact: true }), "color")).toBe("rgb(172, 33, 28)");
    await expect(page.getByRole("link", { name: "https://example.com/a" })).toBeVisible();
    await page.locator("summary").filter({ hasText: "level" }).click();
    await expect(stream.rows.last().locator("p")).toBeVisible();
    expect(await isMonospaced(stream)).toBe(true);
    await page.getByRole("link", { name: "Show as text" }).click();
    expect(page.url()).toBe(`${server.url}/streams/ci?view=text`);
    expect(/mono/.test(await style(page.getByText("red and bold"), "font-family"))).toBe(false);
    await page.getByRole("link", { name: "Show as a log" }).click();
    expect(await isMonospaced(stream)).toBe(true);
  });
});
