// The model behind the page: loads, proves, and only then answers.

import { availableThreads, openBackend } from "./backend.js";
import { decide, positiveIndex, referral, refusal } from "./decision.js";
import { proveInputs, provePictures } from "./golden.js";
import { overlay, plain } from "./heatmap.js";
import { readModel } from "./model-file.js";
import { loadCodecs } from "./pixels/codecs.js";
import { ImageError, networkInput, readImage } from "./pixels/index.js";
import { isInverted, turned } from "./polarity.js";
import { SiteError, checkPage, pathOf, readFile, readRecord, urlOf } from "./site.js";

const MODEL = "model.onnx";
const BLANK = "blank image: all pixels are alike";
const DARK = "dark:"; // the one note that is a doubt about the picture
const MOST_SECONDS = 180;

/**
 * The engine, once this browser has proved that it answers as the original did.
 *
 * `asked` may name one backend and a number of threads; `say` hears {text, bytes} meanwhile.
 * Throws SiteError, with `tried` (what each backend failed at), where nothing may be answered.
 */
export async function openEngine(asked, say) {
  const record = await readRecord();
  const onBytes = (bytes) => say({ bytes });
  say({ text: "Loading", total: bytesToLoad(record) });
  await checkPage(record);
  const bytes = await readFile(record, MODEL, onBytes);
  const model = readModel(bytes);
  say({ spec: model.spec, about: { ...record, card: model.card, sha256: record.files[MODEL].sha256 } });
  const codecs = await loadCodecs(urlOf("vendor/"), (url) => readFile(record, pathOf(url)));
  say({ text: "Decoding the golden pictures" });
  const pictures = await provePictures(model, codecs);
  if (pictures.problem) throw refused(pictures.problem, []);
  const names = asked.backend ? [asked.backend] : record.backends;
  const threads = Math.min(asked.threads ?? Infinity, availableThreads());
  const size = model.spec.pixel_path.size;
  const options = { record, model: bytes, size, threads, onBytes };
  const { backend, ...proof } = await firstProved(names, options, model, codecs, say);
  return new Engine(model, codecs, backend, { pictures, ...proof });
}

/** The first backend that is proved: {backend, inputs, tried}; throws SiteError where none is. */
async function firstProved(names, options, model, codecs, say) {
  const tried = [];
  for (const name of names) {
    say({ text: `Answering the golden inputs by ${name}` });
    try {
      return { ...(await inTime(proved(name, options, model, codecs))), tried };
    } catch (error) {
      tried.push(`${name}: ${error.message}`);
    }
  }
  throw refused("no backend of this browser answers as the original did", tried);
}

/** A backend that answers the golden inputs rightly; throws what it fails at. */
async function proved(name, options, model, codecs) {
  const backend = await openBackend(name, options);
  const inputs = await proveInputs(model, backend, codecs);
  if (!inputs.problem) return { backend, inputs };
  await backend.close();
  throw new Error(inputs.problem);
}

/** A promise's value, or an error once it has taken too long. */
function inTime(promise) {
  const late = new Promise((_, reject) => {
    const message = `it took longer than ${MOST_SECONDS} s`;
    setTimeout(() => reject(new Error(message)), 1000 * MOST_SECONDS);
  });
  return Promise.race([promise, late]);
}

/** What the spec's pixel path says of how a file is read. */
function readOptions({ size, dicom_window, grey_bits }) {
  return { size, dicomWindow: dicom_window ?? 0, greyBits: grey_bits ?? 0 };
}

function refused(problem, tried) {
  return Object.assign(new SiteError(problem), { tried });
}

function bytesToLoad(record) {
  const path = "vendor/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm";
  return record.files[MODEL].n_bytes + record.files[path].n_bytes;
}

class Engine {
  constructor({ spec, golden }, codecs, backend, proof) {
    this.spec = spec;
    this.golden = golden;
    this.codecs = codecs;
    this.backend = backend;
    this.proof = { ...proof, backend: backend.name, threads: backend.threads };
  }

  /**
   * The answer to an image file (a File or Blob), under the name `path`: the fields of a row of
   * predictions.csv; with `pictures` also RGBA pixels. Throws BackendError where the network fails:
   * then nothing more may be asked of it.
   */
  async answer(path, file, pictures) {
    const started = performance.now();
    const image = await this.#read(file);
    if (image.error !== undefined) return { path, status: "error", error: image.error };
    const decoded = performance.now();
    const outputs = await this.backend.run(image.input);
    const ms = { decoding: decoded - started, network: performance.now() - decoded };
    const answer = { path, ...this.#answerOf(outputs, image), ms, shape: image.shape };
    return pictures ? { ...answer, ...this.#pictures(image.input, outputs, answer) } : answer;
  }

  async #read(file) {
    try {
      const bytes = new Uint8Array(await file.arrayBuffer());
      const path = this.spec.pixel_path;
      const image = await readImage(bytes, this.codecs, readOptions(path));
      const { grey, width, height, format, notes = [], dicom = null } = image;
      const input = networkInput(grey, width, height, path.size, path.fit);
      const remarks = [
        ...(grey.every((value) => value === grey[0]) ? [BLANK] : []),
        ...notes.filter((note) => note.startsWith(DARK)),
      ];
      const reading = notes.filter((note) => !note.startsWith(DARK)).join("; ");
      return { input, dicom, remarks, shape: { width, height, format, reading } };
    } catch (error) {
      if (error instanceof ImageError) return { error: error.reason };
      return { error: `cannot be read here (${error.message || error.name})` };
    }
  }

  #answerOf({ probabilities, distance: distances }, { input, remarks, dicom }) {
    const { spec } = this;
    const distance = distances?.[0];
    const inverted = isInverted(spec, input);
    const reason = refusal(spec, distance);
    const doubt = reason ? "" : referral(spec, probabilities[positiveIndex(spec)]);
    const error = [reason, doubt, ...remarks].filter(Boolean).join("; ");
    if (reason) return { status: "abstain", distance, inverted, error, dicom };
    const named = spec.classes.map((name, i) => [name, probabilities[i]]);
    return {
      status: doubt ? "refer" : "ok",
      prediction: doubt ? undefined : spec.classes[decide(spec, probabilities)],
      probability: probabilities[positiveIndex(spec)],
      probabilities: Object.fromEntries(named),
      distance,
      inverted,
      error,
      dicom,
    };
  }

  /** The network's input, turned around as it was read, and with the evidence, if there is any. */
  #pictures(given, { cam }, { prediction, shape, inverted }) {
    const { size: side, fit } = this.spec.pixel_path;
    const input = inverted ? turned(given) : given;
    const aspect = fit === "stretch" ? shape.width / shape.height : 1;
    const picture = { side, aspect, plain: plain(input), heat: null };
    if (cam === undefined || prediction === undefined) return { picture };
    const n = cam.length / this.spec.classes.length;
    const place = n * this.spec.classes.indexOf(prediction);
    picture.heat = overlay(input, side, cam.subarray(place, place + n));
    return { picture };
  }
}
