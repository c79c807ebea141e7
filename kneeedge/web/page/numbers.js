// Numbers as Python writes them, so that a table from the page is a table from `kneeedge infer`.

/** As f"{value:.{digits}f}": ties to even, where JavaScript rounds them up. */
export function fixed(value, digits) {
  const scaled = Math.abs(value) * 10 ** digits;
  const isTie = scaled % 1 === 0.5 && scaled / 10 ** digits === Math.abs(value);
  if (!isTie) return value.toFixed(digits);
  const even = 2 * Math.round(scaled / 2);
  return ((Math.sign(value) * even) / 10 ** digits).toFixed(digits);
}

/** As f"{value:.{digits}g}". */
export function general(value, digits) {
  if (value === 0) return "0";
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const power = Number(exponent);
  if (power >= -4 && power < digits) return trimmed(value.toFixed(digits - 1 - power));
  const sign = power < 0 ? "-" : "+";
  return `${trimmed(mantissa)}e${sign}${String(Math.abs(power)).padStart(2, "0")}`;
}

function trimmed(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
