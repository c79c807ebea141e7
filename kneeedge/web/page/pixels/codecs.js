// The decoders that come from packages, as { jpegLs, jpeg2000 }. Each is
//   async (bytes) → { pixels (Uint8Array, Uint16Array or Int16Array), width, height, channels }
// and throws nothing for a damaged stream, but gives pixels of null.
//
// All files are fetched by `loadCodecs`, none later; what is compiled is kept, but each picture has
// an instance of its own, so that one that breaks its decoder spoils no other.

const FILES = {
  jpegLs: { path: "@cornerstonejs/codec-charls/dist/charlswasm_decode", decoder: "JpegLSDecoder" },
  jpeg2000: {
    path: "@cornerstonejs/codec-openjpeg/dist/openjpegwasm_decode",
    decoder: "J2KDecoder",
  },
};

/**
 * Loads the decoders from below the URL `vendor`, where each package lies under its name.
 * `read(url)` gives the bytes of a file; by default it fetches them.
 */
export async function loadCodecs(vendor, read = fetched) {
  const codecs = {};
  // one after the other: a script hands over its factory by a global name
  for (const [name, { path, decoder }] of Object.entries(FILES)) {
    const factory = await scriptFactory(new URL(`${path}.js`, vendor));
    const wasm = await WebAssembly.compile(await read(new URL(`${path}.wasm`, vendor)));
    codecs[name] = (bytes) => decoded(factory, wasm, decoder, bytes);
  }
  return codecs;
}

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} is not there (${response.status})`);
  return response.arrayBuffer();
}

/** What a script of Emscripten's defines: as a module of node's, or where `define` is AMD's. */
async function scriptFactory(url) {
  let defined;
  const before = globalThis.define;
  globalThis.define = (_, make) => (defined = make());
  globalThis.define.amd = {};
  try {
    const module = await import(url);
    return module.default ?? defined;
  } finally {
    globalThis.define = before;
  }
}

async function decoded(factory, wasm, name, bytes) {
  const module = await factory({
    instantiateWasm(imports, receive) {
      WebAssembly.instantiate(wasm, imports).then((instance) => receive(instance, wasm));
      return {};
    },
    print() {},
    printErr() {},
  });
  const decoder = new module[name]();
  try {
    decoder.getEncodedBuffer(bytes.length).set(bytes);
    decoder.decode();
    return frameOf(decoder.getFrameInfo(), decoder.getDecodedBuffer());
  } catch (error) {
    // numbers are C++ exceptions
    if (typeof error === "number" || error instanceof Error) return { pixels: null };
    throw error;
  }
}

function frameOf({ width, height, bitsPerSample, componentCount, isSigned }, buffer) {
  const bytes = buffer.slice();
  const wide = isSigned ? Int16Array : Uint16Array;
  const pixels = bitsPerSample > 8 ? new wide(bytes.buffer) : bytes;
  return { pixels, width, height, channels: componentCount };
}
