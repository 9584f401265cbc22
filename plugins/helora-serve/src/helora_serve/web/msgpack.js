// @ts-check
/** MessagePack, as far as helora's messages go: null, booleans, integers, doubles, strings, bytes, arrays, maps. */

import { joined, utf8, view } from "./bytes.js";
import { corrupt } from "./fields.js";

const MOST_DEPTH = 16;

/** @param {number} tag @param {number} size in bytes @param {number} value */
function head(tag, size, value) {
  const out = new DataView(new ArrayBuffer(1 + size));
  out.setUint8(0, tag);
  if (size === 1) out.setUint8(1, value);
  else if (size === 2) out.setUint16(1, value);
  else if (size === 4) out.setUint32(1, value);
  else out.setBigUint64(1, BigInt(value));
  return new Uint8Array(out.buffer);
}

/**
 * @param {number} length
 * @param {number} fixed
 * @param {number} room
 * @param {number[]} tags for 1, 2 and 4 bytes; 0 for none
 */
function sized(length, fixed, room, [one, two, four]) {
  if (length < room) return Uint8Array.of(fixed | length);
  if (one && length < 0x100) return head(one, 1, length);
  return length < 0x10000 ? head(two, 2, length) : head(four, 4, length);
}

/** @typedef {null | boolean | number | string | Uint8Array | readonly any[] | Map<string, any>} Value */

/**
 * @param {Value} value null, booleans, non-negative integers below 2^53, strings, bytes, arrays and maps
 * @param {Uint8Array[]} out
 */
function write(value, out) {
  if (value === null || typeof value === "boolean") {
    out.push(Uint8Array.of(value === null ? 0xc0 : value ? 0xc3 : 0xc2));
  } else if (typeof value === "number") {
    if (value < 0x80) out.push(Uint8Array.of(value));
    else if (value < 0x100) out.push(head(0xcc, 1, value));
    else if (value < 0x10000) out.push(head(0xcd, 2, value));
    else out.push(value < 2 ** 32 ? head(0xce, 4, value) : head(0xcf, 8, value));
  } else if (typeof value === "string") {
    const text = utf8(value);
    out.push(sized(text.length, 0xa0, 32, [0xd9, 0xda, 0xdb]), text);
  } else if (value instanceof Uint8Array) {
    out.push(sized(value.length, 0, 0, [0xc4, 0xc5, 0xc6]), value);
  } else if (value instanceof Map) {
    out.push(sized(value.size, 0x80, 16, [0, 0xde, 0xdf]));
    for (const [key, each] of value) {
      write(key, out);
      write(each, out);
    }
  } else {
    out.push(sized(value.length, 0x90, 16, [0, 0xdc, 0xdd]));
    for (const each of value) write(each, out);
  }
}

/** @param {Value} value @returns {Uint8Array} */
export function encode(value) {
  /** @type {Uint8Array[]} */
  const out = [];
  write(value, out);
  return joined(out);
}

/** The value of bytes, all of which it takes. Maps have strings for keys. @param {Uint8Array} bytes @returns {any} */
export function decode(bytes) {
  const whole = view(bytes);
  let at = 0;
  /** @param {number} count */
  const skip = (count) => {
    const start = at;
    if (count > bytes.length - at) throw corrupt("a message ends too early");
    at += count;
    return start;
  };
  /** @param {number} size */
  const number = (size) => {
    const start = skip(size);
    if (size === 1) return whole.getUint8(start);
    if (size === 2) return whole.getUint16(start);
    return size === 4 ? whole.getUint32(start) : Number(whole.getBigUint64(start));
  };
  /** @param {number} length */
  const blob = (length) => {
    const start = skip(length);
    return bytes.subarray(start, start + length);
  };
  /** @param {number} length */
  const text = (length) => {
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(blob(length));
    } catch {
      throw corrupt("a message has text that is none");
    }
  };
  /** @param {number} length @param {number} depth */
  const array = (length, depth) => {
    if (length > bytes.length - at) throw corrupt("a message ends too early");
    return Array.from({ length }, () => value(depth + 1));
  };
  /** @param {number} length @param {number} depth */
  const map = (length, depth) => {
    if (length > bytes.length - at) throw corrupt("a message ends too early");
    const found = new Map();
    for (let i = 0; i < length; i++) {
      const key = value(depth + 1);
      if (typeof key !== "string" || found.has(key)) throw corrupt("a message has a map of another kind");
      found.set(key, value(depth + 1));
    }
    return found;
  };
  /** @param {number} depth @returns {any} */
  const value = (depth) => {
    if (depth > MOST_DEPTH) throw corrupt("a message is nested too deep");
    const tag = number(1);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return map(tag & 15, depth);
    if (tag < 0xa0) return array(tag & 15, depth);
    if (tag < 0xc0) return text(tag & 31);
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return blob(number(1));
      case 0xc5:
        return blob(number(2));
      case 0xc6:
        return blob(number(4));
      case 0xcb:
        return whole.getFloat64(skip(8));
      case 0xcc:
        return number(1);
      case 0xcd:
        return number(2);
      case 0xce:
        return number(4);
      case 0xcf:
        return number(8);
      case 0xd9:
        return text(number(1));
      case 0xda:
        return text(number(2));
      case 0xdb:
        return text(number(4));
      case 0xdc:
        return array(number(2), depth);
      case 0xdd:
        return array(number(4), depth);
      case 0xde:
        return map(number(2), depth);
      case 0xdf:
        return map(number(4), depth);
      default:
        throw corrupt(`a message has the tag ${tag}`);
    }
  };
  const found = value(0);
  if (at !== bytes.length) throw corrupt("a message has bytes behind its end");
  return found;
}
