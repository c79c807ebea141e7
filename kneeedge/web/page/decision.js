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

/** Why a person is to answer at this probability of the positive class; empty: nobody need. */
export function referral(spec, probability) {
  const limits = spec.certified;
  if (limits == null || probability < limits.low || probability >= limits.high) return "";
  const between = `between the limits ${general(limits.low, 6)} to ${general(limits.high, 6)}`;
  return `refer to a person (probability ${general(probability, 4)}, ${between})`;
}

/** Why the model gives no answer at this distance; empty where it gives one. */
export function refusal(spec, distance) {
  const limit = spec.novelty?.limit;
  if (limit === undefined || distance === undefined || distance <= limit) return "";
  return `unlike the training images (distance ${general(distance, 4)}, limit ${general(limit, 4)})`;
}
