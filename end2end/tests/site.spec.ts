// Compares the site as two programs build it from one configuration: `cargo xtask`, for the server, and
// cargo-leptos, for development.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { MessagePage, expect, test } from "../tidings.ts";

const { TIDINGS_SITE: ours = "", TIDINGS_LEPTOS_SITE: theirs = "", TIDINGS_QUICK_SITE: quick = "" } = process.env;

/** The paths of the files of a site, by their names without the content hash. */
function files(site: string): Map<string, string> {
  const entries = readdirSync(site, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const named = paths.map((path): [string, string] => [path.slice(site.length + 1).replace(/(pkg\/tidings)\.[\w-]{12}\./, "$1."), path]);
  return new Map(named);
}

/** The parts of a wasm: imports and exports by kind, and all other sections byte by byte. */
function parts(path: string) {
  const bytes = readFileSync(path);
  const module = new WebAssembly.Module(bytes);
  const sections: { id: number; content: string }[] = [];
  // A header of 8 bytes, then sections: an id, the length in LEB128, the content.
  for (let at = 8; at < bytes.length; ) {
    const id = bytes[at++]!;
    let length = 0;
    for (let shift = 0, more = true; more; shift += 7) {
      const byte = bytes[at++]!;
      length |= (byte & 0x7f) << shift;
      more = byte >= 0x80;
    }
    sections.push({ id, content: bytes.toString("latin1", at, at + length) });
    at += length;
  }
  const [CUSTOM, IMPORTS, EXPORTS] = [0, 2, 7];
  return {
    imports: WebAssembly.Module.imports(module).map(({ module, kind }) => `${kind} of ${module}`),
    exports: WebAssembly.Module.exports(module).map(({ kind }) => kind),
    rest: sections.filter(({ id }) => ![CUSTOM, IMPORTS, EXPORTS].includes(id)),
  };
}

test("both builds produce the same files", () => {
  const [mine, other] = [files(ours), files(theirs)];
  // `cargo xtask` adds the list of hashed names, and omits the TypeScript types, which nothing loads.
  mine.delete("hash.txt");
  const names = [...other.keys()].filter((name) => !/\.d\.ts(\.\w+)?$/.test(name));
  expect([...mine.keys()].sort()).toEqual(names.sort());

  // Rule by rule, so that a difference is readable.
  const rules = (path: string) => readFileSync(path, "utf8").split("}");
  for (const name of names.filter((name) => !/\.(js|wasm|br|gz)$/.test(name))) {
    expect(rules(mine.get(name)!), name).toEqual(rules(other.get(name)!));
  }
});

test("both builds produce the same wasm, except for its names", () => {
  const [mine, other] = [files(ours), files(theirs)].map((site) => parts(site.get("pkg/tidings.wasm")!));
  expect(mine!.imports.length, "it has imports").toBeGreaterThan(50);
  // As a whole: a diff of two binaries tells nothing.
  expect(JSON.stringify(mine) === JSON.stringify(other), "they are the same").toBe(true);
});

for (const [builder, site] of Object.entries({ "cargo leptos build": theirs, "cargo xtask run": quick })) {
  test(`the page that ${builder} builds is live`, async ({ page, start }) => {
    const server = await start("--site-root", site);
    await server.publish("news", "one");
    const news = await MessagePage.open(page, server, "news");
    await news.isLive();
    await server.publish("news", "two");
    await news.shows(["one", "two"]);
  });
}
