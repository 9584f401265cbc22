// @ts-check
/**
 * The client's half of CKKS: keys, encryption with the secret key, decryption, and their bytes. The same seeds give the
 * bytes that helora_rns gives.
 */

import { joined, ofDouble, ofNumbers, view } from "./bytes.js";
import { automorphism, galoisElement, inverseElement } from "./embedding.js";
import * as fields from "./fields.js";
import { Kind, Tag, corrupt } from "./fields.js";
import { SEED_BYTES } from "./ring.js";
import { EngineError } from "./wasm.js";

/** @typedef {import("./ring.js").Ring} Ring */
/** @typedef {"slots" | "coefficients"} Encoding */

export const KEY_ID_BYTES = 16;
const EXACT = 2 ** 52;
const LARGEST = 2 ** 98;

/** A secret key, and what belongs to it. `wipe` clears it. */
export class Keys {
  /**
   * @param {Ring} ring @param {string} producer version that is named in what is written
   * @param {{ steps: readonly number[], publicKey: boolean }} wanted
   */
  constructor(ring, producer, { steps, publicKey }) {
    const { machine, n, row } = ring, all = ring.primes.length;
    if (steps.length && !ring.specials) throw new EngineError("invalid-parameters", "Rotation keys need a special prime.");
    this.ring = ring;
    this.producer = producer;
    this.secretBytes = row * all;
    this.minusBytes = row * ring.limbs;
    this.secret = machine.allocate(this.secretBytes);
    this.minus = machine.allocate(this.minusBytes);
    this.seed = ring.random(SEED_BYTES);
    machine.scratch((take) => {
      const ternary = take(row);
      ring.ternary(ternary, this.seed);
      ring.call.hr_values_of_doubles(ring.ring, ring.basis, all, this.secret, ternary);
    });
    ring.call.hr_negate(ring.ring, ring.basis, ring.limbs, 1, this.minus, this.secret);
    const shared = publicKey ? this.#publicKey() : null;
    this.keyId = ring.random(KEY_ID_BYTES);
    const sorted = [...new Set(steps)].sort((a, b) => a - b);
    const rotations = sorted.map((step) => this.#rotationKey(step));
    /** The bytes that a server gets. @type {Uint8Array} */
    this.evaluationKeys = fields.written(Kind.EVALUATION_KEYS, ring.digest, producer, [
      [Tag.KEY_ID, this.keyId],
      ...(shared ? [/** @type {[number, Uint8Array]} */ ([Tag.PUBLIC_KEY, shared])] : []),
      [Tag.STEPS, ofNumbers(sorted)],
      [Tag.ROTATION_KEYS, joined(rotations)],
    ]);
  }

  #publicKey() {
    const { ring } = this, { row, limbs, call } = ring, seed = ring.random(SEED_BYTES);
    return ring.machine.scratch((take) => {
      const a = take(row * limbs), error = take(row), first = take(row * limbs);
      ring.uniform(a, seed, 1, limbs);
      ring.errors(error);
      call.hr_values_of_doubles(ring.ring, ring.basis, limbs, first, error);
      call.hr_multiply(ring.ring, ring.basis, limbs, 1, 1, a, a, this.secret);
      call.hr_sub(ring.ring, ring.basis, limbs, 1, first, first, a);
      return joined([seed, ring.packed(first, 1, limbs)]);
    });
  }

  /** @param {number} steps */
  #rotationKey(steps) {
    const { ring } = this, { machine, n, row, limbs, call } = ring, all = ring.primes.length;
    const special = ring.primes.slice(limbs).reduce((a, b) => a * b, 1n);
    return machine.scratch((take) => {
      const before = take(row * all), index = take(4 * n), errors = take(row * limbs), factors = take(8);
      machine.numbers(index, n).set(automorphism(n, inverseElement(galoisElement(steps, n), n)));
      call.hr_permute(ring.ring, all, before, this.secret, index);
      const seed = ring.random(SEED_BYTES);
      ring.errors(errors, limbs);
      const first = take(row * all * limbs), others = take(row * all * limbs), own = take(row);
      ring.uniform(others, seed, limbs, all);
      for (let i = 0; i < limbs; i++) {
        const out = first + i * all * row, a = others + i * all * row;
        call.hr_values_of_doubles(ring.ring, ring.basis, all, out, errors + i * row);
        call.hr_multiply(ring.ring, ring.basis, all, 1, 1, a, a, before);
        call.hr_sub(ring.ring, ring.basis, all, 1, out, out, a);
        machine.words(factors, 1)[0] = special % ring.primes[i];
        call.hr_times(ring.ring, ring.basis + 4 * i, 1, 1, own, this.secret + i * row, factors);
        call.hr_add(ring.ring, ring.basis + 4 * i, 1, 1, out + i * row, out + i * row, own);
      }
      return joined([seed, ring.packed(first, limbs, all)]);
    });
  }

  /** Clear the secret. The keys are of no use afterwards. */
  wipe() {
    if (!this.secret) return;
    this.ring.machine.release(this.secret, this.secretBytes);
    this.ring.machine.release(this.minus, this.minusBytes);
    this.seed.fill(0);
    this.secret = this.minus = 0;
  }

  #require() {
    if (!this.secret) throw new EngineError("keys-wiped", "These keys were wiped.");
  }

  /**
   * A fresh ciphertext of numbers, as bytes.
   * @param {Float64Array} values at most N/2 slots or N coefficients @param {number} scale @param {Encoding} encoding
   * @returns {Uint8Array}
   */
  encrypt(values, scale, encoding) {
    this.#require();
    const { ring } = this, { machine, n, row, limbs, call } = ring;
    const most = encoding === "slots" ? n / 2 : n;
    if (values.length > most) throw new EngineError("slot-overflow", `${values.length} values, and there is room for ${most}.`);
    return machine.scratch((take) => {
      const message = take(row), given = take(8 * values.length), error = take(row), rows = take(2 * row * limbs);
      machine.doubles(given, values.length).set(values);
      if (encoding === "slots") {
        const [powers, places] = ring.slotTables();
        call.hr_slots_to_coefficients(ring.ring, message, given, values.length, 1, places, powers, scale / (n / 2));
      } else call.hr_scaled(message, given, values.length, n, scale);
      const largest = call.hr_largest(message, n);
      if (!(largest < LARGEST)) throw new EngineError("invalid-input", "Values and scale are too large, or not finite.");
      const seed = ring.random(SEED_BYTES), a = rows + row * limbs;
      ring.uniform(a, seed, 1, limbs);
      ring.errors(error);
      this.#noisy(rows, message, error, largest);
      call.hr_multiply_add(ring.ring, ring.basis, limbs, 1, 1, rows, a, this.minus, rows);
      return fields.written(Kind.CIPHERTEXT, ring.digest, this.producer, [
        [Tag.LEVEL, Uint8Array.of(limbs - 1)],
        [Tag.SCALE, ofDouble(scale)],
        [Tag.SEED, seed],
        [Tag.POLYNOMIALS, ring.packed(rows, 1, limbs)],
      ]);
    });
  }

  /** Values of message + error. @param {number} out @param {number} message @param {number} error @param {number} largest */
  #noisy(out, message, error, largest) {
    const { ring } = this, { row, limbs, call } = ring;
    if (largest < EXACT) {
      call.hr_add_doubles(error, message, ring.n);
      call.hr_values_of_doubles(ring.ring, ring.basis, limbs, out, error);
      return;
    }
    ring.machine.scratch((take) => {
      const noise = take(row * limbs);
      call.hr_of_doubles(ring.ring, ring.basis, limbs, out, message);
      call.hr_of_doubles(ring.ring, ring.basis, limbs, noise, error);
      call.hr_add(ring.ring, ring.basis, limbs, 1, out, out, noise);
      call.hr_forward(ring.ring, ring.basis, limbs, 1, out);
    });
  }

  /**
   * The numbers of a result: all N/2 slots (real parts) or all N coefficients.
   * @param {Uint8Array} payload @param {Encoding} encoding @param {readonly number[]} [lowBits] that it must have lost
   * @returns {Float64Array}
   */
  decrypt(payload, encoding, lowBits = [0, 0]) {
    this.#require();
    const { ring } = this, { machine, n, row, limbs, call } = ring;
    const found = fields.read(Kind.CIPHERTEXT, ring.digest, payload);
    const told = found.get(Tag.LOW_BITS) ?? [0, 0];
    if (told[0] !== lowBits[0] || told[1] !== lowBits[1])
      throw corrupt(`it has lost ${told[0]} and ${told[1]} low bits, and ${lowBits[0]} and ${lowBits[1]} are expected`);
    const seeded = found.has(Tag.SEED);
    const short = found.has(Tag.LOW_BITS);
    fields.exactly(found, [
      Tag.LEVEL, Tag.SCALE, ...(seeded ? [Tag.SEED] : []), Tag.POLYNOMIALS, ...(short ? [Tag.LOW_BITS] : []),
    ]); // prettier-ignore
    const [level, stated, sent] = [Tag.LEVEL, Tag.SCALE, Tag.POLYNOMIALS].map((tag) => /** @type {Uint8Array} */ (found.get(tag)));
    const scale = stated.length === 8 ? view(stated).getFloat64(0, true) : NaN;
    if (!(scale > 0 && scale < Infinity)) throw corrupt("there is no such scale");
    if (level.length !== 1 || level[0] >= limbs || (short && (level[0] || seeded))) throw corrupt("there is no such level");
    const rows = level[0] + 1;
    return machine.scratch((take) => {
      const first = take(row * rows), second = take(row * rows), numbers = take(row), spare = take((2 + ring.primes.length) * row);
      if (short) this.#restored(first, second, sent, told);
      else if (seeded) {
        if (!ring.unpacked(first, sent, 1, rows)) throw corrupt("a residue is not below its prime, or its length is wrong");
        const seed = /** @type {Uint8Array} */ (found.get(Tag.SEED));
        if (seed.length !== SEED_BYTES) throw corrupt("a seed has 32 bytes");
        ring.uniform(second, seed, 1, rows);
      } else {
        const half = sent.length / 2;
        if (!ring.unpacked(first, sent.subarray(0, half), 1, rows) || !ring.unpacked(second, sent.subarray(half), 1, rows))
          throw corrupt("a residue is not below its prime, or its length is wrong");
      }
      if (short) {
        call.hr_forward(ring.ring, ring.basis, 1, 1, second);
        call.hr_multiply(ring.ring, ring.basis, 1, 1, 1, second, second, this.secret);
        call.hr_inverse(ring.ring, ring.basis, 1, 1, second);
        call.hr_add(ring.ring, ring.basis, 1, 1, first, first, second);
      } else {
        call.hr_multiply_add(ring.ring, ring.basis, rows, 1, 1, first, second, this.secret, first);
        call.hr_inverse(ring.ring, ring.basis, rows, 1, first);
      }
      call.hr_to_doubles(ring.ring, ring.basis, rows, numbers, first, spare);
      if (encoding === "coefficients") {
        call.hr_quotients(numbers, numbers, n, scale);
        return machine.doubles(numbers, n).slice();
      }
      const [powers, places] = ring.slotTables();
      call.hr_coefficients_to_slots(ring.ring, spare, numbers, places, powers, 1 / scale);
      const slots = machine.doubles(spare, n);
      return Float64Array.from({ length: n / 2 }, (_, j) => slots[2 * j]);
    });
  }

  /** Coefficients of a result without low bits. @param {number} first @param {number} second @param {Uint8Array} sent @param {ArrayLike<number>} told */
  #restored(first, second, sent, told) {
    const { ring } = this, { machine, n, call } = ring, length = ring.bits[0], prime = ring.primes[0];
    if (!(told[0] || told[1]) || told[0] >= length || told[1] >= length) throw corrupt("low bits are missing that no result has");
    const sizes = [0, 1].map((k) => Math.ceil((n * (length - told[k])) / 8));
    if (sent.length !== sizes[0] + sizes[1]) throw corrupt("its length is wrong");
    machine.scratch((take) => {
      const packed = take(sent.length);
      machine.bytes(packed, sent.length).set(sent);
      [first, second].forEach((row, k) => {
        call.hr_unpack(row, packed + (k ? sizes[0] : 0), n, length - told[k]);
        if (!call.hr_are_below(row, n, ((prime - 1n) >> BigInt(told[k])) + 1n)) throw corrupt("a coefficient is not below its prime");
        call.hr_shift(row, n, told[k]);
      });
    });
  }
}
