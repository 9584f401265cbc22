// @ts-check
/** The messages between client and server: MessagePack in envelopes (helora_core/parties/messages.py). */

import { equal } from "./bytes.js";
import { PayloadKind, unwrap, wrap } from "./envelope.js";
import { corrupt } from "./fields.js";
import * as msgpack from "./msgpack.js";
import { EngineError } from "./wasm.js";

export const REQUEST_ID_BYTES = 16;

const isBytes = (/** @type {unknown} */ each) => each instanceof Uint8Array;

/**
 * A client's message of one round.
 * @param {string} origin
 * @param {Uint8Array} keyId
 * @param {{ id: Uint8Array, number: number, asked: { name: string, plan: { digest: string } }[], tokens: number }} of
 *   what
 * the round belongs to
 * @param {Uint8Array[][]} ciphertexts
 * @param {Uint8Array} follows
 */
export function sealedUpload(origin, keyId, { id, number, asked, tokens }, ciphertexts, follows) {
  const names = asked.map(({ name }) => name),
    plans = asked.map(({ plan }) => plan.digest);
  return wrap(
    PayloadKind.UPLOAD,
    keyId,
    origin,
    msgpack.encode([id, number, names, plans, tokens, follows, ciphertexts]),
  );
}

/**
 * The payloads of the answer to a round.
 * @param {string} origin @param {Uint8Array} keyId @param {Uint8Array} answer
 * @param {Uint8Array} request @param {number} number @param {readonly number[]} expected how many of each run
 * @returns {Promise<Uint8Array[][]>}
 */
export async function openedDownload(origin, keyId, answer, request, number, expected) {
  const download = msgpack.decode(await unwrap(PayloadKind.DOWNLOAD, keyId, origin, answer));
  const fine =
    Array.isArray(download) &&
    download.length === 6 &&
    isBytes(download[0]) &&
    Array.isArray(download[2]) &&
    download[2].every((/** @type {unknown} */ run) => Array.isArray(run) && run.every(isBytes));
  if (!fine) throw corrupt("it is no answer");
  if (download[1] !== number || !equal(download[0], request))
    throw new EngineError("unexpected-message", "The answer is to another request or round.");
  const told = download[2].map((/** @type {Uint8Array[]} */ run) => run.length);
  if (told.join() !== expected.join()) throw corrupt("the answer does not hold what was asked for");
  return download[2];
}

/**
 * Activations under pads.
 * @param {string} origin @param {Uint8Array} keyId @param {readonly import("./pools.js").Span[]} spans
 * @param {number[]} places @param {Uint8Array} numbers
 */
export function sealedMasked(origin, keyId, spans, places, numbers) {
  const told = spans.map(({ batch, start, count }) => [batch, start, count]);
  return wrap(PayloadKind.MASKED_UPLOAD, keyId, origin, msgpack.encode([told, places, numbers]));
}

/**
 * The results that answer them.
 * @param {string} origin @param {Uint8Array} keyId @param {Uint8Array} answer
 * @param {import("./pools.js").Span} first @param {readonly number[]} expected bytes of each module
 * @returns {Promise<Uint8Array[]>}
 */
export async function openedMasked(origin, keyId, answer, first, expected) {
  const download = msgpack.decode(await unwrap(PayloadKind.MASKED_DOWNLOAD, keyId, origin, answer));
  const fine =
    Array.isArray(download) &&
    download.length === 4 &&
    isBytes(download[0]) &&
    Array.isArray(download[2]) &&
    download[2].every(isBytes);
  if (!fine) throw corrupt("it is no answer");
  if (download[1] !== first.start || !equal(download[0], first.batch))
    throw new EngineError("unexpected-message", "The answer is to another request.");
  if (download[2].map((/** @type {Uint8Array} */ each) => each.length).join() !== expected.join())
    throw corrupt("the answer holds other numbers than were asked for");
  return download[2];
}
