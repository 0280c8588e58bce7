import { defineConfig } from "@playwright/test";

// Chromium must not expect a network; as root it has no sandbox.
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
  // Compares the output of two builders: only `cargo xtask test` has both.
  testIgnore: process.env.TIDINGS_LEPTOS_SITE ? [] : "site.spec.ts",
  fullyParallel: true,
  // Each test starts its own server, so more workers would overload a slow machine.
  workers: 2,
  timeout: 90_000,
  expect: { timeout: 20_000 },
  forbidOnly: true,
  // A shared machine may stall for longer than any timeout; a retry is reported as flaky.
  retries: process.env.CI ? 1 : 0,
  reporter: "list",
  use: {
    browserName: "chromium",
    launchOptions: { executablePath: process.env.TIDINGS_CHROMIUM, args },
    timezoneId: "Asia/Kolkata",
    trace: "retain-on-failure",
  },
});
