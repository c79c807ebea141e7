// From outputs to an answer, as kneeedge/model/spec.py and kneeedge/inference/predictor.py do.

import { general } from "./numbers.js";

/** Index of the answer for the network's probabilities (Float32Array, K). */
export function decide(spec, probabilities) {
  // numpy holds float32 probabilities against the threshold in float32
  return decideAt(spec, probabilities, Math.fround(spec.threshold));
}

/** Index of the answer for logits (K numbers), at the temperature and in double precision. */
export function decideLogits(spec, logits) {
  return decideAt(spec, softmax(logits, spec.temperature), spec.threshold);
}

function decideAt(spec, probabilities, threshold) {
  if (spec.classes.length > 2) {
    return probabilities.indexOf(Math.max(...probabilities));
  }
  const positive = positiveIndex(spec);
  return probabilities[positive] >= threshold ? positive : 1 - positive;
}

export function positiveIndex(spec) {
  return spec.classes.indexOf(spec.positive);
}

function softmax(logits, temperature) {
  const scaled = Array.from(logits, (logit) => logit / temperature);
  const largest = Math.max(...scaled);
  const exponentials = scaled.map((value) => Math.exp(value - largest));
  const sum = exponentials.reduce((a, b) => a + b, 0);
  return exponentials.map((value) => value / sum);
}

/** Why the model gives no answer at this distance; empty where it gives one. */
export function refusal(spec, distance) {
  const limit = spec.novelty?.limit;
  if (limit === undefined || distance === undefined || distance <= limit) return "";
  return `unlike the training images (distance ${general(distance, 4)}, limit ${general(limit, 4)})`;
}
