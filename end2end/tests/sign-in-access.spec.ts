// Accessibility of signing in and out.

import { EVERYTHING, MessagePage, expect, messages, nothingToFind, signIn, test, unreachable } from "../tidings.ts";

for (const colorScheme of ["light", "dark"] as const) {
  for (const width of [1280, 390, 320]) {
    test.describe(`${colorScheme}, ${width} wide`, () => {
      test.use({ colorScheme, viewport: { width, height: 800 }, mayComplain: unreachable });

      test("axe finds nothing while signing in and out", async ({ page, context, secret, startGuarded }) => {
        const server = await startGuarded("--public", "status-*");
        await server.publish("status-1", ...messages(30));
        await page.goto(`${server.url}/sign-in`);
        await nothingToFind(page, "the form");
        await signIn(page, "nonsense");
        await expect(page.getByRole("alert")).toBeVisible();
        await nothingToFind(page, "a token that was refused");
        await page.goto(`${server.url}/streams/ci-1`);
        await nothingToFind(page, "in place of a page");
        const stream = await MessagePage.open(page, server, "status-1");
        await stream.isLive();
        await nothingToFind(page, "a guest");
        await page.goto(`${server.url}/streams`);
        await nothingToFind(page, "a guest's list");

        await page.goto(`${server.url}/sign-in?to=/streams/ci-1`);
        await signIn(page, secret.token("A long name, as long as names may be, ".padEnd(64, "n"), ...EVERYTHING));
        await stream.isLive();
        await nothingToFind(page, "a name that is long");
        await page.goto(`${server.url}/sign-in`);
        await nothingToFind(page, "signed in already");
        await MessagePage.open(page, server, "ci-1");
        await stream.isLive();
        await context.addCookies([{ name: secret.cookie, value: "nonsense", url: server.url }]);
        await context.setOffline(true);
        await expect(stream.status).toHaveText("Offline");
        await context.setOffline(false);
        await expect(stream.status).toHaveText("Signed out");
        await nothingToFind(page, "signed out");
      });
    });
  }
}

test("signing in and out works with a keyboard", async ({ page, secret, startGuarded }) => {
  const server = await startGuarded();
  await page.goto(`${server.url}/streams`);
  for (let i = 0; i < 3; i++) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect(page.getByLabel("Token")).toBeFocused();
  await page.keyboard.insertText(secret.token("Ada", ...EVERYTHING));
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Sign in" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(`${server.url}/streams`);
  for (let i = 0; i < 3; i++) await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Sign out" })).toBeFocused();
  await page.keyboard.press("Space");
  await expect(page.getByRole("banner").getByRole("link", { name: "Sign in" })).toBeVisible();
});
