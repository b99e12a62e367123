import { playwright } from "@vitest/browser-playwright";
import type { ProvidedContext } from "vitest";
import { defineConfig } from "vitest/config";
// @ts-expect-error -- plain JavaScript
import { constants, structs } from "./interleave/layout.mjs";

/** What makes a page cross-origin isolated, so that it has SharedArrayBuffer. */
const isolation = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

const flags = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** What tests of test/core know of the heap's memory: a browser cannot read layout.ts. */
const layout = { constants, structs } as ProvidedContext["layout"];

declare module "vitest" {
  interface ProvidedContext {
    layout: { constants: Record<string, number>; structs: Record<string, Record<string, { offset: number }>> };
  }
}

export default defineConfig({
  test: {
    // Many tests wait for threads and processes: on two CPUs, two files at a time take half as long as one.
    maxWorkers: 2,
    projects: [
      {
        test: {
          name: "node",
          include: ["test/node/**/*.test.ts", "test/core/**/*.test.ts"],
          provide: { layout },
          environment: "node",
          pool: "forks",
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        server: { headers: isolation },
        // Found while tests run, a dependency would reload the page.
        optimizeDeps: { include: ["comlink", "valibot", "fast-check"] },
        test: {
          name: "browser",
          include: ["test/browser/**/*.test.ts", "test/core/**/*.test.ts"],
          provide: { layout },
          testTimeout: 60_000,
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({ launchOptions: { executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium", args: flags } }),
            instances: [{ browser: "chromium" }],
          },
        },
      },
    ],
  },
});
