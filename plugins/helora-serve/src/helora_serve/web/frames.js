// @ts-check
/** Frames, as docs/protocol.md has them: the header's length in two bytes, the header, and a payload. */

import { joined } from "./bytes.js";
import { corrupt } from "./fields.js";
import * as msgpack from "./msgpack.js";

/** @param {Record<string, import("./msgpack.js").Value>} header @param {Uint8Array} [payload] */
export function frame(header, payload = new Uint8Array(0)) {
  const head = msgpack.encode(new Map(Object.entries(header)));
  return joined([Uint8Array.of(head.length >> 8, head.length & 255), head, payload]);
}

/** @param {Uint8Array} bytes @returns {[Map<string, any>, Uint8Array]} */
export function parts(bytes) {
  const end = 2 + ((bytes[0] << 8) | bytes[1]);
  if (!(bytes.length >= end)) throw corrupt("a frame is cut short");
  return [msgpack.decode(bytes.subarray(2, end)), bytes.subarray(end)];
}
