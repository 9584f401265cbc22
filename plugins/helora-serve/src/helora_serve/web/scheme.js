// @ts-check
/**
 * The client's half of CKKS: keys, encryption with the secret key, decryption, and their bytes. The same seeds give the
 * bytes that helora_rns gives.
 */

import { joined, ofDouble, ofNumbers, view } from "./bytes.js";
import * as fields from "./fields.js";
import { Kind, Tag, corrupt } from "./fields.js";
import { publicKeyOf, rotationKeyOf } from "./key-making.js";
import { SEED_BYTES } from "./ring.js";
import { EngineError } from "./wasm.js";

/** @typedef {import("./ring.js").Ring} Ring */
/** @typedef {import("./packings.js").Encoding} Encoding */

export const KEY_ID_BYTES = 16;
const EXACT = 2 ** 52;
const LARGEST = 2 ** 98;

/** A secret key, and what belongs to it. `wipe` clears it. */
export class Keys {
  /**
   * @param {Ring} ring @param {string} producer version that is named in what is written
   * @param {{ steps: readonly number[], publicKey: boolean }} wanted
   * @param {{ seed: Uint8Array, keyId: Uint8Array }} [kept] of keys that a server has: nothing is made for it then
   */
  constructor(ring, producer, { steps, publicKey }, kept) {
    const { machine, row } = ring,
      all = ring.primes.length;
    if (steps.length && !ring.specials)
      throw new EngineError("invalid-parameters", "Rotation keys need a special prime.");
    this.ring = ring;
    this.producer = producer;
    this.secretBytes = row * all;
    this.minusBytes = row * ring.limbs;
    this.secret = machine.allocate(this.secretBytes);
    this.minus = machine.allocate(this.minusBytes);
    this.seed = kept ? kept.seed.slice() : ring.random(SEED_BYTES);
    machine.scratch((take) => {
      const ternary = take(row);
      ring.ternary(ternary, this.seed);
      ring.call.hr_values_of_doubles(ring.ring, ring.basis, all, this.secret, ternary);
    });
    ring.call.hr_negate(ring.ring, ring.basis, ring.limbs, 1, this.minus, this.secret);
    /** The bytes that a server gets. @type {Uint8Array} */
    this.evaluationKeys = new Uint8Array(0);
    /** @type {Uint8Array} */
    this.keyId = new Uint8Array(0);
    if (kept) this.keyId = kept.keyId.slice();
    else this.#makeShared(steps, publicKey);
  }

  /** @param {readonly number[]} steps @param {boolean} publicKey */
  #makeShared(steps, publicKey) {
    const { ring } = this;
    const shared = publicKey ? publicKeyOf(ring, this.secret) : null;
    this.keyId = ring.random(KEY_ID_BYTES);
    const sorted = [...new Set(steps)].sort((a, b) => a - b);
    const rotations = sorted.map((step) => rotationKeyOf(ring, this.secret, step));
    this.evaluationKeys = fields.written(Kind.EVALUATION_KEYS, ring.digest, this.producer, [
      [Tag.KEY_ID, this.keyId],
      ...(shared ? [/** @type {[number, Uint8Array]} */ ([Tag.PUBLIC_KEY, shared])] : []),
      [Tag.STEPS, ofNumbers(sorted)],
      [Tag.ROTATION_KEYS, joined(rotations)],
    ]);
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
    const { ring } = this,
      { machine, n, row, call } = ring;
    const most = encoding === "slots" ? n / 2 : n;
    if (values.length > most)
      throw new EngineError("slot-overflow", `${values.length} values, and there is room for ${most}.`);
    return machine.scratch((take) => {
      const message = take(row),
        given = take(8 * values.length);
      machine.doubles(given, values.length).set(values);
      if (encoding === "slots") {
        const [powers, places] = ring.slotTables();
        call.hr_slots_to_coefficients(ring.ring, message, given, values.length, 1, places, powers, scale / (n / 2));
      } else call.hr_scaled(message, given, values.length, n, scale);
      const largest = call.hr_largest(message, n);
      if (!(largest < LARGEST))
        throw new EngineError("invalid-input", "Values and scale are too large, or not finite.");
      return this.#sealed(take, scale, (out, error) => this.#noisy(out, message, error, largest));
    });
  }

  /**
   * A fresh ciphertext; `fill` writes message + error by their values.
   * @param {(bytes: number) => number} take @param {number} scale @param {(out: number, error: number) => void} fill
   */
  #sealed(take, scale, fill) {
    const { ring } = this,
      { row, limbs, call } = ring;
    const seed = ring.random(SEED_BYTES),
      error = take(row),
      first = take(row * limbs),
      a = take(row * limbs);
    ring.uniform(a, seed, 1, limbs);
    ring.errors(error);
    fill(first, error);
    call.hr_multiply_add(ring.ring, ring.basis, limbs, 1, 1, first, a, this.minus, first);
    return fields.written(Kind.CIPHERTEXT, ring.digest, this.producer, [
      [Tag.LEVEL, Uint8Array.of(limbs - 1)],
      [Tag.SCALE, ofDouble(scale)],
      [Tag.SEED, seed],
      [Tag.POLYNOMIALS, ring.packed(first, 1, limbs)],
    ]);
  }

  /**
   * Values of message + error.
   * @param {number} out
   * @param {number} message
   * @param {number} error
   * @param {number} largest
   */
  #noisy(out, message, error, largest) {
    const { ring } = this,
      { row, limbs, call } = ring;
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
    const { ring } = this,
      { machine, n, row, call } = ring;
    return machine.scratch((take) => {
      const { coefficients, rows, scale } = this.#opened(take, payload, lowBits);
      const numbers = take(row),
        spare = take(row);
      call.hr_to_doubles(ring.ring, ring.basis, rows, numbers, coefficients, spare);
      if (encoding === "coefficients") {
        call.hr_quotients(numbers, numbers, n, scale);
        return machine.doubles(numbers, n).slice();
      }
      const [powers, places] = ring.slotTables();
      call.hr_coefficients_to_slots(ring.ring, spare, numbers, places, powers, 1 / scale);
      const slots = machine.doubles(spare, n),
        reals = new Float64Array(n / 2);
      for (let j = 0; j < reals.length; j++) reals[j] = slots[2 * j];
      return reals;
    });
  }

  /**
   * The client's answer between two rounds: masked numbers of some values, moved to where the next product wants them,
   * times the upper primes. It is exact.
   * @param {readonly Uint8Array[]} payloads
   * @param {readonly [number, number, number][]} moves from a value's coefficient
   * to one of the answer
   * @param {number} scale
   * @returns {Uint8Array}
   */
  answer(payloads, moves, scale) {
    this.#require();
    const { ring } = this,
      { machine, n, row, limbs, call } = ring;
    return machine.scratch((take) => {
      const values = payloads.map((payload) => this.#opened(take, payload, [0, 0]));
      const lower = values[0].rows,
        message = take(row * limbs),
        factors = take(8 * limbs);
      if (values.some(({ rows }) => rows !== lower) || lower === limbs)
        throw corrupt("values between rounds have another level");
      const upper = ring.primes.slice(lower, limbs).reduce((a, b) => a * b, 1n);
      machine.bytes(message, row * limbs).fill(0);
      for (let i = 0; i < lower; i++) {
        const out = machine.words(message + i * row, n);
        const from = values.map(({ coefficients }) => machine.words(coefficients + i * row, n));
        for (const [value, at, to] of moves) out[to] = from[value][at];
        machine.words(factors, limbs)[i] = upper % ring.primes[i];
      }
      call.hr_times(ring.ring, ring.basis, lower, 1, message, message, factors);
      call.hr_forward(ring.ring, ring.basis, limbs, 1, message);
      return this.#sealed(take, scale, (out, error) => {
        call.hr_values_of_doubles(ring.ring, ring.basis, limbs, out, error);
        call.hr_add(ring.ring, ring.basis, limbs, 1, out, out, message);
      });
    });
  }

  /**
   * Read a ciphertext and decrypt it to residues: (rows, N).
   * @param {(bytes: number) => number} take @param {Uint8Array} payload @param {readonly number[]} lowBits
   */
  #opened(take, payload, lowBits) {
    const { ring } = this,
      { row, limbs, call } = ring;
    const found = fields.read(Kind.CIPHERTEXT, ring.digest, payload);
    const told = found.get(Tag.LOW_BITS) ?? [0, 0],
      seeded = found.has(Tag.SEED),
      short = found.has(Tag.LOW_BITS);
    fields.exactly(found, [
      Tag.LEVEL,
      Tag.SCALE,
      ...(seeded ? [Tag.SEED] : []),
      Tag.POLYNOMIALS,
      ...(short ? [Tag.LOW_BITS] : []),
    ]);
    if (told[0] !== lowBits[0] || told[1] !== lowBits[1])
      throw corrupt(`it has lost ${told[0]} and ${told[1]} low bits, and ${lowBits[0]} and ${lowBits[1]} are expected`);
    const [level, stated, sent, seed] = [Tag.LEVEL, Tag.SCALE, Tag.POLYNOMIALS, Tag.SEED].map(
      (tag) => found.get(tag) ?? new Uint8Array(0),
    );
    const scale = stated.length === 8 ? view(stated).getFloat64(0, true) : NaN;
    if (!(scale > 0 && scale < Infinity)) throw corrupt("there is no such scale");
    if (level.length !== 1 || level[0] >= limbs || (short && (level[0] || seeded)))
      throw corrupt("there is no such level");
    const rows = level[0] + 1,
      first = take(row * rows),
      second = take(row * rows);
    if (short) {
      this.#restored(first, second, sent, told);
      call.hr_forward(ring.ring, ring.basis, 1, 1, second);
      call.hr_multiply(ring.ring, ring.basis, 1, 1, 1, second, second, this.secret);
      call.hr_inverse(ring.ring, ring.basis, 1, 1, second);
      call.hr_add(ring.ring, ring.basis, 1, 1, first, first, second);
      return { coefficients: first, rows, scale };
    }
    const half = seeded ? sent.length : sent.length / 2;
    let fine = ring.unpacked(first, sent.subarray(0, half), 1, rows);
    if (seeded) {
      if (seed.length !== SEED_BYTES) throw corrupt(`a seed has ${SEED_BYTES} bytes`);
      ring.uniform(second, seed, 1, rows);
    } else fine = ring.unpacked(second, sent.subarray(half), 1, rows) && fine;
    if (!fine) throw corrupt("a residue is not below its prime, or its length is wrong");
    call.hr_multiply_add(ring.ring, ring.basis, rows, 1, 1, first, second, this.secret, first);
    call.hr_inverse(ring.ring, ring.basis, rows, 1, first);
    return { coefficients: first, rows, scale };
  }

  /**
   * Coefficients of a result without low bits.
   * @param {number} first
   * @param {number} second
   * @param {Uint8Array} sent
   * @param {ArrayLike<number>} told
   */
  #restored(first, second, sent, told) {
    const { ring } = this,
      { machine, n, call } = ring,
      length = ring.bits[0],
      prime = ring.primes[0];
    if (!(told[0] || told[1]) || told[0] >= length || told[1] >= length)
      throw corrupt("low bits are missing that no result has");
    const sizes = [0, 1].map((k) => Math.ceil((n * (length - told[k])) / 8));
    if (sent.length !== sizes[0] + sizes[1]) throw corrupt("its length is wrong");
    machine.scratch((take) => {
      const packed = take(sent.length);
      machine.bytes(packed, sent.length).set(sent);
      [first, second].forEach((row, k) => {
        call.hr_unpack(row, packed + (k ? sizes[0] : 0), n, length - told[k]);
        if (!call.hr_are_below(row, n, ((prime - 1n) >> BigInt(told[k])) + 1n))
          throw corrupt("a coefficient is not below its prime");
        call.hr_shift(row, n, told[k]);
      });
    });
  }
}
