// In a frame: pages of other sites show a stream alone, and visitors sign in there.

import { type FrameLocator, type Page } from "@playwright/test";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo } from "node:net";
import { EVERYTHING, type Server, expect, messages, nothingToFind, test, unreachable } from "../tidings.ts";

// What Chromium says about frames that are refused, a server that is gone, and a form in a frame; and the
// script's report of a changed page.
test.use({ mayComplain: new RegExp(`${unreachable.source}|frame-ancestors|preload|autofocusing|^Tidings: the live part`) });

/** A dashboard on a port of its own, below any name: `/?` and an address shows that in a frame. */
const dashboards = test.extend<{ port: number }>({
  port: async ({}, use) => {
    const server = createServer(({ url }, response) => {
      const address = decodeURIComponent(url!.split("?")[1] ?? "");
      const style = "body { margin: 0 } h1 { font: 1rem sans-serif } iframe { width: 100%; height: 20rem; border: 0 }";
      const frame = `<iframe src="${address}" name="build" title="Build"></iframe>`;
      response.setHeader("content-type", "text/html; charset=utf-8");
      response.end(`<!doctype html><html lang="en"><title>Dashboard</title><style>${style}</style><main aria-label="Dashboard"><h1>Dashboard</h1>${frame}</main>`);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    await use((server.address() as AddressInfo).port);
    server.close();
  },
});

/** Opens the dashboard at a host of its own, with an address in its frame. */
async function open(page: Page, host: string, port: number, address: string): Promise<FrameLocator> {
  await page.goto(`http://${host}:${port}/?${encodeURIComponent(address)}`);
  return page.frameLocator("iframe");
}

const texts = (frame: FrameLocator) => frame.getByRole("log").getByRole("listitem").locator("p").allTextContents();

dashboards("a page of another site shows a stream alone, live, through a cut", async ({ page, start, port, context }) => {
  const server = await start("--frame-ancestors", `http://dashboard.localhost:${port}`);
  await server.publish("ci", ...messages(3));
  const frame = await open(page, "dashboard.localhost", port, `${server.url}/streams/ci?embed`);
  await expect(frame.getByRole("status")).toHaveText("Live");
  await nothingToFind(page, "a stream in a frame");
  await server.publish("ci", "message 4");
  await expect.poll(() => texts(frame)).toEqual(messages(4));
  for (const absent of [frame.getByRole("textbox"), frame.getByRole("banner"), frame.getByRole("link", { name: "All streams" })]) {
    await expect(absent).toHaveCount(0);
  }

  // Nothing is lost in a cut, and the reader can pause here too.
  await context.setOffline(true);
  await expect(frame.getByRole("status")).toHaveText("Offline");
  await server.publish("ci", "message 5");
  await context.setOffline(false);
  await expect.poll(() => texts(frame)).toEqual(messages(5));
  await frame.getByRole("button", { name: "Pause" }).click();
  await expect(frame.getByRole("status")).toHaveText("Paused");

  // Links leave the dashboard as it is.
  const [tab] = await Promise.all([context.waitForEvent("page"), frame.getByRole("heading", { name: "ci" }).getByRole("link").click()]);
  await expect(tab).toHaveURL(`${server.url}/streams/ci`);
  await expect(page).toHaveURL(/^http:\/\/dashboard\.localhost/);
});

dashboards("a changed page in a frame recovers there", async ({ page, start, port }) => {
  const server = await start("--frame-ancestors", `http://dashboard.localhost:${port}`);
  await server.publish("ci", ...messages(3));
  let fetched = 0;
  await page.route(`${server.url}/streams/ci?embed`, async (route) => {
    if (route.request().resourceType() !== "document") {
      fetched++;
      return route.continue();
    }
    const response = await route.fetch();
    await route.fulfill({ response, body: (await response.text()).replaceAll("message 2", "<mark>message</mark> 2") });
  });
  const frame = await open(page, "dashboard.localhost", port, `${server.url}/streams/ci?embed`);
  await expect(frame.getByRole("status")).toHaveText("Live");
  await expect.poll(() => texts(frame)).toEqual(messages(3));
  expect(fetched).toBe(1);
  await expect(frame.getByRole("textbox")).toHaveCount(0);
});

dashboards("a page of a site that is not listed shows nothing", async ({ page, start, port }) => {
  const server = await start("--frame-ancestors", `http://dashboard.localhost:${port}`);
  const unlisted = await start();
  for (const [host, { url }] of [["other.localhost", server], ["dashboard.localhost", unlisted]] as [string, Server][]) {
    const refused = page.waitForEvent("console", { predicate: (message) => message.text().includes("frame-ancestors") });
    const frame = await open(page, host, port, `${url}/streams/ci?embed`);
    await refused;
    await expect(frame.getByRole("status")).toHaveCount(0);
  }
});

dashboards.describe("over TLS", () => {
  dashboards.use({ ignoreHTTPSErrors: true });

  dashboards("a visitor signs in within the frame, for pages of that site alone", async ({ page, playwright, secret, start, port }, info) => {
    const [certificate, key] = [info.outputPath("certificate.pem"), info.outputPath("key.pem")];
    const made = spawnSync("openssl", [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
      ...["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-out", certificate, "-keyout", key],
    ]);
    if (made.status !== 0) console.warn("SKIPPED: openssl is not installed, so that nothing tests --partitioned-cookies in a browser.");
    test.skip(made.status !== 0, "openssl is not installed");

    const origins = ["dashboard", "other"].map((name) => `http://${name}.localhost:${port}`);
    const server = await start(
      ...["--tls-cert", certificate, "--tls-key", key, ...secret.flags],
      ...["--frame-ancestors", origins.join(","), "--partitioned-cookies"],
    );
    const token = secret.token("Ada", ...EVERYTHING);
    const url = server.url.replace("127.0.0.1", "localhost");
    // Not the browser's requests, which have its cookies.
    const program = await playwright.request.newContext({ ignoreHTTPSErrors: true });
    const publish = async (text: string) => {
      const headers = { authorization: `Bearer ${token}` };
      expect((await program.post(`${url}/streams/ci`, { data: text, headers })).status()).toBe(201);
    };
    await publish("message 1");

    const frame = await open(page, "dashboard.localhost", port, `${url}/streams/ci?embed`);
    await expect(frame.getByRole("heading", { level: 1, name: "Sign in" })).toBeVisible();
    await expect(frame.getByRole("banner")).toHaveCount(0);
    await frame.getByLabel("Token").fill(token);
    await frame.getByRole("button", { name: "Sign in" }).click();
    await expect(frame.getByRole("status")).toHaveText("Live");
    await publish("message 2");
    await expect.poll(() => texts(frame)).toEqual(messages(2));
    await page.reload();
    await expect(frame.getByRole("status"), "the browser keeps the token").toHaveText("Live");

    // The page around the frame cannot write: with its forms the browser sends the cookie (CSRF).
    const answered = page.waitForResponse((response) => response.request().method() === "POST");
    await page.evaluate((address) => {
      const form = Object.assign(document.createElement("form"), { method: "post", action: address, target: "build" });
      form.innerHTML = '<input name="stream" value="ci"><input name="text" value="forged">';
      document.body.append(form);
      form.submit();
    }, `${url}/api/publish`);
    const answer = await answered;
    expect(answer.status()).toBe(403);
    expect((await answer.request().allHeaders())["cookie"], "it is sent").toContain("__Host-tidings-");
    const history = await program.get(`${url}/streams/ci/messages`, { headers: { authorization: `Bearer ${token}` } });
    const stored = (await history.json()) as { messages: { data: string }[] };
    expect(stored.messages.map(({ data }) => data)).toEqual(messages(2));

    // Neither another site's frame nor the server's own page has that token.
    const elsewhere = await open(page, "other.localhost", port, `${url}/streams/ci?embed`);
    await expect(elsewhere.getByRole("heading", { level: 1, name: "Sign in" })).toBeVisible();
    await page.goto(`${url}/streams/ci`);
    await expect(page.getByRole("heading", { level: 1, name: "Sign in" })).toBeVisible();
    await program.dispose();
  });
});
