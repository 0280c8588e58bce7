// Minifies, hashes and precompresses a built site, as `cargo leptos build --release --precompress` does
// with libraries that take minutes to compile: minifies the scripts and the style sheet; names the script that
// loads the wasm, the wasm and the style sheet after their content; lists the names for the server (hash.txt);
// and compresses every file.

import { browserslistToTargets, transform } from "lightningcss";
import { createHash } from "node:crypto";
import { readdir, readFile, rename, writeFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import { minify } from "terser";

const options = {
  // The folder of the site, and the folder in it for the script and the wasm.
  site: { type: "string" },
  package: { type: "string" },
  // The name of the script, the wasm and the style sheet.
  name: { type: "string" },
  // The source of the style sheet, and the oldest supported browsers: "chrome 109, safari 16.4".
  style: { type: "string" },
  browsers: { type: "string" },
};
const { site, package: folder, name, style, browsers } = parseArgs({ options }).values;

const path = (extension) => join(site, folder, `${name}.${extension}`);

async function minifyScript(script) {
  const { code } = await minify(await readFile(script, "utf8"), { module: true });
  await writeFile(script, code);
}

async function minifyStyle() {
  const oldest = browsers.split(", ");
  // No queries like "defaults": their meaning changes over time.
  if (!oldest.every((browser) => /^[a-z_]+ [\d.]+$/.test(browser))) throw new Error(`"${browsers}": name versions of browsers`);
  const targets = browserslistToTargets(oldest);
  const { code } = transform({ filename: style, code: await readFile(style), minify: true, targets });
  await writeFile(path("css"), code);
}

// Content hashing: sites with the same content have the same names.
async function nameByContent(extension) {
  const hash = createHash("sha256").update(await readFile(path(extension))).digest("base64url").slice(0, 12);
  await rename(path(extension), path(`${hash}.${extension}`));
  return `${extension}: ${hash}\n`;
}

async function compress(file) {
  const content = await readFile(file);
  const best = { params: { [constants.BROTLI_PARAM_SIZE_HINT]: content.length } };
  await writeFile(`${file}.br`, await promisify(brotliCompress)(content, best));
  await writeFile(`${file}.gz`, await promisify(gzip)(content, { level: constants.Z_BEST_COMPRESSION }));
}

const modules = (await readdir(site)).filter((file) => extname(file) === ".js").map((file) => join(site, file));
await Promise.all([path("js"), ...modules].map(minifyScript).concat(minifyStyle()));
const hashes = await Promise.all(["js", "wasm", "css"].map(nameByContent));
const entries = await readdir(site, { recursive: true, withFileTypes: true });
const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
await Promise.all(files.map(compress));
await writeFile(join(site, "hash.txt"), hashes.join(""));
