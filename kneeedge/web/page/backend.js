// ONNX Runtime in the browser: one session on one backend, its answers checked.

import { readFile, urlOf } from "./site.js";

const LIBRARY = "vendor/onnxruntime-web/dist/";
const PARTS = {
  webgpu: {
    library: "ort.webgpu.min.mjs",
    glue: "ort-wasm-simd-threaded.asyncify.mjs",
    binary: "ort-wasm-simd-threaded.asyncify.wasm",
  },
  wasm: {
    library: "ort.wasm.min.mjs",
    glue: "ort-wasm-simd-threaded.mjs",
    binary: "ort-wasm-simd-threaded.wasm",
  },
};
const MOST_THREADS = 8;

/** Why a backend cannot run the model, or gave what is no answer. */
export class BackendError extends Error {}

/** Threads that this page may use: one, where the server does not isolate it. */
export function availableThreads() {
  if (!self.crossOriginIsolated) return 1;
  return Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS);
}

/** A session of a model of S × S pixels, given as its bytes, on "webgpu" or "wasm". */
export async function openBackend(name, { record, model, size, threads, onBytes }) {
  if (name === "webgpu") await checkGpu();
  const { library, glue, binary } = PARTS[name];
  const [, , wasmBinary] = await Promise.all(
    [library, glue, binary].map((file) => readFile(record, LIBRARY + file, onBytes)),
  );
  const ort = await import(urlOf(LIBRARY + library));
  ort.env.logLevel = "fatal"; // an error is raised, and said once
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: urlOf(LIBRARY + glue), wasm: urlOf(LIBRARY + binary) };
  ort.env.wasm.wasmBinary = wasmBinary.buffer;
  const session = await ort.InferenceSession.create(model, { executionProviders: [name] });
  return new Backend(name, threads, ort, session, size);
}

async function checkGpu() {
  if (!navigator.gpu) throw new BackendError("this browser has no WebGPU here");
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) throw new BackendError("WebGPU finds no GPU");
  if (adapter.info?.isFallbackAdapter) throw new BackendError("WebGPU has no GPU, and computes on the CPU");
}

class Backend {
  constructor(name, threads, ort, session, size) {
    this.name = name;
    this.threads = threads;
    this.ort = ort;
    this.session = session;
    this.size = size;
  }

  /** {probabilities, logits, cam, distance} of the network's input (S × S bytes), as Float32Arrays;
   *  cam and distance are absent where the model has none. Throws BackendError for no numbers. */
  async run(pixels) {
    const shape = [1, 1, this.size, this.size];
    const input = new this.ort.Tensor("uint8", pixels, shape);
    // an any-size file takes its input as a picture, and leaves one of this size as it is
    const tensors = await this.session.run({ [this.session.inputNames[0]]: input });
    const outputs = {};
    for (const [name, tensor] of Object.entries(tensors)) {
      outputs[name] = Float32Array.from(await tensor.getData());
      tensor.dispose();
    }
    this.#check(outputs);
    return outputs;
  }

  #check({ probabilities, logits, distance }) {
    if (![...logits, ...(distance ?? [])].every(Number.isFinite)) {
      throw new BackendError("the network gave NaN or infinity");
    }
    const sum = probabilities.reduce((a, b) => a + b, 0);
    if (!(Math.abs(sum - 1) <= 1e-3)) throw new BackendError("its probabilities do not sum to 1");
  }

  async close() {
    await this.session.release();
  }
}
