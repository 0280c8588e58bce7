// Fixtures of the tests in Firefox, which Puppeteer drives by WebDriver BiDi: Playwright drives no Firefox
// but its own build.

import puppeteer, { type Browser, type Page } from "puppeteer-core";
import { Proxy } from "./proxy.ts";
import { type Server, test as base, expect } from "./tidings.ts";

interface Fixtures {
  /** A tab with cookies and storage of its own, whose console must stay free of errors. */
  tab: Page;
  /** A tab of another Firefox, in which JavaScript is off. */
  tabWithoutScripts: Page;
  /** Starts a proxy before a server, and closes it after the test. */
  startProxy: (server: Server) => Promise<Proxy>;
}

interface WorkerFixtures {
  firefox: Browser;
}

export const test = base.extend<Fixtures, WorkerFixtures>({
  firefox: [
    async ({}, use) => {
      const firefox = await launch();
      await use(firefox);
      await firefox.close();
    },
    { scope: "worker", timeout: 120_000 },
  ],
  // Depends on the servers so that they outlive it, as the pages of Chromium do.
  tab: async ({ firefox, mayComplain, start: _servers, startProxy: _proxies }, use, info) => {
    const context = await firefox.createBrowserContext();
    const tab = await context.newPage();
    const complaints: string[] = [];
    // Violations of the Content-Security-Policy are among them.
    tab.on("pageerror", (error) => complaints.push(String(error)));
    tab.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warn") complaints.push(message.text());
    });
    await tab.emulateTimezone("Asia/Kolkata");
    await use(tab);
    if (info.status !== info.expectedStatus) {
      await info.attach("screenshot", { body: Buffer.from(await tab.screenshot()), contentType: "image/png" });
    }
    await context.close();
    const unexpected = complaints.filter((text) => !mayComplain.test(text));
    expect(unexpected, "no page complains").toEqual([]);
  },
  tabWithoutScripts: async ({ start: _servers }, use) => {
    const firefox = await launch({ "javascript.enabled": false });
    await use(await firefox.newPage());
    await firefox.close();
  },
  startProxy: async ({ start: _servers }, use) => {
    const proxies: Proxy[] = [];
    await use(async (server) => {
      const proxy = await Proxy.start(server);
      proxies.push(proxy);
      return proxy;
    });
    proxies.forEach((proxy) => proxy.close());
  },
});

/** Starts a Firefox with a profile of its own. */
function launch(preferences: Record<string, boolean> = {}): Promise<Browser> {
  return puppeteer.launch({
    browser: "firefox",
    protocol: "webDriverBiDi",
    executablePath: process.env.TIDINGS_FIREFOX,
    extraPrefsFirefox: preferences,
    timeout: 90_000,
  });
}

/** A message page in Firefox, found by roles and texts. */
export class FirefoxPage {
  private constructor(private readonly tab: Page) {}

  /** Opens the page of a stream; without a name, of the counter. */
  static async open(tab: Page, { url }: Server | Proxy, stream?: string): Promise<FirefoxPage> {
    tab.setDefaultTimeout(20_000);
    await tab.goto(stream === undefined ? url : `${url}/streams/${stream}`);
    return new FirefoxPage(tab);
  }

  button(name: string) {
    return this.tab.locator(`aria/${name}[role="button"]`);
  }

  /** The text field of the composer. */
  get composer() {
    return this.tab.locator('aria/Say something[role="textbox"]');
  }

  /** The texts of the messages, oldest first. */
  texts(): Promise<string[]> {
    return this.allTexts("[role=log] li p");
  }

  /** Waits until the messages are these. */
  async shows(texts: string[]): Promise<void> {
    await expect.poll(() => this.texts()).toEqual(texts);
  }

  /** Waits until the page shows this state. */
  async is(state: string): Promise<void> {
    await expect.poll(() => this.allTexts("[role=status]"), { timeout: 60_000 }).toEqual([state]);
  }

  /** Waits until the page shows this text. */
  async says(text: string | RegExp): Promise<void> {
    await expect.poll(() => this.tab.evaluate(() => document.body.innerText)).toMatch(text);
  }

  /** The texts of the visible elements. Evaluated at once, since promises do not settle without scripts. */
  allTexts(selector: string): Promise<string[]> {
    return this.tab.evaluate((selector) => {
      const visible = [...document.querySelectorAll(selector)].filter((element) => element.checkVisibility());
      return visible.map((element) => element.textContent!);
    }, selector);
  }
}

export { expect };
