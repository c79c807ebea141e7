// Small tools for the page's elements.

export function byId(id) {
  return document.getElementById(id);
}

/** An element with text and attributes; children are added in their order. */
export function element(name, text = "", attributes = {}, children = []) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Fill a <dl> with [name, value] pairs; those without a value are left out. */
export function fillFacts(list, facts) {
  const shown = facts.filter(([, value]) => value);
  list.replaceChildren(...shown.map(([name, value]) => fact(name, value)));
  list.hidden = shown.length === 0;
}

function fact(name, value) {
  return element("div", "", {}, [element("dt", name), element("dd", value)]);
}

export function show(node, isShown = true) {
  node.hidden = !isShown;
}
