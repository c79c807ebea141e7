// The page: what is dropped goes to the worker, and what it answers is shown.

import { showAnswer } from "./answer-view.js";
import { Asking } from "./asking.js";
import { byId, show } from "./elements.js";
import { chosenFolder, dropped, imagesAmong } from "./files.js";
import { addRow, beginFolder, endFolder } from "./folder-view.js";
import { showModel } from "./model-view.js";
import { showNews, showProof, showRefusal } from "./proof-view.js";

const LOCKED =
  "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'";
const CHOOSERS = ["choose-file", "choose-folder"];

let spec = null;
let isReady = false;
/** The folder that is being answered; another takes its place. */
let current = null;

const asking = new Asking(wanted(), {
  news(news) {
    showNews(news);
    if (!news.about) return;
    spec = news.spec;
    showModel(spec, news.about);
  },
  ready(proof) {
    lock();
    isReady = true;
    CHOOSERS.forEach((id) => (byId(id).disabled = false));
    showProof(proof);
  },
  refused(reasons) {
    isReady = false;
    CHOOSERS.forEach((id) => (byId(id).disabled = true));
    if (current) endFolder(spec, true);
    current = null;
    showRefusal(reasons);
  },
});

/** ?backend=wasm&threads=1 asks for one backend alone, proved all the same. */
function wanted() {
  const asked = new URLSearchParams(location.search);
  const threads = Number.parseInt(asked.get("threads"), 10);
  return { backend: asked.get("backend"), threads: threads > 0 ? threads : undefined };
}

/** From now on the browser lets this page ask nothing of anybody, its own server included. */
function lock() {
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = LOCKED;
  document.head.append(policy);
}

async function take({ files, isFolder }) {
  if (!isReady || files.length === 0) return;
  if (files.length === 1 && !isFolder) await answerOne(files[0]);
  else await answerAll(files, isFolder);
}

async function answerOne({ path, file }) {
  byId("answer").setAttribute("aria-busy", "true");
  showAnswer(await asking.ask(path, file, true), spec);
  byId("answer").removeAttribute("aria-busy");
  byId("answer").scrollIntoView({ block: "nearest" });
}

async function answerAll(files, isFolder) {
  const run = {};
  current = run;
  show(byId("answer"), false);
  const { images, others } = isFolder ? await imagesAmong(files) : { images: files, others: 0 };
  beginFolder(images.length, others, spec);
  for (const image of images) {
    if (current !== run) return;
    const answer = await asking.ask(image.path, image.file, false);
    if (current !== run) return;
    addRow(answer, images.length, others, spec, () => answerOne(image));
  }
  current = null;
  endFolder(spec, false);
}

byId("stop").addEventListener("click", () => {
  current = null;
  endFolder(spec, true);
});

for (const [button, input] of [["choose-file", "file-input"], ["choose-folder", "folder-input"]]) {
  byId(button).addEventListener("click", () => byId(input).click());
}
byId("file-input").addEventListener("change", ({ target }) => {
  const files = [...target.files].map((file) => ({ path: file.name, file }));
  target.value = "";
  take({ files, isFolder: false });
});
byId("folder-input").addEventListener("change", ({ target }) => {
  const folder = chosenFolder(target.files);
  target.value = "";
  take(folder);
});

addEventListener("dragover", (event) => {
  event.preventDefault();
  event.dataTransfer.dropEffect = isReady ? "copy" : "none";
  byId("choose").classList.toggle("over", isReady);
});
addEventListener("dragleave", ({ relatedTarget }) => {
  if (relatedTarget === null) byId("choose").classList.remove("over");
});
addEventListener("drop", async (event) => {
  event.preventDefault();
  byId("choose").classList.remove("over");
  await take(await dropped(event.dataTransfer));
});
