// @ts-check
/**
 * The checked envelope around every message: which kind, for which keys, by which library, and SHA-256 of all of it.
 */

import { equal, joined, sha256, utf8, view } from "./bytes.js";
import { corrupt } from "./fields.js";
import { EngineError } from "./wasm.js";

export const PayloadKind = Object.freeze({
  EVALUATION_KEYS: 2,
  UPLOAD: 4,
  DOWNLOAD: 5,
  MASKED_UPLOAD: 6,
  MASKED_DOWNLOAD: 7,
});

const MAGIC = utf8("HLRA");
const VERSION = 2;
const HEADER_BYTES = 32;
export const CHECKSUM_BYTES = 32;

/**
 * @param {number} kind
 * @param {Uint8Array} keyId
 * @param {string} origin backend and library, a line each
 * @param {Uint8Array} payload
 */
export async function wrap(kind, keyId, origin, payload) {
  const madeBy = utf8(origin);
  const head = new Uint8Array(HEADER_BYTES);
  head.set(MAGIC);
  head.set([VERSION, kind], 4);
  head.set(keyId, 6);
  view(head).setUint16(22, madeBy.length);
  view(head).setBigUint64(24, BigInt(payload.length));
  const whole = joined([head, madeBy, payload]);
  return joined([whole, await sha256(whole)]);
}

/**
 * The payload, after all checks.
 * @param {number} kind
 * @param {Uint8Array} keyId
 * @param {string} origin
 * @param {Uint8Array} envelope
 */
export async function unwrap(kind, keyId, origin, envelope) {
  if (envelope.length < HEADER_BYTES + CHECKSUM_BYTES || !equal(envelope.subarray(0, 4), MAGIC))
    throw corrupt("this is no message of helora");
  const end = envelope.length - CHECKSUM_BYTES;
  if (!equal(await sha256(envelope.subarray(0, end)), envelope.subarray(end)))
    throw corrupt("the checksum does not match");
  if (envelope[4] !== VERSION)
    throw new EngineError(
      "version-mismatch",
      `An envelope of version ${envelope[4]}; version ${VERSION} is read here.`,
    );
  if (envelope[5] !== kind) throw corrupt(`a message of kind ${envelope[5]}, not ${kind}`);
  const madeBy = view(envelope).getUint16(22),
    start = HEADER_BYTES + madeBy;
  if (start > end || view(envelope).getBigUint64(24) !== BigInt(end - start)) throw corrupt("its lengths do not fit");
  if (!equal(envelope.subarray(HEADER_BYTES, start), utf8(origin)))
    throw new EngineError("version-mismatch", "Another library made it, or another version.");
  if (!equal(envelope.subarray(6, 22), keyId)) throw new EngineError("foreign-ciphertext", "It is for other keys.");
  return envelope.subarray(start, end);
}

/** What tells an envelope from all others. @param {Uint8Array} envelope */
export function checksumOf(envelope) {
  return envelope.slice(-CHECKSUM_BYTES);
}
