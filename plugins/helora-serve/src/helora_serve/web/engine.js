// @ts-check
/**
 * helora's engine in a browser: the client's half of helora-rns, in WebAssembly.
 *
 *     const engine = await loadEngine();
 *     const keys = await engine.generateKeys({ ringDegree, dataPrimes, specialPrimes }, { steps, publicKey: true });
 *     const sent = keys.encrypt(values, 2 ** 40, "slots");
 *     const delta = keys.decrypt(answer, "slots");
 *     keys.wipe();
 */

import { Ring, randomBytes } from "./ring.js";
import { Keys } from "./scheme.js";
import { loadMachine } from "./wasm.js";

/** @typedef {import("./ring.js").Parameters} Parameters */

/** The version of helora-rns whose bytes these are. */
export const PRODUCER = "0.1.0";

export class Engine {
  /** @param {import("./wasm.js").Machine} machine @param {{ random?: (bytes: number) => Uint8Array }} options */
  constructor(machine, options) {
    this.machine = machine;
    this.options = options;
    /** Fresh bytes. */
    this.random = options.random ?? randomBytes;
    /** @type {Map<string, Promise<Ring>>} */
    this.rings = new Map();
  }

  /** Which build runs. */
  get build() {
    return this.machine.build;
  }

  /** The ring of parameters: one for all that ask. @param {Parameters} parameters @returns {Promise<Ring>} */
  ring(parameters) {
    const name = [parameters.ringDegree, parameters.dataPrimes, parameters.specialPrimes ?? []].join(";");
    let found = this.rings.get(name);
    if (!found) this.rings.set(name, (found = Ring.make(this.machine, parameters, this.options)));
    return found;
  }

  /**
   * Fresh keys.
   * @param {Parameters} parameters
   * @param {{ steps?: readonly number[], publicKey?: boolean }} [wanted] rotation keys, and whether the server may
   *   encrypt
   * @returns {Promise<Keys>}
   */
  async generateKeys(parameters, { steps = [], publicKey = false } = {}) {
    return new Keys(await this.ring(parameters), PRODUCER, { steps, publicKey });
  }

  /**
   * Keys whose server has its part already.
   * @param {Parameters} parameters
   * @param {{ seed: Uint8Array, keyId: Uint8Array }} kept
   */
  async restoreKeys(parameters, kept) {
    return new Keys(await this.ring(parameters), PRODUCER, { steps: [], publicKey: false }, kept);
  }
}

/**
 * The engine, by the fastest build that works here.
 * @param {{ read?: (name: string) => Promise<BufferSource>, builds?: readonly string[],
 *           random?: (bytes: number) => Uint8Array }} [options] `random` is for tests alone
 * @returns {Promise<Engine>}
 */
export async function loadEngine({ random, ...options } = {}) {
  return new Engine(await loadMachine(options), random ? { random } : {});
}
