// @ts-check
/**
 * The client of one server: keys for its offer, requests for Δ of activations. Bytes go out and come in; nothing here
 * connects.
 *
 *     const client = await Client.make(engine, offer);
 *     send(client.evaluationKeys);
 *     const request = await client.begin(["layers.0.q_proj"], x, 1);
 *     while (!request.done) await request.receive(await ask(request.message));
 *     request.deltas.get("layers.0.q_proj");
 */

import { joined } from "./bytes.js";
import { PayloadKind, checksumOf, unwrap, wrap } from "./envelope.js";
import { corrupt } from "./fields.js";
import * as msgpack from "./msgpack.js";
import { fingerprintOf, keySetsOf, readOffer, resolved } from "./offer.js";
import { normalized, timesPower } from "./scaling.js";
import { EngineError } from "./wasm.js";

/** @typedef {import("./offer.js").OfferedModule} OfferedModule */
/** @typedef {import("./scheme.js").Keys} Keys */

const REQUEST_ID_BYTES = 16;

export class Client {
  /**
   * Keys for an offer.
   * @param {import("./engine.js").Engine} engine @param {Uint8Array} offer
   * @param {{ up?: Map<string, Float64Array>, kept?: Uint8Array }} [options] `up`: for packings whose client finishes, each
   * module's matrix (d_out × rank, row-major) as helora_core.compiler.exponents scales it. `kept`: what `kept` gave, of
   * the same offer; the server has the evaluation keys then.
   */
  static async make(engine, offer, { up = new Map(), kept } = {}) {
    const read = readOffer(offer), sets = keySetsOf(read.plans);
    const client = new Client(read, engine, up);
    const secrets = kept ? msgpack.decode(kept) : null;
    if (secrets && secrets.length !== sets.length) throw corrupt("keys of another offer were kept");
    const bundle = [];
    for (const [i, set] of sets.entries()) {
      if (secrets) {
        const [name, seed, keyId] = secrets[i];
        if (name !== set.name) throw corrupt("keys of another offer were kept");
        client.keys.set(set.name, await engine.restoreKeys(resolved(set.params), { seed, keyId }));
        continue;
      }
      const keys = await engine.generateKeys(resolved(set.params), { steps: set.steps, publicKey: set.publicKey });
      client.keys.set(set.name, keys);
      const payload = joined([await fingerprintOf(set.params), keys.evaluationKeys]);
      bundle.push(await wrap(PayloadKind.EVALUATION_KEYS, keys.keyId, read.origin, payload));
    }
    if (!secrets) client.evaluationKeys = msgpack.encode(bundle);
    return client;
  }

  /** @param {ReturnType<typeof readOffer>} offer @param {import("./engine.js").Engine} engine @param {Map<string, Float64Array>} up */
  constructor(offer, engine, up) {
    this.offer = offer;
    this.engine = engine;
    this.up = up;
    /** @type {Map<string, Keys>} */
    this.keys = new Map();
    /** The bytes that open a session. */
    this.evaluationKeys = new Uint8Array(0);
  }

  /** Names that can be asked for: every part of every module. */
  get modules() {
    return [...new Set(this.offer.modules.flatMap((module) => module.parts.map((part) => part.name)))];
  }

  /** What `make` restores the keys from: secret. */
  kept() {
    return msgpack.encode([...this.keys].map(([name, keys]) => [name, keys.seed, keys.keyId]));
  }

  /** Clear all secret keys. */
  wipe() {
    for (const keys of this.keys.values()) keys.wipe();
  }

  /**
   * A request for Δ of x for parts of modules that take one input.
   * @param {readonly string[]} names @param {Float64Array} x (tokens, d_in), row-major, finite @param {number} tokens
   */
  async begin(names, x, tokens) {
    const found = this.asked(names, tokens);
    const { plan } = found[0];
    if (!Number.isInteger(tokens) || tokens < 1 || x.length !== tokens * plan.recipe.shape.d_in || !x.every(Number.isFinite))
      throw new EngineError("invalid-input", `x must have ${tokens} tokens of ${plan.recipe.shape.d_in} finite numbers.`);
    const request = new Request(this, found, x, tokens);
    await request.start();
    return request;
  }

  /** The modules that names mean, each once, by the plans with the fewest runs. @param {readonly string[]} names @param {number} tokens */
  asked(names, tokens) {
    /** @type {Map<string, OfferedModule>} */
    const found = new Map();
    for (const name of names) {
      const offered = this.offer.modules.filter((module) => module.parts.some((part) => part.name === name));
      if (!offered.length) throw new EngineError("invalid-input", `No module ${name} is offered.`);
      const runs = (/** @type {OfferedModule} */ each) => Math.ceil(tokens / each.plan.layout.tokensPerRun);
      found.set(offered[0].name, offered.reduce((best, each) => (runs(each) < runs(best) ? each : best)));
    }
    const all = [...found.values()], [first] = all;
    if (!first) throw new EngineError("invalid-input", "No module was named.");
    const input = ({ plan }) => [plan.keySet, plan.layout.placing, plan.recipe.shape.d_in, plan.recipe.settings.scales.input_bits, plan.inputs].join();
    if (all.some((each) => input(each) !== input(first)))
      throw new EngineError("invalid-input", "These modules do not take the same ciphertexts.");
    return all;
  }
}

/** One request: the same message until its answer is received. */
export class Request {
  /** @param {Client} client @param {OfferedModule[]} asked @param {Float64Array} x @param {number} tokens */
  constructor(client, asked, x, tokens) {
    this.client = client;
    this.asked = asked;
    this.tokens = tokens;
    this.keys = /** @type {Keys} */ (client.keys.get(asked[0].plan.keySet));
    this.id = client.engine.random(REQUEST_ID_BYTES);
    this.number = 0;
    /** @type {Uint8Array | null} */
    this.message = null;
    /** Δ of each part, (tokens, d_out), once done. @type {Map<string, Float64Array>} */
    this.deltas = new Map();
    this.done = false;
    const width = asked[0].plan.recipe.shape.d_in, perRun = asked[0].plan.layout.tokensPerRun;
    this.runs = Array.from({ length: Math.ceil(tokens / perRun) }, (_, run) => {
      const count = Math.min(perRun, tokens - run * perRun);
      return { count, ...normalized(x.subarray(run * perRun * width, (run * perRun + count) * width), count) };
    });
  }

  /** Make the first message. */
  async start() {
    const { plan } = this.asked[0], { layout } = plan, scale = 2 ** plan.recipe.settings.scales.input_bits;
    const runs = this.runs.map(({ scaled, count }) => {
      const vectors = layout.pack(scaled, count);
      return plan.inputs.map((position) => this.keys.encrypt(vectors[position], scale, layout.encoding));
    });
    await this.#send(runs, new Uint8Array(0));
  }

  /** @param {Uint8Array[][]} ciphertexts @param {Uint8Array} follows */
  async #send(ciphertexts, follows) {
    const names = this.asked.map(({ name }) => name), plans = this.asked.map(({ plan }) => plan.digest);
    const upload = msgpack.encode([this.id, this.number, names, plans, this.tokens, follows, ciphertexts]);
    this.message = await wrap(PayloadKind.UPLOAD, this.keys.keyId, this.client.offer.origin, upload);
  }

  /** Take the answer to the message: there is another message then, or Δ. A refused one changes nothing. @param {Uint8Array} answer */
  async receive(answer) {
    if (this.done) throw new EngineError("unexpected-message", "The request is done.");
    const [id, number, ciphertexts] = await this.#opened(answer);
    if (number !== this.number || id.some((/** @type {number} */ byte, /** @type {number} */ i) => byte !== this.id[i]))
      throw new EngineError("unexpected-message", "The answer is to another request or round.");
    const answers = this.asked.map(({ plan }) => plan.layout.answer);
    const between = this.number === 0 && answers[0] !== undefined;
    const expected = this.asked.flatMap(({ plan }) => this.runs.map(() => between
      ? plan.layout.answer?.masked : plan.outputs.filter((place) => place !== null).length)); // prettier-ignore
    const told = ciphertexts.map((/** @type {Uint8Array[]} */ run) => run.length);
    if (told.join() !== expected.join()) throw corrupt("the answer does not hold the ciphertexts of the runs asked for");
    if (between) {
      const next = this.asked.flatMap(({ plan }, m) => this.runs.map((_, r) => {
        const { scales } = plan.recipe.settings, moves = plan.layout.answer?.moves ?? [];
        return [this.keys.answer(ciphertexts[m * this.runs.length + r], moves, 2 ** (scales.input_bits + scales.down_bits))];
      })); // prettier-ignore
      this.number = 1;
      await this.#send(next, checksumOf(answer));
      return;
    }
    this.deltas = this.#results(ciphertexts);
    this.message = null;
    this.done = true;
  }

  /** @param {Uint8Array} answer @returns {Promise<[Uint8Array, number, Uint8Array[][]]>} */
  async #opened(answer) {
    const payload = await unwrap(PayloadKind.DOWNLOAD, this.keys.keyId, this.client.offer.origin, answer);
    const download = msgpack.decode(payload);
    const isBytes = (/** @type {unknown} */ each) => each instanceof Uint8Array;
    const fine = Array.isArray(download) && download.length === 6 && isBytes(download[0])
      && download[0].length === REQUEST_ID_BYTES && Array.isArray(download[2])
      && download[2].every((/** @type {unknown} */ run) => Array.isArray(run) && run.every(isBytes)); // prettier-ignore
    if (!fine) throw corrupt("it is no answer");
    return /** @type {any} */ (download);
  }

  /** @param {Uint8Array[][]} ciphertexts */
  #results(ciphertexts) {
    const deltas = new Map();
    this.asked.forEach(({ name, parts, plan, exponent }, m) => {
      const { layout } = plan, { d_out: width } = plan.recipe.shape;
      const whole = new Float64Array(this.tokens * width);
      this.runs.forEach(({ count, exponents, zeros }, r) => {
        const received = ciphertexts[m * this.runs.length + r];
        const opened = received.map((payload) => this.keys.decrypt(payload, layout.encoding, plan.lowBits));
        const nothing = new Float64Array(plan.params.ring_degree);
        const outputs = plan.outputs.map((place) => (place === null ? nothing : opened[place]));
        const delta = layout.unpack(outputs, count, this.client.up.get(name));
        for (let t = 0; t < count; t++)
          for (let o = 0; o < width; o++)
            whole[(r * layout.tokensPerRun + t) * width + o] = zeros[t] ? 0 : timesPower(delta[t * width + o], exponents[t] + exponent);
      });
      let start = 0;
      for (const part of parts) {
        const own = new Float64Array(this.tokens * part.d_out);
        for (let t = 0; t < this.tokens; t++) own.set(whole.subarray(t * width + start, t * width + start + part.d_out), t * part.d_out);
        deltas.set(part.name, own);
        start += part.d_out;
      }
    });
    return deltas;
  }
}
