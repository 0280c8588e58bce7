// Below a path of another host's server: nginx passes on what begins with the path.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import { EVERYTHING, MessagePage, type Server, expect, messages, nothingToFind, signIn, test, unreachable } from "../tidings.ts";

const BASE = "/tidings";
const NGINX = ["nginx", "/usr/sbin/nginx"].find((program) => spawnSync(program, ["-v"]).status === 0);
if (!NGINX) console.warn("SKIPPED: nginx is not installed, so that nothing tests --base-path behind it.");

test.skip(!NGINX, "nginx is not installed");
// A proxy that is gone, or answers 401; and the script's report of a changed page.
test.use({ mayComplain: new RegExp(`${unreachable.source}|^Tidings: the live part|preload`) });

/** nginx in front of a server: the server has one path of it, and the rest is nginx's own. */
class Proxy {
  url = "";
  private process?: ChildProcess;

  constructor(
    private readonly folder: string,
    private readonly port: number,
    server: Server,
  ) {
    mkdirSync(folder, { recursive: true });
    // The location of the configuration that is deployed, changed as its comment says.
    const deployed = readFileSync("../deploy/nginx.conf", "utf8");
    const [location] = /^        location \/ \{.*?^        \}/ms.exec(deployed)!;
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder}/${name};`);
    writeFileSync(
      `${folder}/nginx.conf`,
      `pid ${folder}/nginx.pid; events {} http {
        access_log off; ${temporary.join(" ")}
        upstream tidings { server ${new URL(server.url).host}; keepalive 32; }
        server {
          listen 127.0.0.1:${port};
          location = /other { default_type text/html; return 200 "<title>Another program</title>"; }
          ${location.replace("location / {", `location ${BASE} {`)}
        }
      }`,
    );
    this.url = `http://127.0.0.1:${port}${BASE}`;
  }

  async start(): Promise<void> {
    const log = `${this.folder}/error.log`;
    const options = ["-e", log, "-g", `daemon off; master_process off; error_log ${log};`, "-c", `${this.folder}/nginx.conf`];
    this.process = spawn(NGINX!, options, { stdio: "inherit" });
    await expect.poll(() => accepts(this.port)).toBe(true);
  }

  async stop(): Promise<void> {
    if (!this.process || this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exit = once(this.process, "exit");
    this.process.kill("SIGKILL");
    await exit;
  }
}

function accepts(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  return new Promise((resolve) => {
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
  }).then((is) => (socket.destroy(), is as boolean));
}

async function freePort(): Promise<number> {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  listener.close();
  return port;
}

const behind = test.extend<{ proxied: (server: Server) => Promise<Proxy> }>({
  proxied: async ({}, use, info) => {
    const proxies: Proxy[] = [];
    await use(async (server) => {
      const proxy = new Proxy(info.outputPath("nginx"), await freePort(), server);
      proxies.push(proxy);
      await proxy.start();
      return proxy;
    });
    await Promise.all(proxies.map((proxy) => proxy.stop()));
  },
});

const FLAGS = ["--base-path", BASE, "--trusted-proxy", "127.0.0.1/32"];

/** Every address that a page requests, except those of other programs. */
function requests(page: MessagePage["page"]): string[] {
  const paths: string[] = [];
  page.on("request", (request) => paths.push(new URL(request.url()).pathname));
  return paths;
}

behind("a visitor signs in, publishes, pages back, and misses nothing in a cut", async ({ page, secret, startGuarded, proxied }) => {
  const server = await startGuarded(...FLAGS);
  expect(server.url, "the printed address works").toMatch(/:\d+\/tidings$/);
  await server.publish("ci", ...messages(250));
  const proxy = await proxied(server);
  const paths = requests(page);

  // From the start page to the stream, by links and forms.
  await page.goto(proxy.url);
  await page.getByRole("banner").getByRole("link", { name: "Streams" }).click();
  await expect(page).toHaveURL(`${proxy.url}/streams`);
  await page.getByRole("main").getByRole("link", { name: "Sign in" }).click();
  await expect(page).toHaveURL(`${proxy.url}/sign-in?to=${BASE}/streams`);
  await signIn(page, secret.token("Ada", ...EVERYTHING));
  await expect(page).toHaveURL(`${proxy.url}/streams`);
  await page.getByRole("link", { name: "ci", exact: true }).click();
  const stream = new MessagePage(page);
  await stream.isLive();
  await expect(page).toHaveURL(`${proxy.url}/streams/ci`);
  await nothingToFind(page, "the page of a stream below a path");

  await stream.composer.fill("message 251");
  await stream.button("Send").click();
  await stream.shows(messages(251, 151));

  await proxy.stop();
  await expect(stream.status).toHaveText(/Reconnecting|Offline/);
  await server.publish("ci", "message 252");
  await proxy.start();
  await stream.isLive();
  await server.publish("ci", "message 253");
  await stream.shows(messages(253, 151));

  const older = page.getByRole("link", { name: "Older messages" });
  await older.click();
  await stream.shows(messages(253, 51));
  await older.click();
  await stream.shows(messages(253));

  // The permanent link of a message, and a page of older ones.
  await stream.rows.filter({ hasText: "message 100" }).first().getByRole("link").click();
  await expect(page).toHaveURL(new RegExp(`^${proxy.url}/streams/ci\\?at=[\\d-]+#at$`));
  await expect(page.getByRole("listitem").filter({ hasText: "message 100" }).first()).toBeInViewport();
  await page.getByRole("link", { name: "Older" }).first().click();
  await expect(page).toHaveURL(new RegExp(`^${proxy.url}/streams/ci\\?before=`));
  await page.getByRole("link", { name: "Live" }).first().click();
  await stream.isLive();

  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Sign in" })).toBeVisible();
  await expect(page).toHaveURL(`${proxy.url}/streams/ci`);
  expect(paths.filter((path) => path !== BASE && !path.startsWith(`${BASE}/`)), "no address leads elsewhere").toEqual([]);
});

behind("a page that another program changed recovers", async ({ page, start, proxied }) => {
  const server = await start(...FLAGS, "--open");
  await server.publish("ci", ...messages(3));
  const proxy = await proxied(server);
  const paths = requests(page);
  await page.route(`${proxy.url}/streams/ci`, async (route) => {
    if (route.request().resourceType() !== "document") return route.continue();
    const response = await route.fetch();
    const changed = (await response.text()).replaceAll("message 2", "<mark>message</mark> 2");
    await route.fulfill({ response, body: changed });
  });
  await page.goto(`${proxy.url}/streams/ci`);
  const stream = new MessagePage(page);
  await stream.isLive();
  await server.publish("ci", "message 4");
  await stream.shows(messages(4));
  expect(paths, "it was fetched again").toContain(`${BASE}/streams/ci`);
  expect(paths.filter((path) => !path.startsWith(`${BASE}/`)), "no address leads elsewhere").toEqual([]);
});

behind("works without scripts, and says where it is", async ({ browser, start, proxied }) => {
  const server = await start(...FLAGS, "--open");
  const proxy = await proxied(server);
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(`${proxy.url}/streams/ci`);
  const stream = new MessagePage(page);
  await stream.composer.fill("from a form");
  await stream.button("Send").click();
  await expect(page).toHaveURL(`${proxy.url}/streams/ci`);
  await stream.shows(["from a form"]);

  await page.goto(new URL("/other", proxy.url).href);
  await expect(page, "the rest of the host is not ours").toHaveTitle("Another program");
  // What the server itself says outside of its path.
  const missing = await page.goto(new URL("/streams/ci", server.url).href);
  expect(missing!.status()).toBe(404);
  await page.getByRole("main").getByRole("link", { name: "go to the counter" }).click();
  await expect(page).toHaveURL(`${server.url}/`);
  await context.close();
});
