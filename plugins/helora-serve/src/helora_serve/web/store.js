// @ts-check
/**
 * Where correlations are kept, and up to where they may have been used. A mark is durable before the first use of what
 * it covers: after a crash all of that counts as used. The rules are those of helora_core/parties/store.py and
 * marks.py.
 *
 * A store gets the values of keys, and writes several at once: all or, after a crash, none, durably, and only if its
 * owner is still the one that is named.
 */

import { durably, settled } from "./database.js";
import { opened, sealed } from "./vault.js";
import { EngineError } from "./wasm.js";

/** @typedef {[string, Uint8Array | null]} Write a key, and its value or null to delete it */
/**
 * @typedef {object} Store
 * @property {(owner: string) => Promise<void>} own from now on this owner's writes alone are taken
 * @property {() => Promise<Map<string, Uint8Array>>} all
 * @property {(owner: string, writes: readonly Write[]) => Promise<void>} put
 */

/** Another party has opened the store since. */
const disowned = () =>
  new EngineError("not-durable", "Another page has opened this store since; this one may no longer write to it.");

/** A store that lasts as long as the page. @implements {Store} */
export class MemoryStore {
  constructor() {
    /** @type {Map<string, Uint8Array>} */
    this.values = new Map();
    this.owner = "";
  }

  /** @param {string} owner */
  async own(owner) {
    this.owner = owner;
  }

  async all() {
    return new Map(this.values);
  }

  /** @param {string} owner @param {readonly Write[]} writes */
  async put(owner, writes) {
    if (owner !== this.owner) throw disowned();
    for (const [key, value] of writes)
      if (value) this.values.set(key, value.slice());
      else this.values.delete(key);
  }
}

/** A store in IndexedDB, whose values are encrypted by the vault's key. @implements {Store} */
export class DatabaseStore {
  /** @param {IDBDatabase} database @param {string} prefix of its keys: one party's */
  constructor(database, prefix) {
    this.database = database;
    this.prefix = prefix;
  }

  /** Delete everything. */
  async clear() {
    const range = IDBKeyRange.bound(`${this.prefix}.`, `${this.prefix}.\uffff`);
    await durably(this.database, ["pools"], (pools) => pools.delete(range));
  }

  /** @param {string} owner */
  async own(owner) {
    await durably(this.database, ["marks"], (marks) => marks.put(owner, `${this.prefix}/owner`));
  }

  async all() {
    const range = IDBKeyRange.bound(`${this.prefix}.`, `${this.prefix}.\uffff`);
    const pools = this.database.transaction("pools").objectStore("pools");
    const [keys, values] = await Promise.all([settled(pools.getAllKeys(range)), settled(pools.getAll(range))]);
    const found = new Map();
    for (const [i, key] of keys.entries()) {
      const name = String(key).slice(this.prefix.length + 1);
      found.set(name, await opened(this.database, String(key), values[i]));
    }
    return found;
  }

  /** @param {string} owner @param {readonly Write[]} writes */
  async put(owner, writes) {
    /** @type {[string, any][]} */
    const ready = [];
    for (const [name, value] of writes) {
      const key = `${this.prefix}.${name}`;
      ready.push([key, value && (await sealed(this.database, key, value))]);
    }
    let owned = true;
    await durably(this.database, ["marks", "pools"], (marks, pools) => {
      const asked = marks.get(`${this.prefix}/owner`);
      asked.onsuccess = () => {
        owned = asked.result === owner;
        for (const [key, value] of owned ? ready : [])
          if (value) pools.put(value, key);
          else pools.delete(key);
      };
    });
    if (!owned) throw disowned();
  }
}

/**
 * A store that goes on when it is full: batches for which it has no room are in memory alone, and so are their marks. A
 * mark of a batch that is stored has to be, or the batch is of no use. @implements {Store}
 */
export class RoomyStore {
  /** @param {Store} store @param {() => void} full is called when something has no room */
  constructor(store, full) {
    this.store = store;
    this.full = full;
    /** Batches that are in memory alone. @type {Set<string>} */
    this.transient = new Set();
    /** Whether nothing is stored at all, since not even an owner can be. */
    this.useless = false;
  }

  /** @param {string} owner */
  async own(owner) {
    try {
      await this.store.own(owner);
    } catch (error) {
      if (/** @type {any} */ (error)?.name !== "QuotaExceededError") throw error;
      this.useless = true;
      this.full();
    }
  }

  /** @returns {Promise<Map<string, Uint8Array>>} */
  async all() {
    return this.useless ? new Map() : this.store.all();
  }

  /** @param {string} owner @param {readonly Write[]} writes */
  async put(owner, writes) {
    const stored = writes.filter(([key]) => !this.transient.has(key.slice(key.indexOf(".") + 1)));
    if (this.useless || !stored.length) return;
    try {
      await this.store.put(owner, stored);
    } catch (error) {
      if (/** @type {any} */ (error)?.name !== "QuotaExceededError") throw error;
      this.full();
      const added = stored.filter(([key, value]) => value && key.startsWith("pool."));
      if (added.length !== stored.length)
        throw new EngineError("not-durable", "The browser's storage is full: what is used up cannot be noted there.");
      for (const [key] of added) this.transient.add(key.slice(5));
    }
  }
}

/** The mark of one batch: all correlations below `reserved`, durably, may have been used. */
export class Mark {
  /**
   * @param {(writes: readonly Write[]) => Promise<void>} put
   * @param {string} key
   * @param {number} size
   * @param {number} ahead
   * @param {Uint8Array} [kept]
   */
  constructor(put, key, size, ahead, kept) {
    this.put = put;
    this.key = key;
    this.size = size;
    this.ahead = ahead;
    this.reserved = kept ? new DataView(kept.buffer, kept.byteOffset).getUint32(0) : 0;
    if (this.reserved > size)
      throw new EngineError("corrupt-payload", "Store: more correlations are marked as used than there are.");
  }

  /** Reserve all below `end`, durably. @param {number} end */
  async cover(end) {
    if (end <= this.reserved) return;
    const reserved = Math.min(this.size, end + this.ahead),
      value = new Uint8Array(4);
    new DataView(value.buffer).setUint32(0, reserved);
    await this.put([[this.key, value]]);
    this.reserved = reserved;
  }
}
