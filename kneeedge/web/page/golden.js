// The proof: golden pictures and golden inputs are repeated here before anything is answered, and
// held against the same tolerances as `kneeedge verify` holds them (kneeedge/runtime/golden.py).

import { decideLogits } from "./decision.js";
import { general } from "./numbers.js";
import { networkInput, readImage, sha256 } from "./pixels/index.js";

const PHANTOM = "phantom";

/**
 * What this browser makes of the golden pictures: {n, exact, largest, problem}. `largest` is in grey
 * levels of the network's input; `problem` says what came out otherwise, and is empty where all is
 * right.
 */
export async function provePictures({ spec, golden }, codecs) {
  const proof = { n: golden.pictures.length, exact: 0, largest: 0, problem: "" };
  for (const picture of golden.pictures) {
    const result = await checkPicture(picture, spec.pixel_path, codecs);
    proof.exact += result.change === 0;
    proof.largest = Math.max(proof.largest, result.change ?? 0);
    proof.problem ||= result.problem;
  }
  if (proof.n === 0) proof.problem = "the model file has no golden pictures";
  return proof;
}

async function checkPicture(picture, path, codecs) {
  const { name, levels } = picture;
  let grey;
  let input;
  try {
    const image = await readImage(fromBase64(picture.content), codecs, { size: path.size });
    grey = image.grey;
    input = networkInput(grey, image.width, image.height, path.size, path.fit);
  } catch (error) {
    return { problem: `golden picture ${name} cannot be read here: ${error.reason ?? error.message}` };
  }
  if ((await sha256(input)) === picture.input_sha256) return { change: 0, problem: "" };
  const step = (await sha256(grey)) === picture.grey_sha256 ? "resized" : "decoded";
  const problem = `golden picture ${name} is ${step} otherwise here`;
  if (!picture.input_png) return { problem };
  const expected = await squareOf(picture.input_png, path, codecs);
  const change = input.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0);
  if (change <= levels) return { change, problem: "" };
  return { change, problem: `${problem}, by up to ${change} grey levels; ${levels} are allowed` };
}

/**
 * How a backend answers the golden inputs: {n, nHard, logits, original, distance, flips, problem},
 * the largest changes of each and the number of other answers. A problem is a refusal.
 */
export async function proveInputs({ spec, golden }, backend, codecs) {
  const worst = { logits: 0, original: 0, distance: 0 };
  let flips = 0;
  for (const example of golden.cases) {
    const pixels = await squareOf(example.png, spec.pixel_path, codecs);
    const outputs = await backend.run(pixels);
    worst.logits = Math.max(worst.logits, largestChange(outputs.logits, example.file_logits));
    worst.original = Math.max(worst.original, largestChange(outputs.logits, example.original_logits));
    if (golden.distance_tolerance != null) {
      const change = Math.abs((outputs.distance?.[0] ?? NaN) - example.file_distance);
      worst.distance = Math.max(worst.distance, change);
    }
    flips += isFlipped(spec, outputs, example);
  }
  const nHard = golden.cases.filter((example) => example.kind !== PHANTOM).length;
  return { n: golden.cases.length, nHard, ...worst, flips, problem: problemOf(golden, worst, flips) };
}

function isFlipped(spec, outputs, example) {
  const answers = [outputs.logits, example.file_logits].map((logits) => decideLogits(spec, logits));
  if (answers[0] !== answers[1]) return true;
  if (spec.novelty == null) return false;
  const refuses = outputs.distance[0] > spec.novelty.limit;
  return refuses !== example.file_distance > spec.novelty.limit;
}

function problemOf(golden, worst, flips) {
  const tolerances = {
    logits: golden.device_tolerance,
    original: golden.original_tolerance,
    distance: golden.distance_tolerance ?? 0,
  };
  if (golden.cases.length === 0) return "the model file has no golden inputs";
  if (flips) return `it gives other answers to ${flips} of ${golden.cases.length} golden inputs`;
  for (const [name, allowed] of Object.entries(tolerances)) {
    if (!(worst[name] <= allowed)) {
      const what = name === "distance" ? "the distance" : "a logit";
      const change = `${what} by ${general(worst[name], 3)}`;
      return `golden inputs change ${change}, and ${general(allowed, 3)} is allowed`;
    }
  }
  return "";
}

/** The largest absolute difference; NaN, which passes no tolerance, where the lengths differ. */
function largestChange(values, expected) {
  if (values.length !== expected.length) return NaN;
  return expected.reduce((most, value, i) => Math.max(most, Math.abs(values[i] - value)), 0);
}

/** The network's input (S × S bytes) in a base64 PNG of model.json. */
async function squareOf(png, path, codecs) {
  const { grey, width, height } = await readImage(fromBase64(png), codecs);
  if (width !== path.size || height !== path.size) {
    throw new Error(`a golden input has ${width} × ${height} pixels, not ${path.size} × ${path.size}`);
  }
  return grey;
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
