// Run a model file of kneeedge's from Node.js.
//
//   node kneeedge.mjs MODEL.onnx PICTURE.pgm…   answers grey pictures
//   node kneeedge.mjs MODEL.onnx VECTORS        holds this program against what
//                                               `kneeedge info MODEL.onnx --test-vectors VECTORS` wrote
//
// Exits 1 where a vector is missed or a picture cannot be read.

import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { answer, openModel } from './model.mjs';
import { readPgm, toInput } from './pixels.mjs';

const VECTORS = 'kneeedge-vectors/1';

/** The problems of one vector: every step must give what the index says. */
async function check(model, folder, index, vector) {
  const grey = readPgm(readFile(folder, vector.grey));
  const input = readPgm(readFile(folder, vector.input));
  const problems = [];
  const { pixels } = toInput(grey, model.spec.pixel_path);
  const isSame = Buffer.compare(pixels, input.pixels) === 0;
  if (!isSame) problems.push('the input differs');
  const seen = await answer(model, grey);
  const hold = (what, values, expected, tolerance) => {
    const change = largestChange(values, expected);
    if (!(change <= tolerance)) problems.push(`${what} off by ${change.toExponential(1)}`);
    return change;
  };
  const logits = hold('logits', seen.logits, vector.logits, index.logit_tolerance);
  hold('probabilities', seen.probabilities, vector.probabilities, index.probability_tolerance);
  let distance = 0;
  if ((seen.distance === null) !== (vector.distance === null)) problems.push('a distance on one side alone');
  else if (seen.distance !== null)
    distance = hold('distance', [seen.distance], [vector.distance], index.distance_tolerance);
  if (seen.answer !== vector.answer) problems.push(`answer ${seen.answer}, not ${vector.answer}`);
  return { seen, logits, distance, problems };
}

/** A file that the index names; its bytes are those that were written. */
function readFile(folder, { name, sha256 }) {
  const bytes = readFileSync(join(folder, name));
  if (sha256Of(bytes) !== sha256) throw new Error(`${name} is not as it was written`);
  return bytes;
}

const sha256Of = (bytes) => createHash('sha256').update(bytes).digest('hex');
const largestChange = (values, expected) =>
  values.length === expected.length ? Math.max(...values.map((value, i) => Math.abs(value - expected[i]))) : NaN;

async function checkAll(model, folder) {
  const index = JSON.parse(readFileSync(join(folder, 'vectors.json')));
  if (index.format !== VECTORS) throw new Error(`it is of ${index.format}, and this program reads ${VECTORS}`);
  if (index.model_sha256 !== sha256Of(model.bytes)) throw new Error(`it is of another file, ${index.model}`);
  if (!index.vectors.length) throw new Error('it holds no vectors');
  let nRight = 0;
  let logits = 0;
  let distance = 0;
  for (const vector of index.vectors) {
    const result = await check(model, folder, index, vector);
    const isRight = result.problems.length === 0;
    const words = isRight ? inWords(model.spec, result.seen) : result.problems.join('; ');
    console.log(`${isRight ? 'ok  ' : 'MISS'}  ${vector.name}: ${words}`);
    nRight += isRight;
    logits = Math.max(logits, result.logits);
    distance = Math.max(distance, result.distance);
  }
  const changes = `largest change of a logit ${logits.toExponential(1)}, of a distance ${distance.toExponential(1)}`;
  console.log(`${nRight} of ${index.vectors.length} vectors; ${changes}`);
  return nRight === index.vectors.length;
}

function inWords({ positive, classes, novelty, certified }, seen) {
  if (seen.answer === null && !(novelty && seen.distance > novelty.limit)) {
    const known = seen.probabilities[classes.indexOf(positive)].toFixed(6);
    return `no answer: probability ${known} is between ${certified.low.toFixed(6)} and ${certified.high.toFixed(6)}`;
  }
  if (seen.answer === null) {
    return `no answer: distance ${seen.distance.toPrecision(6)} is beyond ${novelty.limit.toPrecision(6)}`;
  }
  const probability = seen.probabilities[classes.indexOf(positive)].toFixed(6);
  const distance = seen.distance === null ? '' : `, distance ${seen.distance.toPrecision(6)}`;
  return `${seen.answer}, probability of ${positive} ${probability}${distance}`;
}

const [path, ...places] = process.argv.slice(2);
if (!places.length) {
  console.error('usage: node kneeedge.mjs MODEL.onnx VECTORS|PICTURE.pgm…');
  process.exit(2);
}
let place = path;
try {
  const model = await openModel(path);
  for (place of places) {
    if (statSync(place).isDirectory()) {
      if (!(await checkAll(model, place))) process.exitCode = 1;
    } else {
      console.log(`${place}: ${inWords(model.spec, await answer(model, readPgm(readFileSync(place))))}`);
    }
  }
} catch (error) {
  console.error(`error: ${place}: ${error.message}`);
  process.exitCode = 1;
}
console.error('Research use only. Not a medical device; not for diagnosis.');
