// A folder: a row an image as it is answered, the table as predictions.csv in the end.

import { byId, element, show } from "./elements.js";
import { fixed } from "./numbers.js";
import { READ_INVERSE } from "./polarity.js";
import { csv } from "./rows.js";

const STATUS = { ok: "", abstain: "no answer", refer: "refer to a person", error: "unreadable" };

let answers = [];
let started = 0;
let address = "";

/** An empty table for `n` images, of which `others` files were left out. */
export function beginFolder(n, others, spec) {
  answers = [];
  started = performance.now();
  show(byId("folder"));
  show(byId("download"), false);
  show(byId("stop"));
  const probability = spec.classes.length > 2 ? "probability" : `probability of ${spec.positive}`;
  const titles = ["image", "answer", probability, "distance", "remark"];
  byId("folder-head").replaceChildren(...titles.map((title) => element("th", title, { scope: "col" })));
  byId("rows").replaceChildren();
  byId("folder-progress").max = Math.max(1, n);
  showCounts(n, others);
}

/** One more row; `onOpen` is called where its image is asked for again. */
export function addRow(answer, n, others, spec, onOpen) {
  answers.push(answer);
  const open = element("button", answer.path, { type: "button", class: "link" });
  open.addEventListener("click", onOpen);
  const shown = shownProbability(answer, spec);
  const cells = [
    element("th", "", { scope: "row" }, [open]),
    element("td", answer.prediction ?? STATUS[answer.status]),
    element("td", shown === undefined ? "" : fixed(shown, 3), { class: "number" }),
    element("td", answer.distance === undefined ? "" : fixed(answer.distance, 2), { class: "number" }),
    element("td", [answer.inverted ? READ_INVERSE : "", answer.error].filter(Boolean).join("; ")),
  ];
  byId("rows").append(element("tr", "", { "data-status": answer.status }, cells));
  showCounts(n, others);
}

function shownProbability({ probability, probabilities, prediction }, spec) {
  return spec.classes.length > 2 ? probabilities?.[prediction] : probability;
}

function showCounts(n, others) {
  byId("folder-progress").value = answers.length;
  const counts = new Map();
  for (const { prediction, status } of answers) {
    const name = prediction ?? STATUS[status];
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const parts = [...counts].map(([name, count]) => `${count.toLocaleString("en")} ${name}`);
  const nInverted = answers.filter(({ inverted }) => inverted).length;
  if (nInverted) parts.push(`${nInverted.toLocaleString("en")} of all inverted`);
  const left = others ? `; left out, since no images: ${others.toLocaleString("en")}` : "";
  const of = `${answers.length.toLocaleString("en")} of ${n.toLocaleString("en")} images`;
  byId("folder-counts").textContent = `${of}${parts.length ? `: ${parts.join(", ")}` : ""}${left}`;
}

/** No more rows come: offer what there is as predictions.csv. */
export function endFolder(spec, isStopped) {
  show(byId("stop"), false);
  const seconds = (performance.now() - started) / 1000;
  const network = answers.reduce((sum, { ms }) => sum + (ms?.network ?? 0), 0);
  const mean = (total) => (total / Math.max(1, answers.length)).toFixed(0);
  const pace = `${mean(1000 * seconds)} ms an image, ${mean(network)} of them in the network`;
  byId("folder-counts").textContent += isStopped ? "; stopped" : `; ${pace}`;
  URL.revokeObjectURL(address);
  address = URL.createObjectURL(new Blob([csv(answers, spec)], { type: "text/csv" }));
  byId("download").href = address;
  show(byId("download"), answers.length > 0);
}
