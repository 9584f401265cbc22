// @ts-check
/** The outer form of what the engine serialises: a header, and fields of a tag, a length and so many bytes. */

import { equal, joined, ofNumbers, utf8, view } from "./bytes.js";
import { EngineError } from "./wasm.js";

export const Kind = Object.freeze({
  CIPHERTEXT: 1,
  EVALUATION_KEYS: 2,
  SECRET_KEY: 3,
  BATCH_KEY: 4,
  BATCH_UPLOAD: 5,
  BATCH_RESULTS: 6,
});

export const Tag = Object.freeze({
  PRODUCER: 1,
  LEVEL: 2,
  SCALE: 3,
  SEED: 4,
  POLYNOMIALS: 5,
  KEY_ID: 6,
  PUBLIC_KEY: 7,
  STEPS: 8,
  ROTATION_KEYS: 9,
  LOW_BITS: 10,
});

const MAGIC = utf8("HRNS");
const FORMAT = 1;
export const DIGEST_BYTES = 16;
export const HEADER_BYTES = 6 + DIGEST_BYTES;
const LONGEST_VERSION = 64;

/** @param {string} what */
export function corrupt(what) {
  return new EngineError("corrupt-payload", `These bytes are damaged: ${what}.`);
}

/** @param {number} kind @param {Uint8Array} digest */
export function header(kind, digest) {
  return joined([MAGIC, Uint8Array.of(FORMAT, kind), digest]);
}

/**
 * The bytes of fields, in the order of their tags.
 * @param {number} kind @param {Uint8Array} digest @param {string} producer the version that makes them
 * @param {readonly [number, Uint8Array][]} fields
 */
export function written(kind, digest, producer, fields) {
  /** @type {Uint8Array[]} */
  const parts = [header(kind, digest)];
  for (const [tag, value] of /** @type {[number, Uint8Array][]} */ ([[Tag.PRODUCER, utf8(producer)], ...fields]))
    parts.push(Uint8Array.of(tag), ofNumbers([value.length]), value);
  return joined(parts);
}

/**
 * The fields, without the producer's.
 * @param {number} kind @param {Uint8Array} digest @param {Uint8Array} payload @returns {Map<number, Uint8Array>}
 */
export function read(kind, digest, payload) {
  checkHeader(kind, digest, payload);
  const found = new Map();
  const whole = view(payload);
  for (let at = HEADER_BYTES, last = 0; at < payload.length; ) {
    if (at + 5 > payload.length) throw corrupt("it ends within a field's header");
    const [tag, length] = [payload[at], whole.getUint32(at + 1, true)];
    at += 5;
    if (length > payload.length - at) throw corrupt(`field ${tag} is longer than what is left`);
    if (tag <= last || tag > Tag.LOW_BITS) throw corrupt(`field ${tag} is unknown, or out of order`);
    found.set((last = tag), payload.subarray(at, at + length));
    at += length;
  }
  const producer = found.get(Tag.PRODUCER);
  if (!producer?.length || producer.length > LONGEST_VERSION) throw corrupt("it does not say which version made it");
  found.delete(Tag.PRODUCER);
  return found;
}

/** @param {number} kind @param {Uint8Array} digest @param {Uint8Array} payload */
export function checkHeader(kind, digest, payload) {
  if (payload.length < HEADER_BYTES || !equal(payload.subarray(0, 4), MAGIC))
    throw corrupt("the engine did not write it");
  if (payload[4] !== FORMAT)
    throw new EngineError("version-mismatch", `This is of format ${payload[4]}, and format ${FORMAT} is read here.`);
  if (payload[5] !== kind) throw corrupt(`it is of kind ${payload[5]}, not ${kind}`);
  if (!equal(payload.subarray(6, HEADER_BYTES), digest))
    throw new EngineError("foreign-ciphertext", "This was made with other parameters.");
}

/** Refuse fields other than these. @param {Map<number, Uint8Array>} fields @param {readonly number[]} tags */
export function exactly(fields, tags) {
  if (fields.size !== tags.length || !tags.every((tag) => fields.has(tag)))
    throw corrupt("its fields do not belong together");
}
