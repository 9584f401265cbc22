// @ts-check
/** Numbers as bytes, little-endian, of 32 or of 16 bits (IEEE 754). */

import { view } from "./bytes.js";

/** @typedef {"float32" | "float16"} DType */

const scratch = new Float32Array(1),
  bits = new Uint32Array(scratch.buffer);

/** @param {Float32Array} numbers @param {DType} dtype @returns {Uint8Array} */
export function toBytes(numbers, dtype) {
  if (dtype === "float32") return new Uint8Array(numbers.slice().buffer);
  const out = new DataView(new ArrayBuffer(2 * numbers.length));
  numbers.forEach((number, i) => out.setUint16(2 * i, half(number), true));
  return new Uint8Array(out.buffer);
}

/** @param {Uint8Array} bytes @param {DType} dtype @returns {Float32Array} */
export function fromBytes(bytes, dtype) {
  if (dtype === "float32") return new Float32Array(bytes.slice().buffer);
  const from = view(bytes);
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => whole(from.getUint16(2 * i, true)));
}

/** The nearest number of 16 bits, ties to even. @param {number} number */
export function half(number) {
  scratch[0] = number;
  const sign = (bits[0] >>> 16) & 0x8000,
    size = bits[0] & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00; // not a number
  if (size >= 0x477ff000) return sign | 0x7c00; // too large
  if (size < 0x38800000) {
    scratch[0] = Math.abs(number) + 0.5; // whose last bit is worth 2⁻²⁴, as that of small halves is
    return sign | (bits[0] - 0x3f000000);
  }
  return sign | ((size - 0x38000000 + 0xfff + ((size >>> 13) & 1)) >>> 13);
}

/** @param {number} half its bits */
export function whole(half) {
  const exponent = (half >>> 10) & 31,
    fraction = half & 0x3ff;
  const size =
    exponent === 31
      ? fraction
        ? NaN
        : Infinity
      : exponent
        ? (1 + fraction / 1024) * 2 ** (exponent - 15)
        : fraction * 2 ** -24;
  return half & 0x8000 ? -size : size;
}
