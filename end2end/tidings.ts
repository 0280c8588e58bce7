// Test fixtures: the server as it is deployed, and pages whose console must stay free of errors.

import { AxeBuilder } from "@axe-core/playwright";
import { test as base, expect, type Page } from "@playwright/test";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

const program = process.env.TIDINGS_SERVER ?? newestBuild();

/** The server that was built last, by `cargo leptos end-to-end` with or without `--release`. */
function newestBuild(): string {
  const builds = ["release", "debug"].map((profile) => resolve(`../target/${profile}/tidings`));
  const built = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return builds.reduce((one, other) => (built(other) > built(one) ? other : one));
}

/** A server process on a free port. */
export class Server {
  url = "";
  /** The token that the calls below send, if the server asks for one. */
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
      // Flags override these: a test that restarts its server names a file.
      env: { TIDINGS_LOG: "error", TIDINGS_DATA: ":memory:" },
    });
    const lines = createInterface({ input: this.process.stdout! });
    const exit = once(this.process, "exit").then(([code]) => {
      throw new Error(`the server exited with ${code} before it printed its address`);
    });
    const [line] = (await Promise.race([once(lines, "line"), exit])) as [string];
    exit.catch(() => {});
    this.url = line.replace("Tidings is at ", "");
  }

  /** Stops the process: SIGKILL is a crash, SIGTERM a graceful shutdown. */
  async stop(signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exit = once(this.process, "exit");
    this.process.kill(signal);
    await exit;
  }

  /** Starts it again at the same address. */
  async startAgain(): Promise<void> {
    await this.listen(new URL(this.url).host);
  }

  /** Publishes messages, one after the other; returns their ids. */
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

/** The secret that signs tokens. */
export class Secret {
  /** The flags of a server with this secret. */
  readonly flags: string[];
  /** The name of the token cookie over plain HTTP. */
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

/** The flags of a token with all rights. */
export const EVERYTHING = ["--publish", "*", "--watch", "*"];

interface Fixtures {
  /** The secret of this test. */
  secret: Secret;
  /** Starts a server that asks for tokens, with a token of all rights for its own calls. */
  startGuarded: (...flags: string[]) => Promise<Server>;
  /** Starts servers, and stops them after the test. */
  start: (...flags: string[]) => Promise<Server>;
  /** Console errors and warnings that are expected; any other fails the test. */
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
  // Depends on the servers so that they outlive it: a page whose server is gone rightly complains.
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

/** The console message for an unreachable server, and for an error response. */
export const unreachable = /^Failed to load resource: /;

/** Checks accessibility: no axe violations, and no horizontal scrolling. */
export async function nothingToFind(page: Page, state: string): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html)}`), state).toEqual([]);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  expect(wide, `${state}: no horizontal scrolling`).toBe(false);
}

/** Fills in the sign-in form and submits it. */
export async function signIn(page: Page, token: string): Promise<void> {
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** Keeps the page as the server rendered it, until the returned function is called. */
export async function holdHydration(page: Page): Promise<() => void> {
  let letGo = () => {};
  const held = new Promise<void>((resolve) => (letGo = resolve));
  await page.route("**/*.wasm", async (route) => {
    await held;
    await route.continue();
  });
  return letGo;
}

/** A counter run that is longer than any test. */
export const ENDLESS = ["--counter-count", "1000000"];

/** The console warning of a page without scripts: preloaded files are not used. */
export const idlePreload = /was preloaded using link preload but not used/;

/** "message 1" to "message n". */
export function messages(n: number, from = 1): string[] {
  return Array.from({ length: n - from + 1 }, (_, i) => `message ${from + i}`);
}

/** "Counter value 1" to "Counter value n". */
export function values(n: number, from = 1): string[] {
  return Array.from({ length: n - from + 1 }, (_, i) => `Counter value ${from + i}`);
}

/** Simulates that the tab is hidden, or shown. */
export async function show(page: Page, visibilityState: "visible" | "hidden"): Promise<void> {
  await page.evaluate((state) => {
    Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
    document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
  }, visibilityState);
}

/** Runs in a page before its scripts: makes the wasm fail when it takes the tenth message. */
export function trapInTenthMessage(): void {
  let taken = 0;
  const id = Object.getOwnPropertyDescriptor(MessageEvent.prototype, "lastEventId")!.get!;
  Object.defineProperty(MessageEvent.prototype, "lastEventId", {
    get() {
      // Thrown through the wasm, like a trap: the state of the wasm stays as it was at that moment.
      if (++taken === 10) throw new Error("planted");
      return id.call(this);
    },
  });
}

/** A message page, found by roles and texts. */
export class MessagePage {
  readonly log;
  readonly rows;
  readonly status;

  constructor(readonly page: Page) {
    this.log = page.getByRole("log", { name: "Messages" });
    this.rows = this.log.getByRole("listitem");
    this.status = page.getByRole("status");
  }

  /** Opens the page of a stream; without a name, of the counter. */
  static async open(page: Page, server: Server, stream?: string): Promise<MessagePage> {
    await page.goto(stream === undefined ? server.url : `${server.url}/streams/${stream}`);
    return new MessagePage(page);
  }

  async isLive(): Promise<void> {
    await expect(this.status).toHaveText("Live");
  }

  /** The text field of the composer. */
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
