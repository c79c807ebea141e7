// The site's own files: fetched, and held to the SHA-256 that model.json gives each.

import { sha256 } from "./pixels/index.js";

const ROOT = new URL("./", import.meta.url);
const RECORD = "model.json";
const FORMAT = "kneeedge-site/1";
const LIBRARY = "vendor/onnxruntime-web/";
const TEXTS = /\/(LICENSE|NOTICE)$/;

/** Why the site cannot be trusted or read. */
export class SiteError extends Error {}

/** Where a file of the site is. */
export function urlOf(path) {
  return new URL(path, ROOT).href;
}

/** The file of the site that is there. */
export function pathOf(url) {
  return decodeURIComponent(String(url).slice(ROOT.href.length));
}

/** What model.json says: {format, spec, golden, files, …}. */
export async function readRecord() {
  const bytes = await fetched(RECORD, "no-store");
  const record = JSON.parse(new TextDecoder().decode(bytes));
  if (record.format !== FORMAT) {
    throw new SiteError(`model.json has the format ${record.format}, and this page reads ${FORMAT}`);
  }
  return record;
}

/**
 * The bytes of a file. A copy that the browser kept of another site is fetched anew; throws SiteError
 * where the bytes are not those that were written.
 */
export async function readFile(record, path, onBytes = () => {}) {
  const kept = await fetched(path, "force-cache", onBytes);
  if (await isRight(record, path, kept)) return kept;
  const fresh = await fetched(path, "reload");
  if (await isRight(record, path, fresh)) return fresh;
  throw new SiteError(`${path} has other bytes than when the site was written`);
}

/** Hold every file that the page runs to its hash, but those of ONNX Runtime and the model. */
export async function checkPage(record) {
  const paths = Object.keys(record.files).filter(
    (path) => !path.startsWith(LIBRARY) && !TEXTS.test(path) && path !== "model.onnx",
  );
  await Promise.all(paths.map((path) => checkRunning(record, path)));
}

/** A file that runs already was taken from what the browser keeps: an older one must go. */
async function checkRunning(record, path) {
  if (await isRight(record, path, await fetched(path, "force-cache"))) return;
  await readFile(record, path);
  throw new SiteError(`the browser kept an older ${path}: load this page once more`);
}

async function isRight(record, path, bytes) {
  const known = record.files[path];
  if (known === undefined) throw new SiteError(`${path} is not in model.json`);
  return (await sha256(bytes)) === known.sha256;
}

async function fetched(path, cache, onBytes = () => {}) {
  const response = await fetch(urlOf(path), { cache, credentials: "same-origin" });
  if (!response.ok) throw new SiteError(`${path}: the server says ${response.status}`);
  const chunks = [];
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    onBytes(value.length);
  }
  return joined(chunks);
}

function joined(chunks) {
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let place = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, place);
    place += chunk.length;
  }
  return bytes;
}
