// The page's end of worker.js.

const MOST_SECONDS = 120;

/** Starts the worker: `on.news`, `on.ready` and `on.refused` hear what it says of itself. */
export class Asking {
  #worker;
  #waiting = new Map();
  #next = 0;

  constructor(asked, on) {
    this.on = on;
    this.#worker = new Worker(workerUrl(), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#hear(data);
    this.#worker.onerror = (event) => {
      this.#refuse(`it cannot be started (${event.message || "no reason is given"})`);
    };
    this.#worker.postMessage({ start: asked });
  }

  /** The answer to a file; never, once the page has refused. */
  ask(path, file, pictures) {
    const id = this.#next++;
    this.#worker.postMessage({ id, path, file, pictures });
    const late = setTimeout(() => {
      this.#refuse(`${path} took longer than ${MOST_SECONDS} s`);
    }, 1000 * MOST_SECONDS);
    return new Promise((resolve) => {
      this.#waiting.set(id, (answer) => {
        clearTimeout(late);
        resolve(answer);
      });
    });
  }

  #hear({ id, answer, news, ready, refused }) {
    if (answer) {
      this.#waiting.get(id)(answer);
      this.#waiting.delete(id);
    } else if (news) this.on.news(news);
    else if (ready) this.on.ready(ready);
    else this.#refuse(refused.problem, refused.tried);
  }

  #refuse(problem, tried = []) {
    this.#worker.terminate();
    this.on.refused({ problem, tried });
  }
}

/**
 * A worker whose text the page itself gives: such a one is under the page's content security policy,
 * where one loaded by its address would be under none.
 */
function workerUrl() {
  const module = new URL("worker.js", import.meta.url).href;
  return URL.createObjectURL(new Blob([`import ${JSON.stringify(module)};`], { type: "text/javascript" }));
}
