// The class activation map over the radiograph, as kneeedge/inference/heatmap.py draws it.

const OPACITY = 0.45;
const STOPS = [[0, 0, 0], [60, 10, 110], [190, 50, 80], [250, 140, 10], [255, 240, 150]];
const LEVELS = Array.from({ length: 256 }, (_, level) => Math.fround(level / 255));
const WEIGHTS = LEVELS.map((level) => Math.fround(Math.fround(OPACITY) * Math.fround(Math.sqrt(level))));

/** RGBA bytes (side × side) of grey pixels (side × side). */
export function plain(grey) {
  const rgba = new Uint8ClampedArray(4 * grey.length);
  grey.forEach((value, i) => rgba.set([value, value, value, 255], 4 * i));
  return rgba;
}

/** RGBA bytes of grey pixels (side × side) with the map `cam` (n × n, of one class) over them:
 *  positive values alone, relative to the image's own largest. */
export function overlay(grey, side, cam) {
  const peak = Math.max(...cam);
  if (!(peak > 0)) return plain(grey);
  const scaled = cam.map((value) => Math.fround(Math.fround(255 * Math.max(value, 0)) / peak));
  const strength = enlarged(scaled, Math.sqrt(cam.length), side);
  const rgba = new Uint8ClampedArray(4 * grey.length);
  grey.forEach((value, i) => {
    const level = rounded(strength[i]);
    const rest = Math.fround(value * Math.fround(1 - WEIGHTS[level]));
    const colour = COLOURS[level].map((channel) => rounded(rest + channel));
    rgba.set([...colour, 255], 4 * i);
  });
  return rgba;
}

const COLOURS = LEVELS.map((level, i) => [0, 1, 2].map((channel) => WEIGHTS[i] * stop(level, channel)));

/** The colour at a level, between the stops on either side. */
function stop(level, channel) {
  const place = level * (STOPS.length - 1);
  const below = Math.min(Math.floor(place), STOPS.length - 2);
  const [from, to] = [STOPS[below][channel], STOPS[below + 1][channel]];
  return from + (to - from) * (place - below);
}

/** Values (n × n) as (side × side), bilinear between the centres: across, then down. */
function enlarged(values, n, side) {
  const across = new Float32Array(n * side);
  const whole = new Float32Array(side * side);
  for (let x = 0; x < side; x++) {
    const { low, high, share } = between(x, n, side);
    for (let row = 0; row < n; row++) {
      across[row * side + x] = mixed(values[row * n + low], values[row * n + high], share);
    }
  }
  for (let y = 0; y < side; y++) {
    const { low, high, share } = between(y, n, side);
    for (let x = 0; x < side; x++) {
      whole[y * side + x] = mixed(across[low * side + x], across[high * side + x], share);
    }
  }
  return whole;
}

/** The two inputs about output `i` of `side`, of `n`, and the share of the higher one. */
function between(i, n, side) {
  const centre = ((i + 0.5) * n) / side - 0.5;
  const low = Math.floor(centre);
  const inside = (place) => Math.min(Math.max(place, 0), n - 1);
  return { low: inside(low), high: inside(low + 1), share: centre - low };
}

function mixed(low, high, share) {
  return low * (1 - share) + high * share;
}

/** To the nearest integer, ties to even, as numpy's rint. */
function rounded(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest === 0.5) return floor + (floor % 2);
  return rest > 0.5 ? floor + 1 : floor;
}
