// The thread that decodes and answers, so that the page stays awake; it is asked by messages.

import { openEngine } from "./engine.js";

const WAYS_OUT = [
  "fetch", "XMLHttpRequest", "WebSocket", "WebSocketStream", "EventSource", "WebTransport",
  "BroadcastChannel", "Worker", "indexedDB", "caches", "importScripts",
];

let engine;
let last = Promise.resolve();

// one after the other: a session runs one image at a time
self.onmessage = ({ data }) => {
  last = last.then(() => (data.start ? start(data.start) : answer(data)));
};

async function start(asked) {
  try {
    engine = await openEngine(asked, (news) => self.postMessage({ news }));
    seal();
    self.postMessage({ ready: { proof: engine.proof, golden: tolerances(engine.golden) } });
  } catch (error) {
    self.postMessage({ refused: { problem: error.message, tried: error.tried ?? [] } });
  }
}

async function answer({ id, path, file, pictures }) {
  try {
    self.postMessage({ id, answer: await engine.answer(path, file, pictures) });
  } catch (error) {
    self.postMessage({ refused: { problem: `the network failed: ${error.message}`, tried: [] } });
  }
}

/** Once all is loaded nothing is needed from outside, and nothing can be asked for. */
function seal() {
  for (const name of WAYS_OUT) {
    Object.defineProperty(self, name, { value: undefined, configurable: false, writable: false });
  }
}

function tolerances({ device_tolerance, original_tolerance, distance_tolerance }) {
  return { device_tolerance, original_tolerance, distance_tolerance };
}
