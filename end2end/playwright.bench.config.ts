import { defineConfig } from "@playwright/test";
import tests from "./playwright.config.ts";

export default defineConfig({
  ...tests,
  testDir: "bench",
  testMatch: "*.bench.ts",
  // One at a time, without a time limit.
  workers: 1,
  timeout: 0,
  retries: 0,
});
