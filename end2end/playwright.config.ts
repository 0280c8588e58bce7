import { defineConfig } from "@playwright/test";

// Chromium must not look for the network it may not have, and as root it has no sandbox.
const args = [
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-quic",
  "--disable-sync",
  "--no-first-run",
];
if (process.getuid?.() === 0) args.push("--no-sandbox");

export default defineConfig({
  testDir: "tests",
  // It compares what two builders make: only `cargo xtask test` has both.
  testIgnore: process.env.TIDINGS_LEPTOS_SITE ? [] : "site.spec.ts",
  fullyParallel: true,
  // Each test starts a server of its own: machines may be slow, but not more than that.
  workers: 2,
  timeout: 90_000,
  expect: { timeout: 20_000 },
  forbidOnly: true,
  // A shared machine may stall for longer than any slack; a second try is reported as flaky.
  retries: process.env.CI ? 1 : 0,
  reporter: "list",
  use: {
    browserName: "chromium",
    launchOptions: { executablePath: process.env.TIDINGS_CHROMIUM, args },
    timezoneId: "Asia/Kolkata",
    trace: "retain-on-failure",
  },
});
