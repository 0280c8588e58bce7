// Page benchmark: bytes loaded, and processor time in a browser.

import { type CDPSession, type Page } from "@playwright/test";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { expect, MessagePage, show, test } from "../tidings.ts";

const RUNS = Number(process.env.RUNS ?? 5);
const SILENCE_MS = 60_000;
/** Clock ticks per second, the unit in which Linux counts processor time. */
const TICKS = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

/** Prints the median of each figure, and its range. */
function report(title: string, runs: Record<string, number>[]): void {
  console.log(`\n${title}: median (range) of ${runs.length}`);
  for (const name of Object.keys(runs[0]!)) {
    const values = runs.map((run) => run[name]!).sort((one, other) => one - other);
    const [median, least, most] = [values[values.length >> 1]!, values[0]!, values.at(-1)!].map((n) => n.toFixed(1));
    console.log(`  ${name.padEnd(44)}${median!.padStart(8)}  (${least} to ${most})`);
  }
}

/** The processor time of the main thread so far, in ms. */
async function mainThread(cdp: CDPSession): Promise<Record<string, number>> {
  const { metrics } = await cdp.send("Performance.getMetrics");
  const of = (name: string) => 1000 * metrics.find((metric) => metric.name === name)!.value;
  return {
    "main thread, ms": of("TaskDuration"),
    "of it scripts and wasm, ms": of("ScriptDuration"),
    "of it layout, ms": of("LayoutDuration"),
    "of it style, ms": of("RecalcStyleDuration"),
  };
}

/** The processor time of all browser processes below this one, in ms. */
function browserTime(): number {
  const processes = new Map<number, { parent: number; ticks: number; isBrowser: boolean }>();
  for (const id of readdirSync("/proc").map(Number).filter(Number.isInteger)) {
    try {
      const fields = readFileSync(`/proc/${id}/stat`, "utf8").replace(/^.*\) /, "").split(" ");
      const isBrowser = /chrom/i.test(readFileSync(`/proc/${id}/cmdline`, "utf8"));
      processes.set(id, { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]), isBrowser });
    } catch {
      // The process has ended meanwhile.
    }
  }
  const isBelow = (id: number): boolean => {
    const parent = processes.get(id)?.parent;
    return parent !== undefined && (parent === process.pid || isBelow(parent));
  };
  const counted = [...processes].filter(([id, { isBrowser }]) => isBrowser && isBelow(id));
  return (1000 / TICKS) * counted.reduce((sum, [, { ticks }]) => sum + ticks, 0);
}

async function measured(page: Page): Promise<CDPSession> {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
  return cdp;
}

test("the counter", async ({ browser, start }) => {
  const server = await start();
  const runs: Record<string, number>[] = [];
  for (let run = 0; run < RUNS; run++) {
    const page = await browser.newPage();
    const cdp = await measured(page);
    await cdp.send("Network.enable");
    const types = new Map<string, string>();
    const bytes: Record<string, number> = {};
    cdp.on("Network.responseReceived", ({ requestId, type, response }) => {
      types.set(requestId, response.mimeType === "application/wasm" ? "wasm" : type.toLowerCase());
    });
    cdp.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
      const type = types.get(requestId);
      if (type !== "eventsource") bytes[`${type}, kB`] = (bytes[`${type}, kB`] ?? 0) + encodedDataLength / 1000;
    });
    await page.goto(server.url);
    // No query to the page meanwhile: it would be counted.
    await new Promise((resolve) => setTimeout(resolve, 21_500));
    const spent = await mainThread(cdp);
    await expect(new MessagePage(page).status).toHaveText("Ended");
    const painted = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]!.startTime);
    const total = Object.values(bytes).reduce((sum, part) => sum + part, 0);
    runs.push({ requests: types.size, ...bytes, "all without the events, kB": total, "first painted, ms": painted, ...spent });
    await page.close();
  }
  report("The counter, 20 messages", runs);
});

test("a minute of silence", async ({ browser, start }) => {
  const server = await start();
  await server.publish("quiet", "the only message");
  for (const state of ["visible", "hidden"] as const) {
    const page = await browser.newPage();
    const cdp = await measured(page);
    await page.goto(`${server.url}/streams/quiet`);
    await expect(new MessagePage(page).status).toHaveText("Live");
    // A headless browser hides no tab, so simulate it.
    await show(page, state);
    // On HTTP/1.1 a hidden page closes its connection after ten seconds: wait until after that.
    await new Promise((resolve) => setTimeout(resolve, 15_000));
    const before = { ...(await mainThread(cdp)), "the whole browser, ms": browserTime() };
    await new Promise((resolve) => setTimeout(resolve, SILENCE_MS));
    const after: Record<string, number> = { ...(await mainThread(cdp)), "the whole browser, ms": browserTime() };
    const spent = Object.entries(before).map(([name, value]) => [name, after[name]! - value]);
    report(`A minute of silence, ${state}`, [Object.fromEntries(spent)]);
    await page.close();
  }
});

test("a filter over 100,000 messages", async ({ browser, start }) => {
  const server = await start("--publish-rate", "0", "--read-rate", "0");
  const lines = Array.from({ length: 100_000 }, (_, n) => `2026-11-26T19:00:00Z \x1b[32mINFO\x1b[0m request ${n} took ${n % 40} ms at node-${n % 7}`);
  lines[0] = "the needle";
  await fetch(`${server.url}/streams/long?lines`, { method: "POST", body: lines.join("\n") });
  const runs: Record<string, number>[] = [];
  for (let run = 0; run < RUNS; run++) {
    const times: Record<string, number> = {};
    const timed = async (name: string, task: () => Promise<unknown>) => {
      const begin = performance.now();
      await task();
      times[`${name}, ms`] = performance.now() - begin;
    };
    let requests = 0;
    await timed("the API, until it is done", async () => {
      for (let before: string | null = "latest"; before; requests++) {
        const answer: Response = await fetch(`${server.url}/streams/long/messages?before=${before}&contains=needle`);
        before = ((await answer.json()) as { next: string | null }).next;
      }
    });
    const page = await browser.newPage();
    await page.goto(`${server.url}/streams/long`);
    const stream = new MessagePage(page);
    await expect(stream.status).toHaveText("Live");
    for (let i = 0; i < 4; i++) {
      await page.getByRole("link", { name: "Older messages" }).click();
      await expect(stream.rows.locator("p")).toHaveCount(200 + 100 * i);
    }
    await stream.log.press("/");
    const box = page.getByRole("searchbox", { name: "Find" });
    await expect(box).toBeFocused();
    const cdp = await measured(page);
    const before = await mainThread(cdp);
    await page.keyboard.type("node-3 -9");
    await expect(page.getByText(/^\d+ of 500 shown$/).first()).toBeVisible();
    const after = await mainThread(cdp);
    times["9 keys on 500 rows: main thread, ms"] = after["main thread, ms"]! - before["main thread, ms"]!;
    await box.fill("needle");
    await timed("the page, until it shows the hit", async () => {
      await page.keyboard.press("Enter");
      await expect(page.getByText(/^1 found in 99500 older messages\./).first()).toBeVisible();
    });
    runs.push({ requests, ...times });
    await page.close();
  }
  report("A filter over 100,000 messages", runs);
});
