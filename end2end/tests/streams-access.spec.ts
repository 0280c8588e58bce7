// Accessibility of the stream pages.

import { MessagePage, expect, messages, nothingToFind, test, unreachable } from "../tidings.ts";

for (const colorScheme of ["light", "dark"] as const) {
  for (const width of [1280, 390, 320]) {
    test.describe(`${colorScheme}, ${width} wide`, () => {
      test.use({ colorScheme, viewport: { width, height: 800 }, mayComplain: unreachable });

      test("axe finds nothing on any stream page", async ({ page, start }) => {
        const server = await start("--data", ":memory:");
        await page.goto(`${server.url}/streams`);
        await nothingToFind(page, "no streams");
        const stream = await MessagePage.open(page, server, "n".repeat(64));
        await stream.isLive();
        await page.getByText("Use a terminal").click();
        await page.getByText("End this stream").click();
        await nothingToFind(page, "an empty stream, everything open");

        const ids = await server.publish("log", ...messages(120), "wide ".repeat(100), "x".repeat(2_000));
        await MessagePage.open(page, server, "log");
        await stream.isLive();
        await stream.composer.fill("x".repeat(70_000));
        await page.keyboard.press("Control+Enter");
        await expect(page.getByRole("alert").filter({ hasText: /./ })).toBeVisible();
        await nothingToFind(page, "a refused message");
        await page.getByRole("link", { name: "Older messages" }).click();
        await expect(page.getByText("message 1", { exact: true })).toBeAttached();
        await nothingToFind(page, "older messages in place");

        await page.goto(`${server.url}/streams/log?at=${ids[50]}#at`);
        await nothingToFind(page, "one message among others");
        await page.goto(`${server.url}/streams/log?before=${ids[20]}`);
        await nothingToFind(page, "older messages");
        await server.end("log", "done ".repeat(100));
        await MessagePage.open(page, server, "log");
        await stream.ends();
        await nothingToFind(page, "an ended stream");
        await page.goto(`${server.url}/streams`);
        await nothingToFind(page, "the streams");
        await page.goto(`${server.url}/streams/Not%20a%20name`);
        await nothingToFind(page, "refused");
      });
    });
  }
}

test("writing, older messages and ending work with a keyboard", async ({ page, start }) => {
  const server = await start("--data", ":memory:");
  await server.publish("ci", ...messages(120));
  const stream = await MessagePage.open(page, server, "ci");
  await stream.isLive();
  await stream.log.focus();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Older messages" })).toBeFocused();
  await page.keyboard.press("Enter");
  await stream.shows(messages(120));
  await stream.composer.focus();
  await page.keyboard.type("typed");
  await page.keyboard.press("Tab");
  await expect(stream.button("Send")).toBeFocused();
  await page.keyboard.press("Space");
  await expect(stream.composer).toHaveValue("");
  await stream.button("Send").focus();
  for (let i = 0; i < 2; i++) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await expect(page.getByRole("textbox", { name: /^Closing text/ })).toBeFocused();
  await page.keyboard.press("Enter");
  await stream.ends();
});
