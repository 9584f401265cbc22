// @ts-check
/** A ring in the engine's memory: its primes with their tables, streams of words, and samples. */

import * as embedding from "./embedding.js";
import { ofNumbers, ofWords, joined, sha256 } from "./bytes.js";
import { DIGEST_BYTES } from "./fields.js";
import { bitLength } from "./primes.js";
import { EngineError } from "./wasm.js";

/** @typedef {import("./wasm.js").Machine} Machine */
/** @typedef {{ ringDegree: number, dataPrimes: bigint[], specialPrimes?: bigint[] }} Parameters */
/** @typedef {(bytes: number) => number} Take */

export const SEED_BYTES = 32;
const LONGEST_PRIME_BITS = 50;

/** Fresh bytes of the platform's generator. @param {number} count */
export function randomBytes(count) {
  return crypto.getRandomValues(new Uint8Array(count));
}

export class Ring {
  /**
   * @param {Machine} machine @param {Parameters} parameters @param {Uint8Array} digest
   * @param {{ random?: (bytes: number) => Uint8Array }} [options] `random`: for tests alone
   */
  constructor(machine, { ringDegree, dataPrimes, specialPrimes = [] }, digest, { random = randomBytes } = {}) {
    const n = ringDegree,
      primes = [...dataPrimes, ...specialPrimes];
    if (n & (n - 1) || n < 1024 || n > 65536 || !dataPrimes.length)
      throw new EngineError("invalid-parameters", `A ring of degree ${n} and ${dataPrimes.length} primes.`);
    if (primes.some((q) => bitLength(q) > LONGEST_PRIME_BITS || q % BigInt(2 * n) !== 1n))
      throw new EngineError("invalid-parameters", "A prime has more than 50 bits, or is not 1 modulo 2N.");
    this.machine = machine;
    this.call = machine.call;
    this.n = n;
    this.primes = primes;
    this.bits = primes.map(bitLength);
    this.limbs = dataPrimes.length;
    this.specials = specialPrimes.length;
    this.digest = digest;
    this.random = random;
    /** @type {[number, number][]} */
    this.owned = [];
    const ringBytes = this.call.hr_ring_bytes(n, primes.length, 0);
    this.ring = this.own(ringBytes);
    this.basis = this.own(4 * primes.length);
    machine.numbers(this.basis, primes.length).set(primes.map((_, i) => i));
    machine.scratch((take) => {
      const moduli = take(8 * primes.length),
        powers = take(8 * n * primes.length);
      machine.words(moduli, primes.length).set(primes);
      primes.forEach((q, i) => {
        if (!this.call.hr_root_powers(powers + 8 * n * i, n, q))
          throw new EngineError("invalid-parameters", `${q} has no small root of unity: it is no prime.`);
      });
      this.call.hr_ring_make(this.ring, n, primes.length, moduli, powers, 0);
    });
    this.powers = this.places = 0;
  }

  /**
   * @param {Machine} machine
   * @param {Parameters} parameters
   * @param {{ random?: (bytes: number) => Uint8Array }} [options]
   */
  static async make(machine, parameters, options) {
    return new Ring(machine, parameters, await digestOf(parameters), options);
  }

  /** Memory of the ring's lifetime. @param {number} bytes */
  own(bytes) {
    const pointer = this.machine.allocate(bytes);
    this.owned.push([pointer, bytes]);
    return pointer;
  }

  /** Give the memory back, cleared. */
  close() {
    for (const [pointer, bytes] of this.owned) this.machine.release(pointer, bytes);
    this.owned = [];
  }

  /** Bytes of one row. */
  get row() {
    return 8 * this.n;
  }

  /** Tables of the slots' transform, made when first needed. */
  slotTables() {
    if (!this.powers) {
      const n = this.n;
      this.powers = this.own(8 * n);
      this.places = this.own(2 * n);
      this.machine.doubles(this.powers, n).set(embedding.powers(n));
      this.machine.numbers(this.places, n / 2).set(embedding.slotPlaces(n));
    }
    return [this.powers, this.places];
  }

  /** Bytes of each packed row. @param {number} limbs */
  packedBytes(limbs) {
    return this.bits.slice(0, limbs).map((bits) => Math.ceil((this.n * bits) / 8));
  }

  /**
   * The packed bytes of rows, limb after limb of so many a polynomial.
   * @param {number} rows
   * @param {number} count
   * @param {number} limbs
   */
  packed(rows, count, limbs) {
    const sizes = this.packedBytes(limbs),
      whole = sizes.reduce((a, b) => a + b, 0);
    return this.machine.scratch((take) => {
      const out = take(whole * count);
      let at = out;
      for (let k = 0; k < count * limbs; k++) {
        this.call.hr_pack(at, rows + k * this.row, this.n, this.bits[k % limbs]);
        at += sizes[k % limbs];
      }
      return this.machine.bytes(out, whole * count).slice();
    });
  }

  /**
   * Undo `packed`; whether it has the right length, and every residue is below its prime.
   * @param {number} rows
   * @param {Uint8Array} payload
   * @param {number} count
   * @param {number} limbs
   */
  unpacked(rows, payload, count, limbs) {
    const sizes = this.packedBytes(limbs),
      whole = sizes.reduce((a, b) => a + b, 0);
    if (payload.length !== whole * count) return false;
    return this.machine.scratch((take) => {
      let at = take(payload.length);
      this.machine.bytes(at, payload.length).set(payload);
      let fine = true;
      for (let k = 0; k < count * limbs; k++) {
        const row = rows + k * this.row;
        this.call.hr_unpack(row, at, this.n, this.bits[k % limbs]);
        fine = fine && this.call.hr_are_below(row, this.n, this.primes[k % limbs]) === 1;
        at += sizes[k % limbs];
      }
      return fine;
    });
  }

  /**
   * Uniform rows of a seed: for each of `count` polynomials `limbs` rows.
   * @param {number} rows
   * @param {Uint8Array} seed
   * @param {number} count
   * @param {number} limbs
   */
  uniform(rows, seed, count, limbs) {
    this.machine.scratch((take) => {
      const stream = new Stream(this.machine, seed, take),
        used = take(8),
        counts = this.machine;
      let [words, left] = [0, 0];
      for (let k = 0; k < count * limbs; k++) {
        let row = rows + k * this.row,
          missing = this.n;
        while (missing) {
          if (!left) [words, left] = [stream.words(this.n), this.n];
          const found = this.call.hr_uniform(this.ring, k % limbs, row, missing, words, left, used);
          const gone = Number(counts.words(used, 1)[0]);
          [row, missing, words, left] = [row + 8 * found, missing - found, words + 8 * gone, left - gone];
        }
      }
    });
  }

  /** Error polynomials of a fresh seed, in doubles. @param {number} out @param {number} [count] */
  errors(out, count = 1) {
    const seed = this.random(SEED_BYTES);
    this.machine.scratch((take) => {
      const stream = new Stream(this.machine, seed, take);
      for (let k = 0; k < count; k++)
        this.call.hr_binomial(this.ring, out + k * this.row, stream.words(this.n), this.n);
    });
    seed.fill(0);
  }

  /**
   * A ternary polynomial of a seed, in doubles.
   * @param {number} out
   * @param {Uint8Array} seed
   * @param {Uint8Array} [nonce]
   */
  ternary(out, seed, nonce) {
    this.machine.scratch((take) => {
      const stream = new Stream(this.machine, seed, take, nonce);
      for (let found = 0; found < this.n; ) {
        const words = Math.floor((this.n - found) / 24) + 12;
        found += this.call.hr_ternary(out + 8 * found, this.n - found, stream.words(words), words);
      }
    });
  }
}

/** 16 bytes that differ for other parameters. @param {Parameters} parameters @returns {Promise<Uint8Array>} */
export async function digestOf({ ringDegree, dataPrimes, specialPrimes = [] }) {
  const counts = ofNumbers([ringDegree, dataPrimes.length, specialPrimes.length]);
  return (await sha256(joined([counts, ofWords([...dataPrimes, ...specialPrimes])]))).slice(0, DIGEST_BYTES);
}

const GROUP = 32; // words of four blocks

/** The words of 64 bits that a seed of 32 bytes and a nonce of 12 expand to, by ChaCha20. */
export class Stream {
  /** @param {Machine} machine @param {Uint8Array} seed @param {Take} take @param {Uint8Array} [nonce] */
  constructor(machine, seed, take, nonce) {
    this.machine = machine;
    this.take = take;
    this.key = take(64);
    this.position = this.room = this.buffer = 0;
    this.begin(seed, nonce);
  }

  /** Begin with another seed or nonce. @param {Uint8Array} seed @param {Uint8Array} [nonce] */
  begin(seed, nonce) {
    const bytes = this.machine.bytes(this.key, 64);
    bytes.fill(0);
    bytes.set(seed);
    if (nonce) bytes.set(nonce, SEED_BYTES);
    this.position = 0;
  }

  /** A pointer to the next words: valid until more are asked for. @param {number} count */
  words(count) {
    const first = Math.floor(this.position / GROUP),
      last = Math.ceil((this.position + count) / GROUP);
    const words = GROUP * (last - first);
    if (words > this.room) [this.buffer, this.room] = [this.take(8 * words), words];
    this.machine.call.hr_chacha20(this.buffer, this.key, this.key + SEED_BYTES, 4 * first, 4 * (last - first));
    const at = this.buffer + 8 * (this.position % GROUP);
    this.position += count;
    return at;
  }
}
