// @ts-check
/**
 * The client's side of a batch of correlations: its key pair, uploads, and results; and the arithmetic of online
 * rounds.
 *
 * The modulus is 2^64·q₁. A polynomial is a row of words and, for each prime of q₁, a row of values. An auxiliary prime
 * of 49 bits is no part of q: products with short words are computed by it.
 */

import { equal, joined, sha256, utf8 } from "./bytes.js";
import { HEADER_BYTES, Kind, checkHeader, corrupt, header } from "./fields.js";
import { bitLength, nttPrimes } from "./primes.js";
import { SEED_BYTES, Stream } from "./ring.js";
import { EngineError } from "./wasm.js";

/** @typedef {import("./ring.js").Ring} Ring */

export const NONCE_BYTES = 32;
const AUXILIARY_BITS = 49;
const ROWS = 32; // of a stream
const UNIFORM = 1,
  ERRORS = 2,
  PADS = 16;
const NONCES = "helora-rns: the uniform polynomial of a public key for correlations";
const DIGEST = "helora-rns: the digest of nonces in a public key for correlations";
const PAIR = 0xffffffff;

/**
 * The ring's parameters, with the auxiliary prime in the place of a special one.
 * @param {import("./offer.js").Params} params
 */
export function wordParameters(params) {
  const dataPrimes = nttPrimes(params.data_bits, params.ring_degree);
  const taken = dataPrimes.filter((q) => bitLength(q) === AUXILIARY_BITS).length;
  const longest = nttPrimes(Array(taken + 1).fill(AUXILIARY_BITS), params.ring_degree);
  const auxiliary = longest.reverse().find((q) => !dataPrimes.includes(q));
  const [first, second] = [...dataPrimes, auxiliary ?? 0n];
  const long = first * (second - 1n) >= BigInt(params.ring_degree) << 64n;
  if (dataPrimes.length > 2 || !(1n << 32n < first && first < second && second < 1n << BigInt(AUXILIARY_BITS)) || !long)
    throw new EngineError(
      "invalid-parameters",
      "With a wrap limb there are one or two ascending data primes of 33 to 49 bits.",
    );
  return { ringDegree: params.ring_degree, dataPrimes, specialPrimes: [/** @type {bigint} */ (auxiliary)] };
}

/** @param {string} domain @param {Uint8Array} nonces */
function hashed(domain, nonces) {
  const length = new Uint8Array(8);
  length[7] = domain.length;
  return sha256(joined([length, utf8(domain), nonces]));
}

/** @param {number} purpose @param {number} row */
function nonceOf(purpose, row) {
  const nonce = new Uint8Array(12);
  nonce[0] = purpose;
  new DataView(nonce.buffer).setUint32(4, row);
  return nonce;
}

/** One key pair: no other batch has it. */
export class BatchKey {
  /** @param {Ring} ring of `wordParameters` @param {Uint8Array} nonces of both parties */
  static async make(ring, nonces) {
    return new BatchKey(ring, await hashed(NONCES, nonces), await hashed(DIGEST, nonces));
  }

  /** @param {Ring} ring @param {Uint8Array} publicSeed @param {Uint8Array} digest */
  constructor(ring, publicSeed, digest) {
    const { machine, n, row, call } = ring,
      all = ring.primes.length;
    this.ring = ring;
    this.q1 = BigInt.asUintN(
      64,
      ring.primes.slice(0, ring.limbs).reduce((a, b) => a * b, 1n),
    );
    this.partBytes = 8 * n + ring.packedBytes(ring.limbs).reduce((a, b) => a + b, 0);
    this.minus = machine.allocate(row * all);
    this.ones = machine.allocate(row);
    this.weight = 0;
    machine.scratch((take) => {
      const ternary = take(row),
        values = take(row * all);
      const seed = ring.random(SEED_BYTES);
      ring.ternary(ternary, seed);
      seed.fill(0);
      this.weight = machine.doubles(ternary, n).reduce((sum, each) => sum + (each ? 1 : 0), 0);
      call.hr_values_of_doubles(ring.ring, ring.basis, all, values, ternary);
      call.hr_negate(ring.ring, ring.basis, all, 1, this.minus, values);
      const nothing = take(row),
        packed = take(this.partBytes);
      machine.bytes(nothing, row).fill(0);
      const uniform = this.#uniform(take, new RowStreams(ring, publicSeed, UNIFORM, take)),
        own = ring.random(SEED_BYTES);
      const errors = new Stream(machine, own, take);
      this.#encrypted(packed, uniform.next(), errors.words(n), nothing, take(4 * row));
      own.fill(0);
      /** For the server. */
      this.publicKey = joined([header(Kind.BATCH_KEY, ring.digest), digest, machine.bytes(packed, this.partBytes)]);
      const half = take(2 * row);
      machine.words(half, n).fill(0n);
      machine.words(half + row, n).fill(1n);
      this.#opened(take, this.ones, half, 1, 2 * row, nothing, 64, 64);
    });
  }

  /** @param {(bytes: number) => number} take @param {RowStreams} streams */
  #uniform(take, streams) {
    const { ring } = this,
      { machine, n, row, limbs, call } = ring;
    const words = take(row),
      values = take(row * limbs),
      used = take(8);
    return {
      next: () => {
        const stream = streams.next();
        let left = (1 + limbs) * n + Math.floor(n / 64);
        let drawn = stream.words(left);
        machine.bytes(words, row).set(machine.bytes(drawn, row));
        [drawn, left] = [drawn + row, left - n];
        for (let i = 0; i < limbs; i++)
          for (let out = values + i * row, missing = n; missing; ) {
            const found = call.hr_uniform(ring.ring, i, out, missing, drawn, left, used);
            const gone = Number(machine.words(used, 1)[0]);
            [out, missing, drawn, left] = [out + 8 * found, missing - found, drawn + 8 * gone, left - gone];
            if (missing) [left, drawn] = [(limbs - i) * n, stream.words((limbs - i) * n)];
          }
        return [words, values];
      },
    };
  }

  /**
   * @param {number} out
   * @param {number[]} uniform
   * @param {number} random
   * @param {number} numbers
   * @param {number} spare four rows
   */
  #encrypted(out, [words, values], random, numbers, spare) {
    const { ring } = this;
    ring.call.hr_words_encrypted(
      ring.ring,
      ring.limbs,
      out,
      words,
      values,
      random,
      numbers,
      this.q1,
      this.minus,
      spare,
    );
  }

  /**
   * @param {(bytes: number) => number} take
   * @param {number} out
   * @param {number} packed
   * @param {number} count
   * @param {number} stride
   * @param {number} added
   * @param {number} topBits
   * @param {number} keyBits
   */
  #opened(take, out, packed, count, stride, added, topBits, keyBits) {
    const { ring } = this,
      auxiliary = ring.limbs;
    const short = BigInt(this.weight) << BigInt(keyBits - 1) <= ring.primes[auxiliary] / 2n;
    const shortest = short ? auxiliary : PAIR;
    ring.call.hr_words_opened(
      ring.ring,
      shortest | 0,
      out,
      packed,
      count,
      stride,
      this.minus,
      added,
      topBits,
      keyBits,
      take(4 * ring.row),
    );
  }

  #require() {
    if (!this.minus) throw new EngineError("keys-wiped", "This batch's secret key was erased.");
  }

  /**
   * Ciphertexts of rows of words, (count, N), as bytes.
   * @param {number} count
   * @param {(row: number, out: number) => void} fill writes the words of a row
   */
  encrypt(count, fill) {
    this.#require();
    const { ring } = this,
      { machine, n, row } = ring;
    const seed = ring.random(SEED_BYTES),
      own = ring.random(SEED_BYTES);
    const out = new Uint8Array(HEADER_BYTES + SEED_BYTES + count * this.partBytes);
    out.set(header(Kind.BATCH_UPLOAD, ring.digest));
    out.set(seed, HEADER_BYTES);
    machine.scratch((take) => {
      const packed = take(this.partBytes),
        numbers = take(row),
        spare = take(4 * row);
      const uniform = this.#uniform(take, new RowStreams(ring, seed, UNIFORM, take));
      const hidden = new RowStreams(ring, own, ERRORS, take);
      for (let i = 0; i < count; i++) {
        fill(i, numbers);
        const drawn = uniform.next(),
          random = hidden.next().words(n);
        this.#encrypted(packed, drawn, random, numbers, spare);
        out.set(machine.bytes(packed, this.partBytes), HEADER_BYTES + SEED_BYTES + i * this.partBytes);
      }
    });
    own.fill(0);
    return out;
  }

  /**
   * c of each result in `topBits` bits: halves of 32 bits, the low one first, (count, N).
   * @param {Uint8Array} payload @param {number} count @param {number} topBits @param {number} keyBits
   */
  decrypt(payload, count, topBits, keyBits) {
    this.#require();
    const { ring } = this,
      { machine, n, row } = ring;
    const stride = Math.ceil((n * topBits) / 8) + Math.ceil((n * keyBits) / 8);
    checkHeader(Kind.BATCH_RESULTS, ring.digest, payload);
    if (payload.length !== HEADER_BYTES + 3 + count * stride) throw corrupt("these results have another length");
    if (!equal(payload.subarray(HEADER_BYTES, HEADER_BYTES + 3), Uint8Array.of(topBits, keyBits, 0)))
      throw corrupt("these results have other bits than were agreed on");
    return machine.scratch((take) => {
      const packed = take(count * stride),
        middle = take(row),
        out = take(count * row);
      machine.bytes(packed, count * stride).set(payload.subarray(HEADER_BYTES + 3));
      machine.bytes(middle, row).set(machine.bytes(this.ones, row));
      if (keyBits < 64) ring.call.hr_shift(middle, n, 64 - keyBits - 1);
      else machine.bytes(middle, row).fill(0);
      this.#opened(take, out, packed, count, stride, middle, topBits, keyBits);
      return machine.numbers(out, 2 * count * n).slice();
    });
  }

  /** Clear the secret key. */
  erase() {
    if (!this.minus) return;
    const { machine, row, primes } = this.ring;
    machine.release(this.minus, row * primes.length);
    machine.release(this.ones, row);
    this.minus = this.ones = 0;
  }
}

/** A stream for every 32 rows, which are asked for in their order. */
class RowStreams {
  /** @param {Ring} ring @param {Uint8Array} seed @param {number} purpose @param {(bytes: number) => number} take */
  constructor(ring, seed, purpose, take) {
    this.ring = ring;
    this.seed = seed;
    this.purpose = purpose;
    this.take = take;
    this.rows = 0;
    /** @type {Stream | null} */
    this.stream = null;
  }

  next() {
    const { machine } = this.ring;
    if (this.rows % ROWS === 0) {
      const nonce = nonceOf(this.purpose, Math.floor(this.rows / ROWS));
      if (this.stream) this.stream.begin(this.seed, nonce);
      else this.stream = new Stream(machine, this.seed, this.take, nonce);
    }
    this.rows++;
    return /** @type {Stream} */ (this.stream);
  }
}

/** r of a batch: a row of words for each correlation, a word for each input, of the batch's seed. */
export class Pads {
  /** @param {import("./wasm.js").Machine} machine @param {Uint8Array} seed secret, for nothing else */
  constructor(machine, seed) {
    this.machine = machine;
    this.seed = seed;
  }

  /**
   * Give words `start` to `end` of some rows to `use`, a row at a time.
   * @param {number} first
   * @param {number} count
   * @param {number} start
   * @param {number} end
   * @param {(row: number, words: number) => void} use
   */
  rows(first, count, start, end, use) {
    this.machine.scratch((take) => {
      const stream = new Stream(this.machine, this.seed, take);
      for (let row = first; row < first + count; row++) {
        stream.begin(this.seed, nonceOf(PADS, row));
        stream.position = start;
        use(row, stream.words(end - start));
      }
    });
  }
}
