// Whether the graph takes an image for inverted, as kneeedge/model/polarity.py tells it.

const N_CELLS = 8;
const LEAST_SPREAD = 2;

export const READ_INVERSE = "the image is inverted; its inverse was read";

/** Whether the graph turns an input (S × S bytes) around; undefined where it turns none. */
export function isInverted(spec, input) {
  const { polarity } = spec;
  if (polarity == null) return undefined;
  const features = normalised(levels(input, spec.pixel_path.size, polarity.blank_range ?? null));
  return features.reduce((sum, value, i) => sum + value * polarity.weights[i], 0) < polarity.limit;
}

/** The input with black for white. */
export function turned(input) {
  return input.map((value) => 255 - value);
}

/** Mean grey levels of the cells, row by row; what is blank counts as the mean of the rest. */
function levels(input, side, blankRange) {
  const cell = side / N_CELLS;
  const sums = new Float64Array(N_CELLS ** 2);
  const counts = new Float64Array(N_CELLS ** 2);
  const { rows, columns } = shown(input, side, blankRange);
  for (let y = 0; y < side; y++) {
    if (!rows[y]) continue;
    for (let x = 0; x < side; x++) {
      if (!columns[x]) continue;
      const i = N_CELLS * Math.floor(y / cell) + Math.floor(x / cell);
      sums[i] += input[side * y + x];
      counts[i]++;
    }
  }
  const mean = sum(sums) / Math.max(1, sum(counts));
  return sums.map((value, i) => (value + mean * (cell ** 2 - counts[i])) / cell ** 2);
}

/** Which rows and columns are not blank, as 0 and 1. */
function shown(input, side, blankRange) {
  if (blankRange === null) {
    const all = new Uint8Array(side).fill(1);
    return { rows: all, columns: all };
  }
  const line = (start, step) => {
    let [low, high] = [255, 0];
    for (let i = 0; i < side; i++) {
      const value = input[start + step * i];
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    return high - low > blankRange;
  };
  const rows = Uint8Array.from({ length: side }, (_, y) => line(side * y, 1));
  const columns = Uint8Array.from({ length: side }, (_, x) => line(x, side));
  return { rows, columns };
}

/** The levels less their mean and over their deviation. */
function normalised(cells) {
  const mean = sum(cells) / cells.length;
  const centred = cells.map((value) => value - mean);
  const spread = Math.sqrt(sum(centred.map((value) => value * value)) / cells.length);
  return centred.map((value) => value / (spread + LEAST_SPREAD));
}

function sum(values) {
  return values.reduce((a, b) => a + b, 0);
}
