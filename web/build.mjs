// Bundles the viewers into the Python package, with their licences and a list of what they are.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const out = "../src/unetpp/serve/web/vendor";
const options = { bundle: true, minify: true, format: "esm", target: "es2022", legalComments: "none", logLevel: "warning" };

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
await build({ ...options, entryPoints: ["niivue.js"], outfile: join(out, "niivue.js") });
await build({ ...options, entryPoints: ["uplot"], outfile: join(out, "uplot.js") });
copyFileSync("node_modules/uplot/dist/uPlot.min.css", join(out, "uplot.css"));
copyFileSync("node_modules/openseadragon/build/openseadragon/openseadragon.min.js", join(out, "openseadragon.js"));
copyFileSync("node_modules/swagger-ui-dist/swagger-ui-bundle.js", join(out, "swagger-ui.js"));
copyFileSync("node_modules/swagger-ui-dist/swagger-ui.css", join(out, "swagger-ui.css"));

const found = await build({ ...options, entryPoints: ["niivue.js"], write: false, metafile: true, outfile: "niivue.js" });
const packages = new Set(["@niivue/niivue", "uplot", "openseadragon", "swagger-ui-dist"]);
for (const path of Object.keys(found.metafile.inputs)) {
  const match = path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\/(?!.*node_modules)/);
  if (match) packages.add(match[1]);
}
for (const name of Object.keys(JSON.parse(readFileSync("node_modules/@niivue/niivue/package.json")).dependencies ?? {})) packages.add(name);

const listed = [];
for (const name of [...packages].sort()) {
  const folder = join("node_modules", name);
  if (!existsSync(folder)) continue;
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json")));
  const file = readdirSync(folder).find((each) => /^(licen[cs]e|copying)/i.test(each));
  const target = `LICENSE-${name.replace(/^@/, "").replaceAll("/", "-")}.txt`;
  const kept = join("licences", target.replace("LICENSE-", "")); // packages that were published without theirs
  const text = file ? join(folder, file) : kept;
  if (!existsSync(text)) throw new Error(`${name} ${version} (${license}): no licence; put its text into web/${kept}`);
  copyFileSync(text, join(out, target));
  listed.push({ name, version, license, text: target });
}
for (const extra of ["swagger-ui-bundle.js.LICENSE.txt", "NOTICE"]) {
  copyFileSync(join("node_modules/swagger-ui-dist", extra), join(out, `LICENSE-swagger-ui-dist-${extra.replace(/\.txt$/, "")}.txt`));
}
const files = {};
for (const name of readdirSync(out).sort()) files[name] = createHash("sha256").update(readFileSync(join(out, name))).digest("hex");
writeFileSync(join(out, "vendor.json"), JSON.stringify({ packages: listed, files }, null, 2) + "\n");
