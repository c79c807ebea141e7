// What a model file says of itself, read from the very bytes that run (kneeedge/model/metadata.py).

import { SiteError } from "./site.js";

const METADATA_PROPS = 14; // of ModelProto, onnx.proto; its entries have a key and a value
const KEY = 1;
const VALUE = 2;
const FORMAT = 3;
const RESIZE = "triangle-22bit-across-then-down";

/** {spec, golden, card} of an ONNX file; throws SiteError where this page cannot follow them. */
export function readModel(bytes) {
  const texts = metadata(bytes);
  const spec = JSON.parse(texts.get("kneeedge") ?? "null");
  const golden = JSON.parse(texts.get("kneeedge.golden") ?? "null");
  if (spec === null || golden === null) throw new SiteError("the model file has no spec or no golden set");
  if (spec.format !== FORMAT || spec.pixel_path.resize !== RESIZE) {
    throw new SiteError("the model file is of another version of kneeedge than this page");
  }
  return { spec, golden, card: texts.get("kneeedge.card") ?? "" };
}

function metadata(bytes) {
  const decoder = new TextDecoder();
  const texts = new Map();
  for (const entry of fields(bytes)) {
    if (entry.number !== METADATA_PROPS) continue;
    const parts = new Map([...fields(entry.content)].map((part) => [part.number, part.content]));
    texts.set(decoder.decode(parts.get(KEY)), decoder.decode(parts.get(VALUE)));
  }
  return texts;
}

/** The fields of a Protocol Buffers message: {number, content}; the content of plain numbers is empty. */
function* fields(bytes) {
  let place = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (place >= bytes.length) throw new SiteError("the model file is damaged");
      const byte = bytes[place++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (place < bytes.length) {
    const tag = varint();
    const size = contentSize(tag % 8, varint);
    yield { number: Math.floor(tag / 8), content: bytes.subarray(place, place + size) };
    place += size;
  }
}

/** Bytes of a field's content, by its wire type; a plain number is read on the way. */
function contentSize(wireType, varint) {
  if (wireType === 2) return varint();
  if (wireType === 0) varint();
  else if (wireType === 1) return 8;
  else if (wireType === 5) return 4;
  else throw new SiteError("the model file is damaged");
  return 0;
}
