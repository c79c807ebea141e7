// What this browser has proved, or why it gives no answers.

import { byId, element, fillFacts, show } from "./elements.js";
import { general } from "./numbers.js";

const BACKENDS = { webgpu: "WebGPU, on this device's GPU", wasm: "WebAssembly, on this device's CPU" };

let total = 0;
let done = 0;

/** What the worker says while it loads. */
export function showNews({ text, bytes, total: most }) {
  const progress = byId("proof-progress");
  show(progress);
  if (text) byId("proof-verdict").textContent = `${text}…`;
  if (most) total = most;
  if (bytes) done += bytes;
  if (total) progress.value = Math.min(1, done / total);
}

export function showProof({ proof, golden }) {
  const { pictures, inputs, backend, threads, tried } = proof;
  const by = `${BACKENDS[backend]}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  end("passed");
  byId("proof-verdict").textContent =
    `Yes: it repeated ${pictures.n} golden pictures and ${inputs.n} golden inputs and gave the same ` +
    `answers, the largest logit change ${general(inputs.logits, 2)}. ${by}.`;
  fillFacts(byId("proof-facts"), [
    ["pictures", picturesText(pictures)],
    ["inputs", `${inputs.n} phantoms, ${inputs.nHard} of them where a small change flips the answer: ${inputs.flips} flips`],
    ["logits", changeText(inputs.logits, golden.device_tolerance)],
    ["to the original", changeText(inputs.original, golden.original_tolerance)],
    ["distance", golden.distance_tolerance == null ? "" : changeText(inputs.distance, golden.distance_tolerance)],
    ["refused", tried.join("; ")],
  ]);
  const why = byId("proof-threads");
  why.textContent =
    "One thread: the server does not send Cross-Origin-Opener-Policy: same-origin and " +
    "Cross-Origin-Embedder-Policy: require-corp, which more threads need.";
  show(why, backend === "wasm" && !globalThis.crossOriginIsolated);
}

function picturesText({ n, exact, largest }) {
  const rest = n === exact ? "" : `, ${n - exact} within ${largest} grey levels`;
  return `${exact} of ${n} decoded and resized to the bit${rest}`;
}

function changeText(value, allowed) {
  return `changed by ${general(value, 2)} at most, ${general(allowed, 2)} is allowed`;
}

/** Nothing is answered from here on. */
export function showRefusal({ problem, tried }) {
  end("failed");
  const verdict = byId("proof-verdict");
  verdict.replaceChildren(element("strong", "This page gives no answers here: "), `${problem}.`);
  const remedy = "load the page anew, or try another browser; “kneeedge infer” answers without one";
  fillFacts(byId("proof-facts"), [...tried.map((line) => line.split(/: (.*)/s)), ["what to do", remedy]]);
  byId("proof-summary").textContent = "Why, and what to do";
  byId("proof-details").open = true;
  show(byId("proof-threads"), false);
}

function end(state) {
  show(byId("proof-progress"), false);
  show(byId("proof-details"));
  byId("proof").dataset.state = state;
}
