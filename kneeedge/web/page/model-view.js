// What the model says of itself.

import { byId, fillFacts, show } from "./elements.js";

const FIRST = [
  "model", "classes", "positive", "abstains", "certified", "trained on", "verification", "signed by",
];

export function showModel(spec, { kneeedge, facts, card, sha256 }) {
  show(byId("model"));
  byId("model-name").textContent = spec.name;
  const known = new Map(facts);
  const scores = facts.filter(([name]) => /^(original|slimmed), /.test(name));
  const first = FIRST.filter((name) => known.has(name)).map((name) => [name, known.get(name)]);
  fillFacts(byId("model-facts"), [...first, ...scores]);
  fillFacts(byId("model-all"), facts);
  const caveat = byId("model-caveat");
  caveat.textContent = known.has("LEAKY") ? `LEAKY: ${known.get("LEAKY")}` : "";
  show(caveat, known.has("LEAKY"));
  byId("card").textContent = card;
  show(byId("card-whole"), card !== "");
  byId("version").textContent = `Written by kneeedge ${kneeedge}; model SHA-256 ${sha256}.`;
}
