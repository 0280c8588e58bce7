// Recovery from page changes by other programs: extensions, translators, proxies, phones that turn
// numbers into links. Each page ends live and equal to the log, or says that it is not live.

import { type Page } from "@playwright/test";
import { MessagePage, type Server, expect, holdHydration, messages, test, trapInTenthMessage } from "../tidings.ts";

// Expected messages: the page's script logs what failed, the browser logs traps and blocked files.
test.use({ mayComplain: /^Tidings: the live part|^Failed to load resource|unreachable|preload|WebAssembly|Script|planted/ });

/** Messages with a phone number and an address, which other programs turn into links. */
const FIRST = ["555-123-4567 called", "write to 7 Main Street"];

/** The page of a stream with two messages, changed by a script before hydration. */
async function changedBefore(page: Page, server: Server, change: () => void): Promise<MessagePage> {
  await server.publish("news", ...FIRST);
  const letGo = await holdHydration(page);
  const news = await MessagePage.open(page, server, "news");
  await page.evaluate(change);
  letGo();
  return news;
}

/** Checks that the page is live: it shows the log and new messages, and its buttons work. */
async function isAlive(news: MessagePage, server: Server, said: string[]): Promise<void> {
  await expect(news.status).toHaveText("Live", { timeout: 60_000 });
  await server.publish("news", "what comes");
  await news.shows([...said, "what comes"]);
  await news.button("Pause").click();
  await expect(news.status).toHaveText("Paused");
  await server.publish("news", "in the pause");
  await expect(news.page.getByText("1 waiting")).toBeVisible();
  await news.button("Resume").click();
  await expect(news.status).toHaveText("Live");
  await news.shows([...said, "what comes", "in the pause"]);
  await expect(news.page.getByText(`${said.length + 2} messages`, { exact: true })).toBeVisible();
  // Failed instances of the page hold no connection.
  await expect.poll(() => server.openStreams()).toBe(1);
}

/** Checks that the page shows only "Not live" as its state, and holds no connection. */
async function saysThatItIsDead(news: MessagePage, server: Server): Promise<void> {
  await expect(news.status).toHaveText("Not live", { timeout: 60_000 });
  await expect(news.page.getByText(/^(Live|Connecting)$/)).toBeHidden();
  await expect(news.page.getByRole("link", { name: "Reload the page" })).toBeVisible();
  await expect.poll(() => server.openStreams()).toBe(0);
}

const before: Record<string, () => void> = {
  "an attribute on every element": () => {
    for (const element of document.querySelectorAll("*")) element.setAttribute("data-extension", "1");
  },
  "a number turned into a link, at the start of a message": () => {
    const text = document.querySelector(".message p")!.firstChild as Text;
    const rest = text.splitText(12);
    const link = document.createElement("a");
    link.href = "tel:5551234567";
    text.replaceWith(link);
    link.append(text);
    rest.parentElement!.normalize();
  },
  "an address turned into a link, in the middle of a message": () => {
    const text = document.querySelectorAll(".message p")[1]!.firstChild as Text;
    const middle = text.splitText(9);
    middle.splitText(6);
    const link = document.createElement("a");
    middle.replaceWith(link);
    link.append(middle);
  },
  "a word marked, at the end of a message": () => {
    const text = document.querySelector(".message p")!.firstChild as Text;
    const end = text.splitText(13);
    const mark = document.createElement("mark");
    end.replaceWith(mark);
    mark.append(end);
  },
  "every text translated": () => {
    const texts = document.createTreeWalker(document.querySelector("main")!, NodeFilter.SHOW_TEXT);
    const found: Text[] = [];
    while (texts.nextNode()) found.push(texts.currentNode as Text);
    for (const text of found.filter((text) => text.parentElement!.localName !== "script")) {
      const [outer, inner] = [document.createElement("font"), document.createElement("font")];
      text.replaceWith(outer);
      outer.append(inner);
      inner.append(text);
    }
  },
  "comments removed": () => {
    const comments = document.createTreeWalker(document.body, NodeFilter.SHOW_COMMENT);
    const found: Comment[] = [];
    while (comments.nextNode()) found.push(comments.currentNode as Comment);
    for (const comment of found) comment.remove();
  },
  "white space between elements": () => {
    for (const element of document.querySelectorAll("main *")) element.before(document.createTextNode("\n  "));
  },
  "texts split": () => {
    for (const said of document.querySelectorAll(".message p")) (said.firstChild as Text).splitText(3);
  },
  "an element inserted first in the live part": () => {
    document.querySelector(".live")!.prepend(document.createElement("div"));
  },
  "an element of the same kind inserted first in the live part": () => {
    const figure = document.querySelector(".chart-frame")!;
    figure.before(figure.cloneNode(true));
  },
  "an element inserted last in the live part": () => {
    document.querySelector(".live")!.append(document.createElement("aside"));
  },
  "an element inserted beside the text area": () => {
    document.querySelector("textarea")!.after(document.createElement("grammar-checker"));
  },
  "a row inserted between the rows": () => {
    const row = document.querySelector(".message")!;
    row.after(row.cloneNode(true));
  },
  "a row removed": () => document.querySelector(".message")!.remove(),
  "the status line removed": () => document.querySelector(".live .status")!.remove(),
  "the snapshot removed": () => document.getElementById("snapshot")!.remove(),
  "all content wrapped": () => {
    const main = document.querySelector("main")!;
    const reader = document.createElement("div");
    reader.append(...main.childNodes);
    main.append(reader);
  },
  "the whole live part removed": () => document.querySelector("main")!.remove(),
};

for (const [name, change] of Object.entries(before)) {
  test(`before hydration: ${name}`, async ({ page, start }) => {
    const server = await start();
    const news = await changedBefore(page, server, change);
    await isAlive(news, server, FIRST);
  });
}

const after: Record<string, () => void> = {
  "every text translated": before["every text translated"]!,
  "an attribute on every element": before["an attribute on every element"]!,
  "comments removed": before["comments removed"]!,
  "a row removed": () => document.querySelector(".message")!.remove(),
  "the rows replaced by a copy": () => {
    for (const list of document.querySelectorAll(".log ol")) list.replaceWith(list.cloneNode(true));
  },
  "the status line replaced by a copy": () => {
    const status = document.querySelector(".live .status")!;
    status.replaceWith(status.cloneNode(true));
  },
  "the log removed": () => document.querySelector(".log")!.remove(),
  "the live part replaced by a copy": () => {
    const live = document.querySelector(".live")!;
    live.replaceWith(live.cloneNode(true));
  },
};

for (const [name, change] of Object.entries(after)) {
  test(`after hydration: ${name}`, async ({ page, start }) => {
    const server = await start();
    await server.publish("news", ...FIRST);
    await page.clock.install();
    const news = await MessagePage.open(page, server, "news");
    await news.isLive();
    await page.waitForFunction(() => document.documentElement.dataset.hydration === "done");
    await page.evaluate(change);
    // Until after the next heartbeats.
    for (let seconds = 0; seconds < 40; seconds++) await page.clock.runFor(1_000);
    await page.clock.resume();
    if (name === "every text translated") {
      // Old messages stay translated; the rest of the page stays live.
      await server.publish("news", "what comes");
      await news.reaches("what comes");
      await news.button("Pause").click();
      await expect(news.status).toHaveText("Paused");
      await news.button("Resume").click();
      await expect(news.status).toHaveText("Live");
      await expect(page.getByText("3 messages", { exact: true })).toBeVisible();
    } else {
      await isAlive(news, server, FIRST);
    }
  });
}

test("a full window of rows replaced by a copy", async ({ page, start }) => {
  const server = await start("--publish-rate", "0");
  await page.clock.install();
  const news = await MessagePage.open(page, server, "news");
  await news.isLive();
  await server.publish("news", ...messages(520));
  await news.shows(messages(520, 21));
  await page.evaluate(() => {
    for (const list of document.querySelectorAll(".log ol")) list.replaceWith(list.cloneNode(true));
  });
  for (let seconds = 0; seconds < 40; seconds++) await page.clock.runFor(1_000);
  await page.clock.resume();
  await news.isLive();
  await server.publish("news", "what comes");
  await news.reaches("what comes");
});

test("a trap in the tenth message: no message is lost, draft and focus stay", async ({ page, start }) => {
  const server = await start();
  await server.publish("news", ...FIRST);
  await page.addInitScript(trapInTenthMessage);
  const news = await MessagePage.open(page, server, "news");
  await news.isLive();
  await news.composer.fill("half written");
  await news.composer.evaluate((box: HTMLTextAreaElement) => box.setSelectionRange(4, 4));
  await server.publish("news", ...messages(12));
  await news.shows([...FIRST, ...messages(12)]);
  await expect(news.composer).toHaveValue("half written");
  await expect(news.composer).toBeFocused();
  expect(await news.composer.evaluate((box: HTMLTextAreaElement) => box.selectionStart)).toBe(4);
  await news.composer.fill("");
  await isAlive(news, server, [...FIRST, ...messages(12)]);
});

test("a wasm that traps in every message: the page says so, and reading and sending still work", async ({ page, start }) => {
  const server = await start();
  await server.publish("news", ...FIRST);
  await page.addInitScript(() => {
    Object.defineProperty(MessageEvent.prototype, "lastEventId", {
      get() {
        throw new Error("planted");
      },
    });
  });
  const news = await MessagePage.open(page, server, "news");
  await news.isLive();
  // A recovered page shows this message, until the next one makes it trap again.
  await expect(async () => {
    await server.publish("news", "another");
    await page.waitForTimeout(500);
    expect(await page.evaluate(() => [document.documentElement.dataset.hydration, "tidings" in window])).toEqual(["failed", true]);
    await page.waitForTimeout(11_000);
    expect(await page.evaluate(() => document.documentElement.dataset.hydration)).toBe("failed");
  }).toPass({ timeout: 80_000 });
  await saysThatItIsDead(news, server);
  await news.composer.fill("by the form itself");
  await news.button("Send").click();
  await page.waitForURL("**/streams/news");
  await news.reaches("by the form itself");
});

test("a page that stops answering says so", async ({ page, start }) => {
  const server = await start();
  await server.publish("news", ...FIRST);
  await page.clock.install();
  // The heartbeat of the page's script never reaches the wasm.
  await page.addInitScript(() => {
    addEventListener("tidings:heartbeat", (event) => sessionStorage.getItem("stalled") && event.stopImmediatePropagation(), true);
  });
  const news = await MessagePage.open(page, server, "news");
  await news.isLive();
  await page.evaluate(() => sessionStorage.setItem("stalled", "1"));
  for (let seconds = 0; seconds < 40; seconds++) await page.clock.runFor(1_000);
  await page.clock.resume();
  await saysThatItIsDead(news, server);
});

for (const [name, broken] of [
  ["is not delivered", { status: 404 }],
  ["is cut short", { status: 200, contentType: "application/wasm", body: Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0]) }],
  ["is another file", { status: 200, contentType: "text/html", body: "<h1>Sign in to the network</h1>" }],
] as const) {
  test(`a wasm that ${name}: the page says that it is not live, until the wasm loads`, async ({ page, start }) => {
    const server = await start();
    await server.publish("news", ...FIRST);
    await page.route("**/*.wasm", (route) => route.fulfill(broken));
    const news = await MessagePage.open(page, server, "news");
    await saysThatItIsDead(news, server);
    expect(await news.texts()).toEqual(FIRST);
    await page.unroute("**/*.wasm");
    // Either the page has recovered by itself by now, or the link reloads it.
    await page.getByRole("link", { name: "Reload the page" }).click({ timeout: 2_000 }).catch(() => {});
    await isAlive(news, server, FIRST);
  });
}

test("a wasm that loads at the second attempt", async ({ page, start }) => {
  const server = await start();
  await server.publish("news", ...FIRST);
  await page.route("**/*.wasm", (route) => route.abort(), { times: 2 });
  const news = await MessagePage.open(page, server, "news");
  await isAlive(news, server, FIRST);
});

test("a module that is blocked", async ({ page, start }) => {
  const server = await start();
  await server.publish("news", ...FIRST);
  await page.route("**/pkg/*.js*", (route) => route.abort());
  const news = await MessagePage.open(page, server, "news");
  await saysThatItIsDead(news, server);
});

test("a browser without WebAssembly", async ({ page, start }) => {
  const server = await start();
  await server.publish("news", ...FIRST);
  await page.addInitScript(() => Reflect.deleteProperty(window, "WebAssembly"));
  const news = await MessagePage.open(page, server, "news");
  await saysThatItIsDead(news, server);
});

test("a wasm that loads late: the page says after a while that it is not live, and is live once it has loaded", async ({ page, start }) => {
  const server = await start();
  await server.publish("news", ...FIRST);
  const letGo = await holdHydration(page);
  const news = await MessagePage.open(page, server, "news");
  await expect(news.status).toHaveText("Connecting");
  await saysThatItIsDead(news, server);
  letGo();
  await isAlive(news, server, FIRST);
});

/** Rewrites pages, and no other responses, like a proxy. */
async function rewritePages(page: Page, rewrite: (html: string) => string): Promise<void> {
  await page.route("**/streams/*", async (route) => {
    const response = await route.fetch();
    const isPage = response.headers()["content-type"]?.startsWith("text/html") ?? false;
    await (isPage ? route.fulfill({ response, body: rewrite(await response.text()) }) : route.fulfill({ response }));
  });
}

test("a proxy that rewrites pages", async ({ page, start }) => {
  const server = await start();
  await server.publish("news", ...FIRST);
  await rewritePages(page, (html) => html.replaceAll(/(?<=<p dir="auto">[^<]*)\d+/g, "<a href='/'>$&</a>"));
  const news = await MessagePage.open(page, server, "news");
  await isAlive(news, server, FIRST);
});

for (const [name, script] of [
  ["a proxy that removes the scripts", /<script(?! id="snapshot")[\s\S]*?<\/script>/g],
  ["a browser without modules", /<script id="loader"[\s\S]*?<\/script>/g],
] as const) {
  test(name, async ({ page, start }) => {
    const server = await start();
    await server.publish("news", ...FIRST);
    await rewritePages(page, (html) => html.replaceAll(script, "").replace("<script nomodule", "<script"));
    const news = await MessagePage.open(page, server, "news");
    await saysThatItIsDead(news, server);
  });
}

test("the page of a stream that was deleted meanwhile recovers, empty", async ({ page, start }) => {
  const server = await start();
  await server.publish("news", ...FIRST);
  const letGo = await holdHydration(page);
  const news = await MessagePage.open(page, server, "news");
  await page.evaluate(() => document.querySelector(".live")!.prepend(document.createElement("div")));
  await server.delete("news");
  letGo();
  await isAlive(news, server, []);
});

test("the counter page recovers too", async ({ page, start }) => {
  const server = await start("--counter-delay", "300ms");
  const letGo = await holdHydration(page);
  const counter = await MessagePage.open(page, server);
  await page.evaluate(() => document.querySelector(".live")!.prepend(document.createElement("div")));
  letGo();
  await counter.ends();
  expect(await counter.texts()).toHaveLength(21);
});
