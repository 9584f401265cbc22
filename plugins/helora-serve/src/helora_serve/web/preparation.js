// @ts-check
/**
 * Plans that run ahead of time: batches of correlations are made with a key pair each, which is erased when the batch
 * is
 * ready; online, activations travel under a pad (helora_core/parties/preparation.py and prepared.py).
 */

import { joined } from "./bytes.js";
import { BatchKey, NONCE_BYTES, Pads } from "./correlations.js";
import { checksumOf } from "./envelope.js";
import { corrupt } from "./fields.js";
import { REQUEST_ID_BYTES, openedDownload, openedMasked, sealedMasked, sealedUpload } from "./messages.js";
import { SEED_BYTES } from "./ring.js";
import { normalized, timesPower } from "./scaling.js";
import { EngineError } from "./wasm.js";

/** @typedef {import("./client.js").Client} Client */
/** @typedef {import("./offer.js").OfferedModule} OfferedModule */
/** @typedef {import("./offer.js").Plan} Plan */

const PIECE_BYTES = 4 << 20;
const WRAP_BITS = 64;
const GRID_BITS = 62;
const NONE = new Uint8Array(0);

/** What a plan's correlations are. @param {Plan} plan */
export function correlationOf(plan) {
  const { low_bits: low, scales } = plan.recipe.settings,
    { params } = plan;
  const xBits = scales.input_bits - params.data_bits.reduce((sum, each) => sum + each, 0);
  const columns = plan.outputs.flatMap((place, o) => (place === null ? [] : [o]));
  if (
    low.length !== 3 ||
    xBits < 1 ||
    xBits + scales.down_bits + scales.up_bits !== GRID_BITS ||
    low.some((/** @type {number} */ bits) => bits < 0 || bits >= WRAP_BITS)
  )
    throw new EngineError("packing-unavailable", "Only trimmed correlations on a grid of 62 bits are known here.");
  const [topBits, keyBits, answerBits] = low.map((/** @type {number} */ bits) => WRAP_BITS - bits);
  return {
    xBits,
    topBits,
    keyBits,
    answerBits,
    columns,
    inputs: plan.inputs,
    rowBytes: Math.ceil((columns.length * topBits) / 8),
  };
}

/** @param {number} module @param {number} count @param {number} bytesEach */
function pieces(module, count, bytesEach) {
  const size = Math.max(1, Math.floor(PIECE_BYTES / bytesEach));
  return Array.from({ length: Math.ceil(count / size) }, (_, i) => ({
    module,
    start: i * size,
    end: Math.min(count, (i + 1) * size),
  }));
}

/** The making of one batch: the same message until its answer is received. */
export class Preparation {
  /**
   * @param {Client} client
   * @param {OfferedModule[]} asked of one input, none of them zero
   * @param {number} correlations N at most
   */
  constructor(client, asked, correlations) {
    const { plan } = asked[0],
      n = plan.params.ring_degree;
    if (!(correlations >= 1 && correlations <= n))
      throw new EngineError("invalid-input", `1 to ${n} correlations are made at once.`);
    this.client = client;
    this.asked = asked;
    this.tokens = correlations;
    this.keyId = client.keyIdOf(plan);
    this.online = asked.map((each) => correlationOf(each.plan));
    const bits = plan.params.data_bits.reduce((sum, each) => sum + each, plan.params.wrap_bits);
    this.uploads = pieces(0, this.online[0].inputs.length, Math.floor((n * bits) / 8));
    this.results = this.online.flatMap((each, m) =>
      pieces(m, each.columns.length, Math.floor((n * (each.topBits + each.keyBits)) / 8)),
    );
    this.id = client.engine.random(REQUEST_ID_BYTES);
    this.nonce = client.engine.random(NONCE_BYTES);
    this.seed = client.engine.random(SEED_BYTES);
    /** c of each module: halves of 32 bits, (tokens, outputs). */
    this.kept = this.online.map((each) => new Uint32Array(2 * correlations * each.columns.length));
    this.number = 0;
    /** @type {Uint8Array | null} */
    this.message = null;
    this.done = false;
    /** @type {BatchKey | null} */
    this.key = null;
  }

  /** Make the first message. */
  async start() {
    this.ring = await this.client.wordRing(this.asked[0].plan);
    await this.#send([[this.nonce]], NONE);
  }

  /** @param {Uint8Array[][]} ciphertexts @param {Uint8Array} follows */
  async #send(ciphertexts, follows) {
    this.message = await sealedUpload(this.client.offer.origin, this.keyId, this, ciphertexts, follows);
  }

  /** Take the answer to the message. A refused one changes nothing. @param {Uint8Array} answer */
  async receive(answer) {
    if (this.done) throw new EngineError("unexpected-message", "The preparation is done.");
    const uploads = this.uploads.length,
      follows = checksumOf(answer);
    const expected = [this.number > 0 && this.number <= uploads ? 0 : 1];
    const [payloads] = await openedDownload(
      this.client.offer.origin,
      this.keyId,
      answer,
      this.id,
      this.number,
      expected,
    );
    if (this.number === 0) await this.#makeKey(payloads[0]);
    else if (this.number > uploads) this.#keep(payloads[0], this.results[this.number - uploads - 1]);
    this.number++;
    if (this.number <= uploads) await this.#send([this.#features(this.uploads[this.number - 1])], follows);
    else if (this.number <= uploads + this.results.length) await this.#send([[]], follows);
    else await this.#finish();
  }

  /** @param {Uint8Array} nonce */
  async #makeKey(nonce) {
    if (nonce.length !== NONCE_BYTES) throw corrupt(`the server's nonce has ${nonce.length} bytes`);
    this.key = await BatchKey.make(/** @type {any} */ (this.ring), joined([this.nonce, nonce]));
  }

  /** @param {{ start: number, end: number }} piece */
  #features({ start, end }) {
    const key = /** @type {BatchKey} */ (this.key),
      { machine } = key.ring,
      n = key.ring.n;
    const columns = new Uint32Array(2 * (end - start) * n); // (features, N)
    new Pads(machine, this.seed).rows(0, n, start, end, (row, words) => {
      const halves = machine.numbers(words, 2 * (end - start));
      for (let i = 0; i < end - start; i++) {
        columns[2 * (i * n + row)] = halves[2 * i];
        columns[2 * (i * n + row) + 1] = halves[2 * i + 1];
      }
    });
    const sent = key.encrypt(end - start, (i, out) =>
      machine.numbers(out, 2 * n).set(columns.subarray(2 * i * n, 2 * (i + 1) * n)),
    );
    columns.fill(0);
    return start === 0 ? [key.publicKey, sent] : [sent];
  }

  /** @param {Uint8Array} payload @param {{ module: number, start: number, end: number }} piece */
  #keep(payload, { module, start, end }) {
    const key = /** @type {BatchKey} */ (this.key),
      { n } = key.ring,
      { topBits, keyBits, columns } = this.online[module];
    const numbers = key.decrypt(payload, end - start, topBits, keyBits),
      kept = this.kept[module],
      width = columns.length;
    for (let o = start; o < end; o++)
      for (let t = 0; t < this.tokens; t++) {
        kept[2 * (t * width + o)] = numbers[2 * ((o - start) * n + t)];
        kept[2 * (t * width + o) + 1] = numbers[2 * ((o - start) * n + t) + 1];
      }
    numbers.fill(0);
  }

  /** The batch is ready: its key is erased, and the pool has it. */
  async #finish() {
    this.key?.erase();
    const { machine } = this.client.engine;
    const modules = this.asked.map(({ name, plan }, m) => {
      const { topBits, rowBytes, columns } = this.online[m],
        width = columns.length,
        masked = new Uint8Array(rowBytes * this.tokens);
      machine.scratch((take) => {
        const row = take(8 * width),
          packed = take(rowBytes);
        for (let t = 0; t < this.tokens; t++) {
          machine.numbers(row, 2 * width).set(this.kept[m].subarray(2 * t * width, 2 * (t + 1) * width));
          machine.call.hr_pack(packed, row, width, topBits);
          masked.set(machine.bytes(packed, rowBytes), t * rowBytes);
        }
      });
      this.kept[m].fill(0);
      return { name, plan: plan.digest, masked, rowBytes };
    });
    await (await this.client.pools(this.asked[0].plan)).add(this.id, this.tokens, this.seed, modules);
    this.message = null;
    this.done = true;
  }
}

/** A request that uses a correlation for each token: one short message, and its answer. */
export class MaskedRequest {
  /** @param {Client} client @param {OfferedModule[]} asked @param {Float64Array} x @param {number} tokens */
  constructor(client, asked, x, tokens) {
    this.client = client;
    this.asked = asked;
    this.tokens = tokens;
    this.x = x;
    this.keyId = client.keyIdOf(asked[0].plan);
    this.online = asked.map((each) => correlationOf(each.plan));
    /** @type {Uint8Array | null} */
    this.message = null;
    /** Δ of each part, (tokens, d_out), once done. @type {Map<string, Float64Array>} */
    this.deltas = new Map();
    this.done = false;
  }

  /** Take correlations, durably, and make the message. */
  async start() {
    const { plan } = this.asked[0],
      [{ inputs, xBits }] = this.online,
      { machine } = this.client.engine,
      tokens = this.tokens;
    const pools = await this.client.pools(plan);
    const wanted = this.asked.map(({ name, plan: own }) => ({ name, plan: own.digest }));
    const { spans, pads, masked, places } = await pools.take(wanted, tokens, inputs.length);
    const { exponents, zeros } = normalized(this.x, tokens),
      width = this.x.length / tokens;
    const count = tokens * inputs.length;
    const y = machine.scratch((take) => {
      const read = take(8 * count),
        factors = take(8 * tokens),
        given = take(8 * count),
        out = take(8 * count);
      const numbers = machine.doubles(read, count);
      for (let t = 0; t < tokens; t++)
        inputs.forEach(
          (position, i) =>
            (numbers[t * inputs.length + i] = timesPower(this.x[t * width + position], xBits - exponents[t])),
        );
      machine.doubles(factors, tokens).fill(1);
      machine.bytes(given, 8 * count).set(pads);
      machine.call.hr_words_padded(out, read, factors, given, tokens, inputs.length);
      return machine.bytes(out, 8 * count).slice();
    });
    pads.fill(0);
    this.taken = { first: spans[0], masked, exponents, zeros };
    this.message = await sealedMasked(this.client.offer.origin, this.keyId, spans, places, y);
  }

  /** Take the answer. A refused one changes nothing. @param {Uint8Array} answer */
  async receive(answer) {
    if (this.done || !this.taken) throw new EngineError("unexpected-message", "The request is done.");
    const { first, masked, exponents, zeros } = this.taken,
      tokens = this.tokens,
      { machine } = this.client.engine;
    const expected = this.online.map(({ columns, answerBits }) =>
      Math.ceil((tokens * columns.length * answerBits) / 8),
    );
    const results = await openedMasked(this.client.offer.origin, this.keyId, answer, first, expected);
    this.asked.forEach(({ parts, plan, exponent }, m) => {
      const { columns, answerBits, topBits } = this.online[m],
        width = columns.length,
        dOut = plan.recipe.shape.d_out;
      const own = joined(masked[m]),
        whole = new Float64Array(tokens * dOut);
      machine.scratch((take) => {
        const out = take(8 * tokens * width),
          answers = take(results[m].length),
          kept = take(own.length),
          factors = take(8 * tokens);
        machine.bytes(answers, results[m].length).set(results[m]);
        machine.bytes(kept, own.length).set(own);
        machine.doubles(factors, tokens).fill(1);
        machine.call.hr_words_revealed(out, answers, kept, factors, tokens, width, answerBits, topBits);
        const values = machine.doubles(out, tokens * width);
        for (let t = 0; t < tokens; t++)
          columns.forEach((column, o) => {
            const value = timesPower(values[t * width + o], exponents[t] + exponent - GRID_BITS);
            whole[t * dOut + column] = zeros[t] ? 0 : value;
          });
      });
      own.fill(0);
      splitInto(this.deltas, whole, tokens, parts);
    });
    this.taken = undefined;
    this.message = null;
    this.done = true;
  }
}

/**
 * Δ of each part, from that of all side by side.
 * @param {Map<string, Float64Array>} deltas
 * @param {Float64Array} whole
 * @param {number} tokens
 * @param {{ name: string, d_out: number }[]} parts
 */
export function splitInto(deltas, whole, tokens, parts) {
  const width = whole.length / tokens;
  let start = 0;
  for (const part of parts) {
    const own = new Float64Array(tokens * part.d_out);
    for (let t = 0; t < tokens; t++)
      own.set(whole.subarray(t * width + start, t * width + start + part.d_out), t * part.d_out);
    deltas.set(part.name, own);
    start += part.d_out;
  }
}
