// The random bytes of both sides of a test: those of a call depend on how many were before it.
import { createHash } from "node:crypto";

export function counted() {
  let calls = 0;
  const random = (count) => {
    const parts = [];
    const call = calls++;
    for (let i = 0; 32 * i < count; i++) parts.push(createHash("sha256").update(`${call}.${i}`).digest());
    return new Uint8Array(Buffer.concat(parts).subarray(0, count));
  };
  random.begin = (at) => void (calls = at);
  return random;
}

export const base64 = (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
export const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
export const doubles = (text) => new Float64Array(bytes(text).buffer);
