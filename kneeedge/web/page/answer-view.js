// One answer: the radiograph, the evidence, the probability beside the threshold, or the refusal.

import { byId, element, fillFacts, show } from "./elements.js";
import { general } from "./numbers.js";
import { READ_INVERSE } from "./polarity.js";

let picture = null;

byId("heat").addEventListener("change", draw);

export function showAnswer(answer, spec) {
  show(byId("answer"));
  byId("answer").dataset.status = answer.status;
  byId("verdict-path").textContent = answer.path;
  byId("verdict-answer").textContent = headline(answer);
  byId("verdict-reason").textContent = answer.error;
  byId("verdict-bars").replaceChildren(...bars(answer, spec));
  fillFacts(byId("verdict-facts"), facts(answer, spec));
  picture = answer.picture ?? null;
  show(byId("picture").parentElement, picture !== null);
  show(byId("heat-choice"), picture?.heat != null);
  byId("picture-facts").textContent = pictureFacts(answer, spec);
  draw();
}

function headline({ status, prediction }) {
  if (status === "ok") return prediction;
  if (status === "refer") return "Refer to a person";
  return status === "abstain" ? "No answer" : "Cannot be read";
}

function draw() {
  if (picture === null) return;
  const canvas = byId("picture");
  const isHeat = picture.heat !== null && byId("heat").checked;
  canvas.width = picture.side;
  canvas.height = picture.side;
  const pixels = new ImageData(isHeat ? picture.heat : picture.plain, picture.side, picture.side);
  canvas.style.setProperty("--aspect", picture.aspect);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const evidence = isHeat ? ", with the evidence for the answer over it" : "";
  canvas.setAttribute("aria-label", `The radiograph as the network sees it${evidence}`);
}

/** Of two classes the positive one beside the threshold or the limits; of more a bar each. */
function bars({ probabilities, probability }, spec) {
  if (probabilities === undefined) return [];
  if (spec.classes.length > 2) {
    return spec.classes.map((name) => bar(name, probabilities[name], [], ""));
  }
  const { certified, threshold } = spec;
  if (certified == null) {
    const rule = `answered from ${general(threshold, 4)} on, the model's threshold`;
    return [bar(spec.positive, probability, [threshold], rule)];
  }
  const { low, high } = certified;
  const rule = `answered below ${general(low, 6)} and from ${general(high, 6)} on, the certified limits`;
  return [bar(spec.positive, probability, [low, high], rule)];
}

/** A probability as a bar, with marks at the limits of an answer, if any, and the rule in words. */
function bar(name, probability, limits, rule) {
  const label = `probability of ${name}: ${probability.toFixed(3)}`;
  const fill = element("span", "", { class: "fill" });
  fill.style.inlineSize = `${100 * probability}%`;
  const track = element("div", "", { class: "track", role: "img", "aria-label": label }, [fill]);
  const lines = [element("p", label), track];
  for (const limit of limits) {
    const mark = element("span", "", { class: "mark" });
    mark.style.insetInlineStart = `${100 * limit}%`;
    track.append(mark);
  }
  if (rule) lines.push(element("p", rule, { class: "quiet" }));
  return element("div", "", { class: "bar" }, lines);
}

function facts({ status, distance, inverted, dicom, shape, ms }, spec) {
  const limit = spec.novelty?.limit;
  const far = limit === undefined ? "" : `, and ${general(limit, 4)} is the limit`;
  return [
    ["distance", distance === undefined || status === "abstain" ? "" : `${general(distance, 4)} from the training images${far}`],
    ["inverted", inverted ? READ_INVERSE : ""],
    ["side and view", dicom ? [dicom.laterality, dicom.view].filter(Boolean).join(", ") : ""],
    ["read", shape?.reading],
    ["time", ms ? `${ms.network.toFixed(0)} ms in the network, ${ms.decoding.toFixed(0)} ms before it` : ""],
  ];
}

function pictureFacts({ shape, picture: drawn }, spec) {
  if (!shape || !drawn) return "";
  const side = spec.pixel_path.size;
  return `${shape.format}, ${shape.width} × ${shape.height}; the network sees ${side} × ${side}`;
}
