// @ts-check
/** The worker that has the keys: a page sends it activations and answers, and gets messages and Δ. */

import { Client } from "./client.js";
import { openDatabase } from "./database.js";
import { loadEngine } from "./engine.js";
import { DatabaseStore } from "./store.js";
import * as vault from "./vault.js";
import { EngineError } from "./wasm.js";

/** @type {import("./engine.js").Engine} */
let engine;
/** @type {Client | null} */
let client = null;
/** @type {Map<number, any>} */
const requests = new Map();
let named = 0;
/** @type {IDBDatabase | null} */
let database = null;

const theClient = () => {
  if (!client) throw new EngineError("unexpected-message", "There are no keys yet.");
  return client;
};

/** @type {Record<string, (...args: any[]) => any>} */
const methods = {
  /** Which build of the engine runs. @param {string[]} [builds] those to try */
  async load(builds) {
    engine = await loadEngine(builds ? { builds } : {});
    return engine.build;
  },

  /**
   * Keys for an offer: those that were kept under a name, if there are any, and fresh ones otherwise.
   * @param {Uint8Array} offer @param {{ keepAs?: string, up?: Map<string, Float64Array> }} [options]
   */
  async make(offer, { keepAs, up } = {}) {
    client?.wipe();
    requests.clear();
    database?.close();
    database = keepAs ? await openDatabase() : null;
    const secret = database && keepAs ? await vault.kept(database, keepAs) : null;
    const store = database && keepAs ? new DatabaseStore(database, keepAs) : undefined;
    client = await Client.make(engine, offer, { up, kept: secret ?? undefined, store });
    secret?.fill(0);
    if (database && keepAs && !secret) {
      const exported = client.kept();
      await vault.keep(database, keepAs, exported);
      exported.fill(0);
    }
    return { modules: client.modules, restored: secret !== null };
  },

  /** The bytes that open a session. */
  evaluationKeys: () => theClient().evaluationKeys,

  /**
   * A request's number and its first message.
   * @param {string[]} names
   * @param {Float64Array} x
   * @param {number} tokens
   */
  async begin(names, x, tokens) {
    const request = await theClient().begin(names, x, tokens);
    requests.set(++named, request);
    return { request: named, message: request.message };
  },

  /** A preparation's number and its first message. @param {string[]} names @param {number} correlations */
  async prepare(names, correlations) {
    const preparation = await theClient().prepare(names, correlations);
    requests.set(++named, preparation);
    return { request: named, message: preparation.message };
  },

  /** Correlations that are left. @param {string[]} names */
  left: (names) => theClient().left(names),

  /**
   * The next message; or Δ of each part, or nothing if it was a preparation.
   * @param {number} number
   * @param {Uint8Array} answer
   */
  async receive(number, answer) {
    const request = requests.get(number);
    if (!request) throw new EngineError("unexpected-message", "There is no such request.");
    await request.receive(answer);
    if (!request.done) return { message: request.message };
    requests.delete(number);
    return { deltas: request.deltas };
  },

  /** Clear all secrets. @param {string} [keptAs] what was kept too */
  async wipe(keptAs) {
    client?.wipe();
    client = null;
    requests.clear();
    if (!keptAs) return;
    const open = database ?? (await openDatabase());
    await vault.forget(open, keptAs);
    await new DatabaseStore(open, keptAs).clear();
  },
};

/** One call at a time, in their order. @type {Promise<void>} */
let last = Promise.resolve();
self.onmessage = ({ data: { id, method, args } }) => {
  last = last.then(async () => {
    try {
      if (!Object.hasOwn(methods, method)) throw new EngineError("invalid-input", `There is no method ${method}.`);
      self.postMessage({ id, result: await methods[method](...args) });
    } catch (error) {
      const { code = "error", message = String(error) } = /** @type {any} */ (error);
      self.postMessage({ id, error: { code, message } });
    }
  });
};
