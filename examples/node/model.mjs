// A model file of kneeedge's: its spec, and its answer to a picture.

import { readFileSync } from 'node:fs';
import ort from 'onnxruntime-node';
import { toInput } from './pixels.mjs';

const SPEC_FORMAT = 3;

/** The model with `answer(picture)`; raises where the file is none of kneeedge's. */
export async function openModel(path) {
  const bytes = readFileSync(path);
  const spec = readSpec(bytes);
  const session = await ort.InferenceSession.create(bytes);
  return { bytes, spec, session };
}

/**
 * What the model says of a grey picture. An any-size file has the input `picture` and resizes it itself; any other has
 * `image` and wants it resized. `answer` is null where the model abstains, or a person is to answer.
 */
export async function answer({ spec, session }, picture) {
  const [name] = session.inputNames;
  const input = name === 'picture' ? picture : toInput(picture, spec.pixel_path);
  const tensor = new ort.Tensor('uint8', input.pixels, [1, 1, input.height, input.width]);
  const outputs = await session.run({ [name]: tensor });
  const logits = [...outputs.logits.data];
  const probabilities = [...outputs.probabilities.data];
  const distance = outputs.distance ? outputs.distance.data[0] : null;
  if (![...logits, ...probabilities, distance ?? 0].every(Number.isFinite)) throw new Error('the answer is no number');
  return { input, logits, probabilities, distance, answer: decide(spec, probabilities, distance) };
}

/** The class, or null where the image is too unlike the training images or between certified limits. */
function decide({ classes, positive, threshold, novelty, certified }, probabilities, distance) {
  if (novelty && !(distance <= novelty.limit)) return null;
  if (classes.length > 2) return classes[probabilities.indexOf(Math.max(...probabilities))];
  const k = classes.indexOf(positive);
  if (certified && probabilities[k] >= certified.low && probabilities[k] < certified.high) return null;
  return classes[probabilities[k] >= threshold ? k : 1 - k];
}

/** The JSON under `kneeedge` in the file's metadata, which onnxruntime-node does not hand out. */
function readSpec(bytes) {
  for (const [field, content] of fieldsOf(bytes)) {
    if (field !== 14) continue; // ModelProto.metadata_props, each a StringStringEntryProto: 1 key, 2 value
    const entry = Object.fromEntries(fieldsOf(content));
    if (entry[1].toString() !== 'kneeedge') continue;
    const spec = JSON.parse(entry[2].toString());
    if (spec.format !== SPEC_FORMAT) throw new Error(`its spec has format ${spec.format}, not ${SPEC_FORMAT}`);
    return spec;
  }
  throw new Error('it is no model file of kneeedge’s');
}

/** Number and content of each field of a Protocol Buffers message; a number's content is null. */
function* fieldsOf(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error('the model file is damaged');
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const wireType = tag % 8;
    let content = null;
    if (wireType === 0) varint();
    else if (wireType === 1) at += 8;
    else if (wireType === 5) at += 4;
    else if (wireType === 2) {
      const length = varint();
      content = bytes.subarray(at, at + length);
      at += length;
    } else throw new Error('the model file is damaged');
    yield [Math.floor(tag / 8), content];
  }
}
