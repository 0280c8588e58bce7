// Authentication and access: signing in and out, and the rights of a token.

import { type BrowserContext, type Page } from "@playwright/test";
import { execFileSync } from "node:child_process";
import { EVERYTHING, MessagePage, type Secret, type Server, expect, idlePreload, messages, signIn, test, unreachable } from "../tidings.ts";

// Chromium logs every page with the status 401 or 403.
test.use({ mayComplain: new RegExp(`${idlePreload.source}|${unreachable.source}`) });

const signOut = (page: Page) => page.getByRole("button", { name: "Sign out" }).click();
const form = (page: Page) => page.getByRole("heading", { level: 1, name: "Sign in" });
const signInLink = (page: Page) => page.getByRole("banner").getByRole("link", { name: "Sign in" });

/** Puts a token into the cookie of the browser, as signing in does. */
async function hold(context: BrowserContext, server: Server, secret: Secret, token: string): Promise<void> {
  await context.addCookies([{ name: secret.cookie, value: token, url: server.url, httpOnly: true, sameSite: "Lax" }]);
}

/** An expired token. */
async function expiredToken(secret: Secret): Promise<string> {
  const token = secret.token("Ada", ...EVERYTHING, "--expires", "1s");
  const { exp } = JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as { exp: number };
  await expect.poll(() => Date.now() / 1000).toBeGreaterThan(exp + 1);
  return token;
}

for (const javaScriptEnabled of [true, false]) {
  test.describe(javaScriptEnabled ? "with scripts" : "without scripts", () => {
    test.use({ javaScriptEnabled });

    test("signing in leads to the requested page, and signing out ends the access", async ({ page, secret, startGuarded }) => {
      const server = await startGuarded();
      await server.publish("ci-1", ...messages(3));
      const asked = await page.goto(`${server.url}/streams/ci-1`);
      expect(asked!.status()).toBe(401);
      await expect(form(page)).toBeVisible();
      await expect(page.getByText("message 1")).toHaveCount(0);

      await signIn(page, secret.token("Ada", "--watch", "ci-*", "--publish", "ci-*"));
      await expect(page).toHaveURL(`${server.url}/streams/ci-1`);
      const stream = new MessagePage(page);
      await stream.shows(messages(3));
      await expect(page.getByRole("banner")).toContainText("Signed in as Ada");
      if (javaScriptEnabled) await stream.isLive();
      await stream.composer.fill("message 4");
      await stream.button("Send").click();
      await stream.shows(messages(4));

      await signOut(page);
      await expect(page).toHaveURL(`${server.url}/streams/ci-1`);
      await expect(form(page)).toBeVisible();
      await expect(page.getByRole("banner")).not.toContainText("Ada");
      await page.goto(`${server.url}/streams`);
      await expect(page.getByRole("listitem")).toHaveCount(0);
    });

    test("an invalid token is refused, with the reason beside its field", async ({ page, secret, startGuarded }) => {
      const server = await startGuarded();
      await page.goto(server.url);
      await signInLink(page).click();
      const field = page.getByLabel("Token");
      await expect(field).toHaveAttribute("type", "password");
      await expect(field).toBeFocused();
      await expect(field).not.toHaveAttribute("aria-invalid");

      for (const wrong of ["nonsense", await expiredToken(secret)]) {
        await field.fill(wrong);
        const [answer] = await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
        expect(answer!.status()).toBe(401);
        await expect(page).toHaveTitle("Refused: Sign in · Tidings");
        const why = page.getByRole("alert");
        await expect(why).toBeVisible();
        await expect(field).toHaveAttribute("aria-invalid", "true");
        await expect(field).toHaveAccessibleDescription(new RegExp((await why.textContent())!));
        expect(await page.content(), "a token is never shown").not.toContain(wrong);
      }
      await signIn(page, `  ${secret.token("Ada", "--watch", "*")} `);
      await expect(page, "back to where it began").toHaveURL(`${server.url}/`);
      await expect(page.getByRole("banner")).toContainText("Signed in as Ada");
    });

    test("a draft is kept when the token has expired", async ({ page, context, secret, startGuarded }) => {
      const server = await startGuarded("--public", "status-*");
      await hold(context, server, secret, secret.token("Ada", ...EVERYTHING));
      const stream = await MessagePage.open(page, server, "status-1");
      await expect(page.getByRole("banner")).toContainText("Ada");
      if (javaScriptEnabled) await stream.isLive();
      await stream.composer.fill("to be said");
      await hold(context, server, secret, await expiredToken(secret));
      await stream.button("Send").click();
      await expect(page.getByRole("alert").filter({ hasText: /./ })).toBeVisible();
      await expect(stream.composer).toHaveValue("to be said");

      const other = await context.newPage();
      await other.goto(`${server.url}/sign-in`);
      await signIn(other, secret.token("Ada", ...EVERYTHING));
      await expect(other.getByRole("banner")).toContainText("Ada");
      await stream.button("Send").click();
      await stream.shows(["to be said"]);
      await expect(stream.composer).toHaveValue("");
    });
  });
}

test("a guest can watch public streams, and only that", async ({ page, secret, startGuarded }) => {
  const server = await startGuarded("--public", "status-*");
  const stream = await MessagePage.open(page, server, "status-1");
  await stream.isLive();
  await expect(page.getByText("The first message begins the stream.")).toHaveCount(0);
  await server.publish("status-1", ...messages(3));
  await stream.shows(messages(3));
  await expect(stream.composer).toHaveCount(0);
  await expect(page.getByText("End this stream")).toHaveCount(0);
  await page.getByText("Use a terminal").click();
  await expect(page.getByRole("group", { name: "Publish" })).toHaveCount(0);
  const listen = page.getByRole("group", { name: "Listen" });
  await expect(listen).toContainText(`curl -N ${new URL(server.url).host}/streams/status-1/events`);

  await signInLink(page).click();
  await expect(page).toHaveURL(`${server.url}/sign-in?to=/streams/status-1`);
  await signIn(page, secret.token("Ada", "--publish", "status-*"));
  await stream.isLive();
  await stream.composer.fill("from Ada");
  await stream.button("Send").click();
  await stream.shows([...messages(3), "from Ada"]);
  await expect(page.getByText("End this stream")).toBeVisible();
});

test("the right to watch is not the right to publish", async ({ page, context, secret, startGuarded }) => {
  const server = await startGuarded();
  await server.publish("log", "one");
  await hold(context, server, secret, secret.token("Reader", "--watch", "log"));
  const stream = await MessagePage.open(page, server, "log");
  await stream.isLive();
  await stream.shows(["one"]);
  await expect(stream.composer).toHaveCount(0);
  await expect(page.getByText("End this stream")).toHaveCount(0);

  const other = await page.goto(`${server.url}/streams/other`);
  expect(other!.status()).toBe(403);
  await expect(form(page)).toBeVisible();
  await expect(page.getByText("You are signed in as Reader")).toBeVisible();
  await expect(page.getByLabel("Token"), "no token was refused").not.toHaveAttribute("aria-invalid");
  await signIn(page, secret.token("Other", "--watch", "other"));
  await expect(page).toHaveURL(`${server.url}/streams/other`);
  await expect(page.getByRole("banner")).toContainText("Signed in as Other");
});

test("the list shows watchable streams, and the publish command only with the right to publish", async ({ page, context, secret, startGuarded }) => {
  const server = await startGuarded("--public", "status-*");
  const listed = async () => {
    await page.goto(`${server.url}/streams`);
    return page.getByRole("heading", { level: 2 }).allTextContents();
  };
  const command = page.getByRole("group", { name: "Create a stream" });
  expect(await listed()).toEqual([]);
  await expect(command).toHaveCount(0);
  for (const stream of ["ci-1", "status-1", "log"]) await server.publish(stream, "hello");
  expect(await listed()).toEqual(["status-1"]);
  await hold(context, server, secret, secret.token("Reader", "--watch", "log"));
  expect(await listed()).toEqual(["log", "status-1"]);
  await expect(command).toHaveCount(0);
  await hold(context, server, secret, secret.token("Ada", "--watch", "ci-*,log", "--publish", "ci-*"));
  expect(await listed()).toEqual(["log", "status-1", "ci-1"]);
  await expect(command).toBeVisible();
});

test("commands take the token from a variable, and the page never contains it", async ({ page, context, secret, startGuarded }) => {
  const server = await startGuarded();
  const token = secret.token("Ada", ...EVERYTHING);
  await hold(context, server, secret, token);
  const stream = await MessagePage.open(page, server, "ci-1");
  await stream.isLive();
  await page.getByText("Use a terminal").click();
  const command = await page.getByRole("group", { name: "Publish" }).locator("code").textContent();
  expect(await page.content()).not.toContain(token);
  execFileSync("sh", ["-c", command!], { env: { ...process.env, TIDINGS_TOKEN: token, no_proxy: "*" }, stdio: "ignore" });
  await stream.shows(["Hello"]);
});

test("a token that expires under an open page: no message is lost", async ({ page, context, secret, startGuarded }) => {
  const server = await startGuarded();
  await server.publish("ci-1", ...messages(3));
  await hold(context, server, secret, secret.token("Ada", ...EVERYTHING, "--expires", "20s"));
  const stream = await MessagePage.open(page, server, "ci-1");
  await stream.shows(messages(3));
  await stream.composer.fill("half a thou");
  await expect(stream.status).toHaveText("Signed out", { timeout: 60_000 });
  await stream.shows(messages(3));
  await server.publish("ci-1", ...messages(6, 4));

  // A retry without a new token has the same result.
  await stream.button("Retry now").click();
  await expect(stream.status).toHaveText("Signed out");
  await stream.shows(messages(3));

  const link = page.getByRole("main").getByRole("link", { name: "Sign in" });
  const [other] = await Promise.all([context.waitForEvent("page"), link.click()]);
  await signIn(other, secret.token("Ada", ...EVERYTHING));
  const there = new MessagePage(other);
  await there.isLive();
  await there.shows(messages(6));
  await stream.button("Retry now").click();
  await stream.isLive();
  await stream.shows(messages(6));
  await expect(link).toBeHidden();
  await expect(stream.composer).toHaveValue("half a thou");
});

test("signed out in another tab: the page says so, and resumes when it is shown with a token", async ({ page, context, secret, startGuarded }) => {
  const server = await startGuarded();
  await server.publish("ci-1", ...messages(3));
  const token = secret.token("Ada", ...EVERYTHING);
  await hold(context, server, secret, token);
  const stream = await MessagePage.open(page, server, "ci-1");
  await stream.isLive();
  const other = await context.newPage();
  await other.goto(server.url);
  await signOut(other);
  await context.setOffline(true);
  await expect(stream.status).toHaveText("Offline");
  await context.setOffline(false);
  await expect(stream.status).toHaveText("Signed out");
  await expect(stream.button("Pause")).toBeHidden();
  await server.publish("ci-1", "message 4");
  await hold(context, server, secret, token);
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange", { bubbles: true })));
  await stream.isLive();
  await stream.shows(messages(4));
});

test("the sign-in link redirects only within the site", async ({ page, secret, startGuarded }) => {
  const server = await startGuarded();
  const token = secret.token("Ada", ...EVERYTHING);
  for (const to of ["//evil.example", "https://evil.example", "/\\evil.example", "/%09/evil.example", "javascript:alert(1)"]) {
    await page.goto(`${server.url}/sign-in?to=${to}`);
    await signIn(page, token);
    await expect(page, to).toHaveURL(`${server.url}/streams`);
    await signOut(page);
  }
  await page.goto(`${server.url}/sign-in?to=/streams/ci-1%3Fbefore=1-1`);
  await signIn(page, token);
  await expect(page).toHaveURL(`${server.url}/streams/ci-1?before=1-1`);
});

test("a server without a secret has no sign-in", async ({ page, start }) => {
  const server = await start("--data", ":memory:");
  await page.goto(`${server.url}/streams`);
  await expect(page.getByRole("banner").getByRole("link")).toHaveText(["Tidings", "Streams"]);
  await expect(page.getByRole("banner").getByRole("button")).toHaveCount(0);
  await page.goto(`${server.url}/sign-in`);
  await expect(page.getByText("This server asks for no token")).toBeVisible();
  await expect(page.getByLabel("Token")).toHaveCount(0);
});
