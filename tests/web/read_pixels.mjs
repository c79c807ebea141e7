// node read_pixels.mjs VENDOR CASES.json: what the page's modules make of each file.
//
// Each case is { path, options, size, fit }; `path`.grey and `path`.input are written, and on stdout
// the list of { width, height, format, notes } or { refusal, remedy }, or { crash } for what is no
// refusal.
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

import { loadCodecs } from "../../kneeedge/web/page/pixels/codecs.js";
import { ImageError, networkInput, readImage } from "../../kneeedge/web/page/pixels/index.js";

const [vendor, cases] = process.argv.slice(2);
const codecs = vendor ? await loadCodecs(pathToFileURL(`${vendor}/`), (url) => readFile(url)) : {};
const answers = [];
for (const { path, options, size, fit } of JSON.parse(await readFile(cases))) {
  try {
    const begin = performance.now();
    const bytes = new Uint8Array(await readFile(path));
    const { grey, ...picture } = await readImage(bytes, codecs, { ...options, size });
    const input = networkInput(grey, picture.width, picture.height, size, fit);
    answers.push({ ...picture, ms: performance.now() - begin });
    await writeFile(`${path}.grey`, grey);
    await writeFile(`${path}.input`, input);
  } catch (error) {
    const { reason, remedy } = error;
    answers.push(
      error instanceof ImageError ? { refusal: reason, remedy } : { crash: error.stack },
    );
  }
}
console.log(JSON.stringify(answers));
