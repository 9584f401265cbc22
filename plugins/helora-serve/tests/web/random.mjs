// The random bytes of both sides of a test: those of a call depend on how many were before it.
import { createHash } from "node:crypto";

export function counted() {
  let calls = 0;
  const random = (/** @type {number} */ count) => {
    /** @type {Buffer[]} */
    const parts = [];
    const call = calls++;
    for (let i = 0; 32 * i < count; i++) parts.push(createHash("sha256").update(`${call}.${i}`).digest());
    return new Uint8Array(Buffer.concat(parts).subarray(0, count));
  };
  const begin = (/** @type {number} */ at) => {
    calls = at;
  };
  return Object.assign(random, { begin });
}

export const base64 = (/** @type {Uint8Array | Uint32Array | Float64Array} */ bytes) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
export const bytes = (/** @type {string} */ text) => new Uint8Array(Buffer.from(text, "base64"));
export const doubles = (/** @type {string} */ text) => new Float64Array(bytes(text).buffer);
