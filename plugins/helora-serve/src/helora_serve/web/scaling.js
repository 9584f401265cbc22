// @ts-check
/** Powers of two, which scale exactly: each token's x to a norm of one at most. */

const LARGEST_EXPONENT = 1000;
const scratch = new DataView(new ArrayBuffer(8));

/** The least e with a norm ≤ 2^e; 0 for a norm of zero. @param {number} norm */
export function exponentOf(norm) {
  if (norm === 0) return 0;
  if (norm < 2 ** -1000) return exponentOf(norm * 2 ** 200) - 200;
  scratch.setFloat64(0, norm);
  const high = scratch.getUint32(0), exponent = (high >>> 20) - 1023;
  return exponent + (high & 0xfffff || scratch.getUint32(4) ? 1 : 0);
}

/** A number times 2^exponent, rounded once. @param {number} number @param {number} exponent */
export function timesPower(number, exponent) {
  let [value, left] = [number, exponent];
  for (; left > LARGEST_EXPONENT; left -= LARGEST_EXPONENT) value *= 2 ** LARGEST_EXPONENT;
  for (; left < -LARGEST_EXPONENT; left += LARGEST_EXPONENT) value *= 2 ** -LARGEST_EXPONENT;
  return value * 2 ** left;
}

/**
 * Each token scaled to ‖x‖₂ ≤ 1, the exponents, and which tokens are zero.
 * @param {Float64Array} x (tokens, d_in) @param {number} tokens
 */
export function normalized(x, tokens) {
  const width = x.length / tokens, scaled = new Float64Array(x.length);
  const exponents = new Int32Array(tokens), zeros = new Uint8Array(tokens);
  for (let t = 0; t < tokens; t++) {
    const row = x.subarray(t * width, (t + 1) * width);
    const first = exponentOf(row.reduce((most, each) => Math.max(most, Math.abs(each)), 0));
    const near = row.map((each) => timesPower(each, -first));
    exponents[t] = first + exponentOf(Math.sqrt(near.reduce((sum, each) => sum + each * each, 0)));
    zeros[t] = near.every((each) => !each) ? 1 : 0;
    row.forEach((each, i) => (scaled[t * width + i] = timesPower(each, -exponents[t])));
  }
  return { scaled, exponents, zeros };
}
