// @ts-check
/** Bytes: joining, comparing, hexadecimal, little-endian numbers, SHA-256. */

/** @param {readonly Uint8Array[]} parts @returns {Uint8Array<ArrayBuffer>} */
export function joined(parts) {
  const out = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** @param {Uint8Array} a @param {Uint8Array} b */
export function equal(a, b) {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** @param {Uint8Array} bytes */
export function hex(bytes) {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {string} text */
export function unhex(text) {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** @param {readonly number[]} numbers 32 bits each, little-endian */
export function ofNumbers(numbers) {
  const out = new DataView(new ArrayBuffer(4 * numbers.length));
  numbers.forEach((number, i) => out.setUint32(4 * i, number, true));
  return new Uint8Array(out.buffer);
}

/** @param {readonly bigint[]} words 64 bits each, little-endian */
export function ofWords(words) {
  const out = new DataView(new ArrayBuffer(8 * words.length));
  words.forEach((word, i) => out.setBigUint64(8 * i, word, true));
  return new Uint8Array(out.buffer);
}

/** @param {number} number a double, little-endian */
export function ofDouble(number) {
  const out = new DataView(new ArrayBuffer(8));
  out.setFloat64(0, number, true);
  return new Uint8Array(out.buffer);
}

/** @param {Uint8Array} bytes @returns {DataView} */
export function view(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** @param {string} text */
export function utf8(text) {
  return new TextEncoder().encode(text);
}

/** SHA-256, of the platform's. @param {Uint8Array} bytes @returns {Promise<Uint8Array>} */
export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", /** @type {BufferSource} */ (bytes)));
}
