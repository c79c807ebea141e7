// From outputs to an answer, as kneeedge/model/spec.py and kneeedge/inference/predictor.py do.

import { general } from "./numbers.js";

/** Index of the answer for probabilities (K numbers), compared in double precision. */
export function decide(spec, probabilities) {
  if (spec.classes.length > 2) {
    return probabilities.indexOf(Math.max(...probabilities));
  }
  const positive = positiveIndex(spec);
  return probabilities[positive] >= spec.threshold ? positive : 1 - positive;
}

/** Index of the answer for logits (K numbers), at the temperature. */
export function decideLogits(spec, logits) {
  return decide(spec, softmax(logits, spec.temperature));
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
