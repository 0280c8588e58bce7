// What a test has at hand: the server as it is deployed, and pages that must not complain.

import { AxeBuilder } from "@axe-core/playwright";
import { test as base, expect, type Page } from "@playwright/test";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

const program = process.env.TIDINGS_SERVER ?? resolve("../target/release/tidings");

/** A server process on a port of its own. */
export class Server {
  url = "";
  /** The token that the calls below show, where the server asks for one. */
  token?: string;
  private process!: ChildProcess;

  private constructor(private readonly flags: string[]) {}

  static async start(...flags: string[]): Promise<Server> {
    const server = new Server(flags);
    await server.listen("127.0.0.1:0");
    return server;
  }

  private async listen(address: string): Promise<void> {
    this.process = spawn(program, ["--listen", address, ...this.flags], {
      stdio: ["ignore", "pipe", "inherit"],
      // Flags win: a test that stops its server and starts it again names a file.
      env: { TIDINGS_LOG: "error", TIDINGS_DATA: ":memory:" },
    });
    const lines = createInterface({ input: this.process.stdout! });
    const exit = once(this.process, "exit").then(([code]) => {
      throw new Error(`the server ended with ${code} before it said where it is`);
    });
    const [line] = (await Promise.race([once(lines, "line"), exit])) as [string];
    exit.catch(() => {});
    this.url = line.replace("Tidings is at ", "");
  }

  /** Stops the process: SIGKILL is a crash, SIGTERM a deploy. */
  async stop(signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exit = once(this.process, "exit");
    this.process.kill(signal);
    await exit;
  }

  /** Starts it again where it was. */
  async startAgain(): Promise<void> {
    await this.listen(new URL(this.url).host);
  }

  /** Publishes messages, one after the other; gives their ids. */
  async publish(stream: string, ...texts: string[]): Promise<string[]> {
    const ids: string[] = [];
    for (const text of texts) {
      const response = await this.ask("POST", `/streams/${stream}`, text);
      ids.push(((await response.json()) as { id: string }).id);
    }
    return ids;
  }

  async end(stream: string, text?: string): Promise<void> {
    await this.ask("POST", `/streams/${stream}/end`, text);
  }

  async delete(stream: string): Promise<void> {
    await this.ask("DELETE", `/streams/${stream}`);
  }

  private async ask(method: string, path: string, body?: string): Promise<Response> {
    const headers: HeadersInit = this.token === undefined ? {} : { authorization: `Bearer ${this.token}` };
    const response = await fetch(this.url + path, { method, body, headers });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response;
  }

  async openStreams(): Promise<number> {
    const ready = await fetch(`${this.url}/health/ready`);
    return ((await ready.json()) as { open_streams: number }).open_streams;
  }
}

/** What tokens are made with. */
export class Secret {
  /** What tells a server of it. */
  readonly flags: string[];
  /** The name of the cookie in which browsers keep a token, over plain HTTP. */
  readonly cookie: string;

  constructor(file: string) {
    const secret = randomBytes(32).toString("hex");
    writeFileSync(file, secret);
    this.flags = ["--secret-file", file];
    this.cookie = `tidings-${createHmac("sha256", secret).update("cookie").digest("base64url").slice(0, 4)}`;
  }

  /** Makes a token with the program itself. */
  token(name: string, ...flags: string[]): string {
    const env = { TIDINGS_LOG: "error" };
    return execFileSync(program, ["token", ...this.flags, "--for", name, ...flags], { encoding: "utf8", env }).trim();
  }
}

/** What lets its holder do everything. */
export const EVERYTHING = ["--publish", "*", "--watch", "*"];

interface Fixtures {
  /** A secret of this test's. */
  secret: Secret;
  /** Starts a server that asks for tokens, and whose own calls show one that is good for everything. */
  startGuarded: (...flags: string[]) => Promise<Server>;
  /** Starts servers, and stops them after the test. */
  start: (...flags: string[]) => Promise<Server>;
  /** What a page may say on the console; whatever else it says fails the test. */
  mayComplain: RegExp;
}

export const test = base.extend<Fixtures>({
  start: async ({}, use) => {
    const servers: Server[] = [];
    await use(async (...flags) => {
      const server = await Server.start(...flags);
      servers.push(server);
      return server;
    });
    await Promise.all(servers.map((server) => server.stop()));
  },
  secret: async ({}, use, info) => {
    mkdirSync(info.outputDir, { recursive: true });
    await use(new Secret(info.outputPath("secret")));
  },
  startGuarded: async ({ start, secret }, use) => {
    await use(async (...flags) => {
      const server = await start("--data", ":memory:", ...secret.flags, ...flags);
      server.token = secret.token("the test", ...EVERYTHING);
      return server;
    });
  },
  mayComplain: [/^$/, { option: true }],
  // It asks for the servers so that they outlive it: a page whose server is gone rightly complains.
  context: async ({ context, mayComplain, start: _servers }, use) => {
    const complaints: string[] = [];
    context.on("weberror", (error) => complaints.push(error.error().message));
    context.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
    });
    await use(context);
    const unexpected = complaints.filter((text) => !mayComplain.test(text));
    expect(unexpected, "no page complains").toEqual([]);
  },
});

export { expect };

/** What a browser says of a server that is not there, and of an answer that is an error. */
export const unreachable = /^Failed to load resource: /;

/** That nothing on the page keeps anyone from using it. */
export async function nothingToFind(page: Page, state: string): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html)}`), state).toEqual([]);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  expect(wide, `${state}: nothing scrolls sideways`).toBe(false);
}

/** Fills in the form to sign in, and sends it. */
export async function signIn(page: Page, token: string): Promise<void> {
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** Keeps the page as the server wrote it, until what this gives back is called. */
export async function holdHydration(page: Page): Promise<() => void> {
  let letGo = () => {};
  const held = new Promise<void>((resolve) => (letGo = resolve));
  await page.route("**/*.wasm", async (route) => {
    await held;
    await route.continue();
  });
  return letGo;
}

/** A run that no test outlasts. */
export const ENDLESS = ["--counter-count", "1000000"];

/** What a page without scripts complains of: that what is preloaded for them is in vain. */
export const idlePreload = /was preloaded using link preload but not used/;

/** "message 1" to "message n". */
export function messages(n: number, from = 1): string[] {
  return Array.from({ length: n - from + 1 }, (_, i) => `message ${from + i}`);
}

/** "Counter value 1" to "Counter value n". */
export function values(n: number, from = 1): string[] {
  return Array.from({ length: n - from + 1 }, (_, i) => `Counter value ${from + i}`);
}

/** Makes the page believe that its tab is hidden, or shown. */
export async function show(page: Page, visibilityState: "visible" | "hidden"): Promise<void> {
  await page.evaluate((state) => {
    Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
    document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
  }, visibilityState);
}

/** A message page, by what a person finds on it. */
export class MessagePage {
  readonly log;
  readonly rows;
  readonly status;

  constructor(readonly page: Page) {
    this.log = page.getByRole("log", { name: "Messages" });
    this.rows = this.log.getByRole("listitem");
    this.status = page.getByRole("status");
  }

  /** Opens the page of a stream; without a name, the counter's. */
  static async open(page: Page, server: Server, stream?: string): Promise<MessagePage> {
    await page.goto(stream === undefined ? server.url : `${server.url}/streams/${stream}`);
    return new MessagePage(page);
  }

  async isLive(): Promise<void> {
    await expect(this.status).toHaveText("Live");
  }

  /** The field in which a message is written. */
  get composer() {
    return this.page.getByRole("textbox", { name: "Say something" });
  }

  button(name: string | RegExp) {
    return this.page.getByRole("button", { name });
  }

  /** The texts of the messages, oldest first. */
  async texts(): Promise<string[]> {
    return this.rows.locator("p").allTextContents();
  }

  /** Waits until the messages are these. */
  async shows(texts: string[]): Promise<void> {
    await expect.poll(() => this.texts()).toEqual(texts);
  }

  async reaches(text: string): Promise<void> {
    await expect(this.rows.filter({ hasText: new RegExp(`^[\\d:]*${text}$`) })).toBeVisible();
  }

  async ends(): Promise<void> {
    await expect(this.status).toHaveText("Ended", { timeout: 60_000 });
  }
}
