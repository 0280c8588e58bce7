// Accessibility of the counter page: keyboard, no scripts, phone, screen reader.

import { ENDLESS, MessagePage, expect, holdHydration, idlePreload, nothingToFind, test, unreachable } from "../tidings.ts";

for (const colorScheme of ["light", "dark"] as const) {
  for (const viewport of [
    { width: 1280, height: 800 },
    { width: 390, height: 844 },
  ]) {
    test.describe(`${colorScheme}, ${viewport.width} wide`, () => {
      test.use({ colorScheme, viewport, mayComplain: unreachable });

      test("axe finds nothing in any state", async ({ page, context, start }) => {
        const server = await start("--counter-delay", "250ms", ...ENDLESS);
        const letGo = await holdHydration(page);
        const counter = await MessagePage.open(page, server);
        await expect(counter.status).toHaveText("Connecting");
        await nothingToFind(page, "connecting");
        letGo();
        await expect(counter.status).toHaveText("Live");
        await nothingToFind(page, "live");

        await counter.button("Pause").click();
        await expect(counter.status).toHaveText("Paused");
        await nothingToFind(page, "paused");
        await counter.button("Resume").click();

        await counter.reaches("Counter value 30");
        await counter.log.hover();
        await page.mouse.wheel(0, -200);
        await expect(counter.button(/new message/)).toBeVisible();
        await nothingToFind(page, "away from the newest");

        await context.setOffline(true);
        await expect(counter.status).toHaveText("Offline");
        await nothingToFind(page, "offline");
        await context.setOffline(false);
        await expect(counter.status).toHaveText("Live");

        await server.stop();
        await expect(counter.status).toHaveText("Reconnecting");
        await nothingToFind(page, "reconnecting");
        await server.startAgain();

        const body = "event: reset\ndata: {}\n\nevent: end_event\nid: 1-2\ndata: done\n\n";
        await page.route("**/stream?*", (route) => route.fulfill({ contentType: "text/event-stream", body }));
        await page.goto(server.url);
        await counter.ends();
        await counter.shows(["Counter value 1", "Messages were lost before this point.", "done"]);
        await nothingToFind(page, "reset and ended");

        await page.goto(`${server.url}/problems`);
        await nothingToFind(page, "problems");
        await page.goto(`${server.url}/nothing`);
        await expect(page.getByRole("heading", { name: "Nothing here" })).toBeVisible();
        await nothingToFind(page, "not found");
      });
    });
  }
}

test.describe("without scripts", () => {
  test.use({ javaScriptEnabled: false, mayComplain: idlePreload });

  test("the page shows the messages, and how to listen", async ({ page, start }) => {
    const server = await start();
    const counter = await MessagePage.open(page, server);
    expect(await counter.texts()).toEqual(["Counter value 1"]);
    await expect(page.locator("noscript")).toBeVisible();
    const hint = await page.locator("noscript").innerText();
    expect(hint).toContain(`curl -N ${new URL(server.url).host}/stream`);
    await expect(page.getByRole("button")).toHaveCount(0);
    await expect(page.getByText("Connecting")).toBeHidden();
  });
});

test("the page can be used with a keyboard", async ({ page, start }) => {
  await page.setViewportSize({ width: 800, height: 500 });
  const server = await start("--counter-delay", "100ms", ...ENDLESS);
  const counter = await MessagePage.open(page, server);
  await expect(counter.status).toHaveText("Live");
  const press = async (key: string, times = 1) => {
    for (let i = 0; i < times; i++) await page.keyboard.press(key);
  };

  await press("Tab");
  await expect(page.getByRole("link", { name: "Tidings" })).toBeFocused();
  await press("Tab");
  await expect(page.getByRole("link", { name: "Streams" })).toBeFocused();
  await press("Tab");
  await expect(counter.button("Pause")).toBeFocused();
  await press("Enter");
  await expect(counter.status).toHaveText("Paused");
  await press("Space");
  await expect(counter.status).toHaveText("Live");

  await counter.reaches("Counter value 25");
  await press("Tab");
  await expect(counter.log).toBeFocused();
  const newest = counter.button(/new message/);
  await press("PageUp");
  await expect(newest).toBeVisible();
  // Wait until scrolling has settled: before that the browser may ignore an action.
  const place = () => counter.log.evaluate((log) => log.scrollTop);
  const settled = async () => {
    const before = await place();
    await page.waitForTimeout(500);
    return before === (await place());
  };
  await expect.poll(settled).toBe(true);
  await press("Tab");
  await expect(newest).toBeFocused();
  await press("Enter");
  await expect(newest).toBeHidden();
  await expect(counter.log).toBeFocused();

});

test("watch again works with a keyboard", async ({ page, start }) => {
  const server = await start("--counter-delay", "20ms");
  const counter = await MessagePage.open(page, server);
  await counter.ends();
  for (let i = 0; i < 3; i++) await page.keyboard.press("Tab");
  await expect(counter.button("Watch again")).toBeFocused();
  const [again] = await Promise.all([page.waitForRequest("**/stream"), page.keyboard.press("Enter")]);
  expect(again.method()).toBe("GET");
  await counter.ends();
  await expect(counter.button("Watch again")).toBeFocused();
});

for (const reducedMotion of ["no-preference", "reduce"] as const) {
  test(`a silent page has no animation, motion: ${reducedMotion}`, async ({ page, start }) => {
    await page.emulateMedia({ reducedMotion });
    const server = await start("--counter-delay", "1h");
    const counter = await MessagePage.open(page, server);
    await counter.isLive();
    // Until hydration, an animation delays the "not live" notice.
    await expect.poll(() => page.evaluate(() => document.getAnimations().length)).toBe(0);
  });
}

test("a narrow window does not scroll horizontally", async ({ page, start }) => {
  await page.setViewportSize({ width: 320, height: 640 });
  const server = await start();
  for (const path of ["/", "/problems"]) {
    await page.goto(server.url + path);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
    expect(wide, path).toBe(false);
  }
});
