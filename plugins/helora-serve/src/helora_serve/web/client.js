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
import { wordParameters } from "./correlations.js";
import { PayloadKind, wrap } from "./envelope.js";
import { corrupt } from "./fields.js";
import * as msgpack from "./msgpack.js";
import { fingerprintOf, keySetsOf, readOffer, resolved } from "./offer.js";
import { Pools, newOwner } from "./pools.js";
import { MaskedRequest, Preparation, correlationOf, splitInto } from "./preparation.js";
import { Request } from "./request.js";
import { KEY_ID_BYTES } from "./scheme.js";
import { EngineError } from "./wasm.js";

/** @typedef {import("./offer.js").OfferedModule} OfferedModule */
/** @typedef {import("./scheme.js").Keys} Keys */

export class Client {
  /**
   * Keys for an offer.
   * @param {import("./engine.js").Engine} engine
   * @param {Uint8Array} offer
   * @param {{ up?: Map<string, Float64Array>, kept?: Uint8Array, store?: import("./store.js").Store }} [options]
   *   `up`: for packings whose client finishes, each module's matrix (d_out × rank, row-major) as
   *   helora_core.compiler.exponents scales it. `kept`: what `kept` gave, of the same offer; the server has the
   *   evaluation keys then. `store`: where prepared correlations are kept; in memory if there is none.
   */
  static async make(engine, offer, { up = new Map(), kept, store } = {}) {
    const read = readOffer(offer),
      sets = keySetsOf(read.plans);
    const client = new Client(read, engine, up, store);
    const secrets = kept ? msgpack.decode(kept) : null;
    if (secrets && secrets.length !== sets.length) throw corrupt("keys of another offer were kept");
    const bundle = [];
    for (const [i, set] of sets.entries()) {
      if (secrets) {
        const [name, seed, keyId] = secrets[i];
        if (name !== set.name) throw corrupt("keys of another offer were kept");
        if (set.params.wrap_bits) client.channels.set(set.name, keyId.slice());
        else client.keys.set(set.name, await engine.restoreKeys(resolved(set.params), { seed, keyId }));
        continue;
      }
      if (set.params.wrap_bits) {
        const keyId = engine.random(KEY_ID_BYTES); // each batch has keys of its own
        client.channels.set(set.name, keyId);
        bundle.push(await wrap(PayloadKind.EVALUATION_KEYS, keyId, read.origin, await fingerprintOf(set.params)));
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

  /**
   * @param {ReturnType<typeof readOffer>} offer
   * @param {import("./engine.js").Engine} engine
   * @param {Map<string, Float64Array>} up
   * @param {import("./store.js").Store} [store]
   */
  constructor(offer, engine, up, store) {
    this.offer = offer;
    this.engine = engine;
    this.up = up;
    /** @type {Map<string, Keys>} */
    this.keys = new Map();
    this.store = store;
    this.owner = newOwner();
    /** Names of this client for plans that run ahead of time. @type {Map<string, Uint8Array>} */
    this.channels = new Map();
    /** @type {Map<string, Promise<Pools>>} */
    this.opened = new Map();
    /** The bytes that open a session. @type {Uint8Array} */
    this.evaluationKeys = new Uint8Array(0);
  }

  /** Names that can be asked for: every part of every module. */
  get modules() {
    return [...new Set(this.offer.modules.flatMap((module) => module.parts.map((part) => part.name)))];
  }

  /** What `make` restores the keys from: secret. */
  kept() {
    return msgpack.encode(
      keySetsOf(this.offer.plans).map(({ name }) => {
        const keys = this.keys.get(name);
        return [name, keys?.seed ?? new Uint8Array(0), keys?.keyId ?? this.channels.get(name)];
      }),
    );
  }

  /** This client's name for a plan that runs ahead of time. @param {import("./offer.js").Plan} plan */
  keyIdOf(plan) {
    const found = this.channels.get(plan.keySet);
    if (!found) throw new EngineError("invalid-input", "This plan does not run ahead of time.");
    return found;
  }

  /** The pools for a plan's parameters. @param {import("./offer.js").Plan} plan */
  pools(plan) {
    let found = this.opened.get(plan.keySet);
    if (!found) {
      const rowBytes = new Map(
        this.offer.plans
          .filter((each) => each.keySet === plan.keySet)
          .map((each) => [each.digest, correlationOf(each).rowBytes]),
      );
      found = Pools.open(
        this.engine.machine,
        this.keyIdOf(plan),
        (digest) => rowBytes.get(digest),
        this.store,
        this.owner,
      );
      this.opened.set(plan.keySet, found);
    }
    return found;
  }

  /** The ring of a plan that runs ahead of time. @param {import("./offer.js").Plan} plan */
  wordRing(plan) {
    return this.engine.ring(wordParameters(plan.params));
  }

  /**
   * Make correlations, one for each token of later requests, for modules of one input.
   * @param {readonly string[]} names
   * @param {number} correlations
   */
  async prepare(names, correlations) {
    const asked = this.asked(names, 1).filter(({ plan }) => !isZero(plan));
    if (!asked.length) throw new EngineError("invalid-input", "Nothing is prepared for modules whose Δ is zero.");
    const preparation = new Preparation(this, asked, correlations);
    await preparation.start();
    return preparation;
  }

  /** Correlations that are left for parts of modules. @param {readonly string[]} names */
  async left(names) {
    const asked = this.asked(names, 1).filter(({ plan }) => !isZero(plan));
    return (await this.pools(asked[0].plan)).left(asked.map(({ name, plan }) => ({ name, plan: plan.digest })));
  }

  /** Give up the correlations that are left for parts of modules. @param {readonly string[]} names */
  async discard(names) {
    const asked = this.asked(names, 1).filter(({ plan }) => !isZero(plan));
    await (await this.pools(asked[0].plan)).discard(asked.map(({ name, plan }) => ({ name, plan: plan.digest })));
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
    if (
      !Number.isInteger(tokens) ||
      tokens < 1 ||
      x.length !== tokens * plan.recipe.shape.d_in ||
      !x.every(Number.isFinite)
    )
      throw new EngineError(
        "invalid-input",
        `x must have ${tokens} tokens of ${plan.recipe.shape.d_in} finite numbers.`,
      );
    const alive = found.filter((each) => !isZero(each.plan));
    const request = alive[0]?.plan.params.wrap_bits
      ? new MaskedRequest(this, alive, x, tokens)
      : new Request(this, alive, x, tokens);
    // of modules whose Δ is zero nothing is asked
    for (const { parts, plan: own } of found)
      if (isZero(own)) splitInto(request.deltas, new Float64Array(tokens * own.recipe.shape.d_out), tokens, parts);
    if (alive.length) await request.start();
    else request.done = true;
    return request;
  }

  /**
   * The modules that names mean, each once, by the plans with the fewest runs.
   * @param {readonly string[]} names
   * @param {number} tokens
   */
  asked(names, tokens) {
    /** @type {Map<string, OfferedModule>} */
    const found = new Map();
    for (const name of names) {
      const offered = this.offer.modules.filter((module) => module.parts.some((part) => part.name === name));
      if (!offered.length) throw new EngineError("invalid-input", `No module ${name} is offered.`);
      const runs = (/** @type {OfferedModule} */ each) => Math.ceil(tokens / each.plan.layout.tokensPerRun);
      found.set(
        offered[0].name,
        offered.reduce((best, each) => (runs(each) < runs(best) ? each : best)),
      );
    }
    const all = [...found.values()],
      [first] = all;
    if (!first) throw new EngineError("invalid-input", "No module was named.");
    const input = (/** @type {OfferedModule} */ { plan }) =>
      [
        plan.keySet,
        plan.layout.placing,
        plan.recipe.shape.d_in,
        plan.recipe.settings.scales.input_bits,
        plan.inputs,
      ].join();
    if (all.some((each) => input(each) !== input(first)))
      throw new EngineError("invalid-input", "These modules do not take the same ciphertexts.");
    return all;
  }
}

/** Whether Δ is zero whatever x is. @param {import("./offer.js").Plan} plan */
const isZero = (plan) => plan.outputs.every((place) => place === null);
