// @ts-check
/** One request for Δ under encryption: a message up and one down in each round (helora_core/parties/request.py). */

import { checksumOf } from "./envelope.js";
import { REQUEST_ID_BYTES, openedDownload, sealedUpload } from "./messages.js";
import { splitInto } from "./preparation.js";
import { normalized, timesPower } from "./scaling.js";
import { EngineError } from "./wasm.js";

/** @typedef {import("./client.js").Client} Client */
/** @typedef {import("./offer.js").OfferedModule} OfferedModule */
/** @typedef {import("./scheme.js").Keys} Keys */

/** @param {Float64Array} x @param {number} tokens @param {import("./offer.js").Plan} plan */
function runsOf(x, tokens, plan) {
  const width = plan.recipe.shape.d_in,
    perRun = plan.layout.tokensPerRun;
  return Array.from({ length: Math.ceil(tokens / perRun) }, (_, run) => {
    const count = Math.min(perRun, tokens - run * perRun);
    return { count, ...normalized(x.subarray(run * perRun * width, (run * perRun + count) * width), count) };
  });
}

/** One request: the same message until its answer is received. */
export class Request {
  /** @param {Client} client @param {OfferedModule[]} asked @param {Float64Array} x @param {number} tokens */
  constructor(client, asked, x, tokens) {
    this.client = client;
    this.asked = asked;
    this.tokens = tokens;
    this.keys = /** @type {Keys} */ (asked.length ? client.keys.get(asked[0].plan.keySet) : null);
    this.id = client.engine.random(REQUEST_ID_BYTES);
    this.number = 0;
    /** @type {Uint8Array | null} */
    this.message = null;
    /** Δ of each part, (tokens, d_out), once done. @type {Map<string, Float64Array>} */
    this.deltas = new Map();
    this.done = false;
    /** Tokens that run together, scaled. */
    this.runs = asked.length ? runsOf(x, tokens, asked[0].plan) : [];
  }

  /** Make the first message. */
  async start() {
    const { plan } = this.asked[0],
      { layout } = plan,
      scale = 2 ** plan.recipe.settings.scales.input_bits;
    const runs = this.runs.map(({ scaled, count }) => {
      const vectors = layout.pack(scaled, count);
      return plan.inputs.map((position) => this.keys.encrypt(vectors[position], scale, layout.encoding));
    });
    await this.#send(runs, new Uint8Array(0));
  }

  /** @param {Uint8Array[][]} ciphertexts @param {Uint8Array} follows */
  async #send(ciphertexts, follows) {
    this.message = await sealedUpload(this.client.offer.origin, this.keys.keyId, this, ciphertexts, follows);
  }

  /**
   * Take the answer to the message: there is another message then, or Δ. A refused one changes nothing.
   * @param {Uint8Array} answer
   */
  async receive(answer) {
    if (this.done) throw new EngineError("unexpected-message", "The request is done.");
    const answers = this.asked.map(({ plan }) => plan.layout.answer);
    const between = this.number === 0 && answers[0] !== undefined;
    const expected = this.asked.flatMap(({ plan }) =>
      this.runs.map(() =>
        between ? plan.layout.answer?.masked : plan.outputs.filter((place) => place !== null).length,
      ),
    );
    const ciphertexts = await openedDownload(
      this.client.offer.origin,
      this.keys.keyId,
      answer,
      this.id,
      this.number,
      /** @type {number[]} */ (expected),
    );
    if (between) {
      const next = this.asked.flatMap(({ plan }, m) =>
        this.runs.map((_, r) => {
          const { scales } = plan.recipe.settings,
            moves = plan.layout.answer?.moves ?? [];
          return [
            this.keys.answer(ciphertexts[m * this.runs.length + r], moves, 2 ** (scales.input_bits + scales.down_bits)),
          ];
        }),
      );
      this.number = 1;
      await this.#send(next, checksumOf(answer));
      return;
    }
    this.#read(ciphertexts);
    this.message = null;
    this.done = true;
  }

  /** @param {Uint8Array[][]} ciphertexts */
  #read(ciphertexts) {
    this.asked.forEach(({ name, parts, plan, exponent }, m) => {
      const { layout } = plan,
        { d_out: width } = plan.recipe.shape;
      const whole = new Float64Array(this.tokens * width);
      this.runs.forEach(({ count, exponents, zeros }, r) => {
        const received = ciphertexts[m * this.runs.length + r];
        const opened = received.map((payload) => this.keys.decrypt(payload, layout.encoding, plan.lowBits));
        const nothing = new Float64Array(plan.params.ring_degree);
        const outputs = plan.outputs.map((place) => (place === null ? nothing : opened[place]));
        const delta = layout.unpack(outputs, count, this.client.up.get(name));
        for (let t = 0; t < count; t++)
          for (let o = 0; o < width; o++)
            whole[(r * layout.tokensPerRun + t) * width + o] = zeros[t]
              ? 0
              : timesPower(delta[t * width + o], exponents[t] + exponent);
      });
      splitInto(this.deltas, whole, this.tokens, parts);
    });
  }
}
