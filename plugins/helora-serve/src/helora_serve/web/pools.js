// @ts-check
/** Pools of single-use correlations: batches, which are taken in order, each correlation once. */

import { hex } from "./bytes.js";
import { Pads } from "./correlations.js";
import { corrupt } from "./fields.js";
import * as msgpack from "./msgpack.js";
import { Mark, MemoryStore } from "./store.js";
import { EngineError } from "./wasm.js";

/** Correlations that are reserved with one write; the unused ones of them are lost in a crash. */
export const RESERVED = 64;

/** @typedef {{ name: string, plan: string, masked: Uint8Array, rowBytes: number }} PreparedModule */
/** @typedef {{ batch: Uint8Array, start: number, count: number }} Span */

/** A name for whoever opens a store. */
export function newOwner() {
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}

class Batch {
  /**
   * @param {Uint8Array} name
   * @param {number} number
   * @param {number} size
   * @param {Uint8Array} seed
   * @param {PreparedModule[]} modules
   * @param {Mark} mark
   */
  constructor(name, number, size, seed, modules, mark) {
    this.name = name;
    this.number = number;
    this.size = size;
    this.seed = seed;
    this.modules = modules;
    this.mark = mark;
    this.next = mark.reserved;
    this.kind = JSON.stringify(modules.map(({ name: each }) => each));
    if (modules.some(({ masked, rowBytes }) => masked.length !== size * rowBytes))
      throw corrupt("a pool is not of its size");
  }

  get left() {
    return this.size - this.next;
  }
}

export class Pools {
  /**
   * Read what a store has for a client.
   * @param {import("./wasm.js").Machine} machine
   * @param {Uint8Array} keyId the client's name
   * @param {(plan: string) => number | undefined} rowBytes bytes of a correlation by a plan; undefined if there is no
   *   such plan
   * @param {import("./store.js").Store} [store]
   * @param {string} [owner] of the store, which pools of several clients' names may share
   */
  static async open(machine, keyId, rowBytes, store = new MemoryStore(), owner = newOwner()) {
    const pools = new Pools(machine, keyId, rowBytes, store, owner);
    await store.own(pools.owner);
    const kept = await store.all();
    for (const [key, value] of kept) if (key.startsWith("pool.")) await pools.#restore(key.slice(5), value, kept);
    pools.batches.sort((a, b) => a.number - b.number);
    pools.number = (pools.batches.at(-1)?.number ?? -1) + 1;
    return pools;
  }

  /**
   * @param {import("./wasm.js").Machine} machine
   * @param {Uint8Array} keyId
   * @param {(plan: string) => number | undefined} rowBytes
   * @param {import("./store.js").Store} store
   * @param {string} owner
   */
  constructor(machine, keyId, rowBytes, store, owner) {
    this.machine = machine;
    this.keyId = keyId;
    this.rowBytes = rowBytes;
    this.store = store;
    this.owner = owner;
    /** @type {Batch[]} */
    this.batches = [];
    this.number = 0;
    this.put = (/** @type {readonly import("./store.js").Write[]} */ writes) => this.store.put(this.owner, writes);
    /** One taking at a time. @type {Promise<any>} */
    this.last = Promise.resolve();
  }

  /** @param {string} key @param {Uint8Array} value @param {Map<string, Uint8Array>} kept */
  async #restore(key, value, kept) {
    const [name, keyId, number, size, seed, told] = msgpack.decode(value);
    const modules = told.map((/** @type {any[]} */ [each, plan, masked]) => ({
      name: each,
      plan,
      masked: masked.slice(),
      rowBytes: this.rowBytes(plan),
    }));
    const mark = new Mark(this.put, `mark.${key}`, size, RESERVED, kept.get(`mark.${key}`));
    const known =
      hex(keyId) === hex(this.keyId) &&
      modules.every((/** @type {PreparedModule} */ each) => each.rowBytes !== undefined);
    if (known && mark.reserved < size)
      this.batches.push(new Batch(name.slice(), number, size, seed.slice(), modules, mark));
    else if (hex(keyId) === hex(this.keyId))
      await this.put([
        [`pool.${key}`, null],
        [`mark.${key}`, null],
      ]);
  }

  /**
   * Add a batch, durably.
   * @param {Uint8Array} name
   * @param {number} size
   * @param {Uint8Array} seed
   * @param {PreparedModule[]} modules
   */
  async add(name, size, seed, modules) {
    const key = hex(name),
      mark = new Mark(this.put, `mark.${key}`, size, RESERVED);
    const batch = new Batch(name, this.number++, size, seed, modules, mark);
    const told = modules.map((each) => [each.name, each.plan, each.masked]);
    await this.put([[`pool.${key}`, msgpack.encode([name, this.keyId, batch.number, size, seed, told])]]);
    this.batches.push(batch);
  }

  /**
   * Correlations that are left for these modules, together with whatever else their batches are for.
   * @param {readonly { name: string, plan: string }[]} wanted
   */
  left(wanted) {
    return this.#fitting(wanted).reduce(
      (most, pool) =>
        Math.max(
          most,
          pool.reduce((sum, batch) => sum + batch.left, 0),
        ),
      0,
    );
  }

  /**
   * Pools for modules by these plans, those with the fewest others first.
   * @param {readonly { name: string, plan: string }[]} wanted
   */
  #fitting(wanted) {
    const fits = (/** @type {Batch} */ batch) =>
      wanted.every(({ name, plan }) => batch.modules.some((each) => each.name === name && each.plan === plan));
    const fitting = this.batches.filter(fits);
    const kinds = [...new Set(fitting.map(({ kind }) => kind))].sort(
      (a, b) => JSON.parse(a).length - JSON.parse(b).length,
    );
    return kinds.map((kind) => fitting.filter((batch) => batch.kind === kind));
  }

  /**
   * A correlation for each token: spans, pads (tokens × inputs words) and c of each module. Nobody else gets them.
   * @param {readonly { name: string, plan: string }[]} wanted @param {number} tokens @param {number} inputs
   */
  take(wanted, tokens, inputs) {
    const taken = this.last.then(() => this.#take(wanted, tokens, inputs));
    this.last = taken.catch(() => {});
    return taken;
  }

  /** @param {readonly { name: string, plan: string }[]} wanted @param {number} tokens @param {number} inputs */
  async #take(wanted, tokens, inputs) {
    const pool = this.#fitting(wanted).find((each) => each.reduce((sum, batch) => sum + batch.left, 0) >= tokens);
    if (!pool)
      throw new EngineError(
        "pool-empty",
        `${tokens} correlations are asked for, and the pool has ${this.left(wanted)}.`,
      );
    /** @type {Span[]} */
    const spans = [];
    const pads = new Uint8Array(8 * inputs * tokens);
    const masked = wanted.map(() => /** @type {Uint8Array[]} */ ([]));
    let done = 0;
    for (const batch of pool) {
      const count = Math.min(tokens - done, batch.left),
        start = batch.next;
      if (!count) continue;
      batch.next += count; // also if the write fails: whether it reached the disk is not known
      await batch.mark.cover(start + count);
      spans.push({ batch: batch.name, start, count });
      new Pads(this.machine, batch.seed).rows(start, count, 0, inputs, (row, words) => {
        pads.set(this.machine.bytes(words, 8 * inputs), 8 * inputs * (done + row - start));
      });
      batch.modules.forEach(({ name, masked: all, rowBytes }) => {
        const own = all.subarray(start * rowBytes, (start + count) * rowBytes);
        const place = wanted.findIndex((each) => each.name === name);
        if (place >= 0) masked[place].push(own.slice());
        own.fill(0);
      });
      done += count;
      if (!batch.left) await this.#drop(batch);
    }
    const places = wanted.map(({ name }) => pool[0].modules.findIndex((each) => each.name === name));
    return { spans, pads, masked, places };
  }

  /** Give up all batches for these modules. @param {readonly { name: string, plan: string }[]} wanted */
  async discard(wanted) {
    for (const batch of this.#fitting(wanted).flat()) await this.#drop(batch);
  }

  /** @param {Batch} batch */
  async #drop(batch) {
    this.batches.splice(this.batches.indexOf(batch), 1);
    const key = hex(batch.name);
    batch.seed.fill(0);
    await this.put([
      [`pool.${key}`, null],
      [`mark.${key}`, null],
    ]);
  }
}
