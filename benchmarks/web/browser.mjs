// Debian's chromium for tests and figures, through playwright-core: a line of JSON in, a line out.
//
//     node browser.mjs PLAYWRIGHT CHROMIUM
//
// {"on": "page", "call": "click", "args": ["#stop"]} calls a method of the page, and answers {"value": …} or {"error": …}. "open" makes a new page of its own context,
// and "download" clicks and answers the file's text.

import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

const [playwright, executablePath] = process.argv.slice(2);
const { chromium } = await import(playwright);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const targets = { browser };

const own = {
  async open(options = {}) {
    await targets.context?.close();
    targets.context = await browser.newContext(options);
    targets.page = await targets.context.newPage();
    targets.heard = [];
    targets.page.on("console", (message) => targets.heard.push(message.text()));
    targets.page.on("pageerror", (error) => targets.heard.push(String(error)));
  },
  async download(selector) {
    const waiting = targets.page.waitForEvent("download");
    await targets.page.click(selector);
    const download = await waiting;
    return { name: download.suggestedFilename(), text: await readFile(await download.path(), "utf8") };
  },
  /** What an expression gives in the page's worker; those that it starts itself wait for work. */
  inWorker: (expression) => targets.page.workers()[0].evaluate(expression),
  press: (key) => targets.page.keyboard.press(key),
  /** Files and folders, let fall on an element as from the desktop. */
  async drop(selector, files) {
    const { x, y, width, height } = await targets.page.locator(selector).boundingBox();
    const session = await targets.context.newCDPSession(targets.page);
    const place = { x: x + width / 2, y: y + height / 2, modifiers: 0 };
    const data = { items: [], files, dragOperationsMask: 1 };
    for (const type of ["dragEnter", "dragOver", "drop"]) {
      await session.send("Input.dispatchDragEvent", { type, ...place, data });
    }
  },
  heard: () => targets.heard,
  version: () => browser.version(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { on, call, args } = JSON.parse(line);
  let answer;
  try {
    const value = await (on ? targets[on][call](...args) : own[call](...args));
    answer = { value: on === "page" && call === "goto" ? null : value ?? null };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
