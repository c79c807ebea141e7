// predictions.csv, as kneeedge/inference/predictions.py writes it.

import { fixed } from "./numbers.js";

const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;

/** The header. */
export function columns(spec) {
  const ofClasses = spec.classes.map((name) => `p_${name}`);
  const ofDicom = ["sop_instance_uid", "laterality", "view", "patient_id"];
  return ["path", "status", "prediction", "probability", ...ofClasses, "distance", "inverted", ...ofDicom, "error"];
}

/** One row: probabilities with six digits, the distance with four. */
export function cells(answer, spec) {
  const { dicom } = answer;
  const ofClasses = spec.classes.map((name) => answer.probabilities?.[name]);
  return [
    noFormula(answer.path),
    answer.status,
    noFormula(answer.prediction ?? ""),
    ...[answer.probability, ...ofClasses].map((value) => number(value, 6)),
    number(answer.distance, 4),
    answer.inverted === undefined ? "" : String(answer.inverted),
    noFormula(dicom?.sop_instance_uid ?? ""),
    noFormula(dicom?.laterality ?? ""),
    noFormula(dicom?.view ?? ""),
    "", // the patient's id never leaves a file here
    noFormula(answer.error),
  ];
}

/** The whole table. */
export function csv(answers, spec) {
  const lines = [columns(spec), ...answers.map((answer) => cells(answer, spec))];
  return lines.map((line) => `${line.map(quoted).join(",")}\r\n`).join("");
}

/** Text that no spreadsheet takes for a formula (CWE-1236). */
function noFormula(text) {
  return FORMULA.test(text) ? `./${text}` : text;
}

function number(value, digits) {
  return value === undefined || value === null ? "" : fixed(value, digits);
}

function quoted(cell) {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
