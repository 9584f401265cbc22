// @ts-check
/**
 * What a page keeps from one visit to the next: the seeds of its keys and its correlations, encrypted by the vault's
 * key, and the evaluation keys, which a server has anyway. One page at a time has them: a lock of the browser's says which.
 */

import { hex, sha256 } from "./bytes.js";
import { Client } from "./client.js";
import { durably, openDatabase, settled } from "./database.js";
import { DatabaseStore, RoomyStore } from "./store.js";
import * as vault from "./vault.js";
import { EngineError } from "./wasm.js";

/** A page that is loaded anew waits so long for the one before to end. */
const PATIENCE_MS = 3000;
const LAST = "\uffff";

export class Keeping {
  /**
   * Open what is kept for a server.
   * @param {string} server its address
   */
  static async open(server) {
    const release = await locked(`helora ${server}`);
    try {
      return new Keeping(server, await openDatabase(), release);
    } catch (error) {
      release();
      const { name, message } = /** @type {Error} */ (error);
      throw new EngineError("not-durable", `The browser refuses to store anything (${name}: ${message}).`);
    }
  }

  /** Use `open`. @param {string} server @param {IDBDatabase} database @param {() => void} release */
  constructor(server, database, release) {
    this.server = server;
    this.database = database;
    this.release = release;
    /** Whether something had no room, and is in memory alone. */
    this.full = false;
  }

  /**
   * The client for an offer, and what the server gets of its keys: as they were kept, or made now. Those of an earlier
   * offer of this server are deleted.
   * @param {import("./engine.js").Engine} engine
   * @param {Uint8Array} offer
   * @param {{ up?: Map<string, Float64Array> }} [options]
   */
  async client(engine, offer, { up } = {}) {
    const name = `${this.server} ${hex(await sha256(offer))}`,
      store = new RoomyStore(new DatabaseStore(this.database, name), () => {
        this.full = true;
      });
    const secret = await vault.kept(this.database, name).catch(() => null), // whose key is gone: of no use any more
      shared = await settled(this.database.transaction("shared").objectStore("shared").get(name));
    if (secret && shared) {
      const client = await Client.make(engine, offer, { up, kept: secret, store });
      secret.fill(0);
      return { client, keys: /** @type {Uint8Array} */ (shared), restored: true };
    }
    await this.#clear();
    const client = await Client.make(engine, offer, { up, store }),
      exported = client.kept();
    try {
      await vault.keep(this.database, name, exported);
      await durably(this.database, ["shared"], (all) => all.put(client.evaluationKeys, name));
    } catch (error) {
      if (/** @type {any} */ (error)?.name !== "QuotaExceededError") throw error;
      this.full = true;
    }
    exported.fill(0);
    return { client, keys: client.evaluationKeys, restored: false };
  }

  /** Delete all that is kept for the server. */
  async #clear() {
    const range = (/** @type {string} */ prefix) =>
      IDBKeyRange.bound(`${prefix}${this.server} `, `${prefix}${this.server} ${LAST}`);
    await durably(this.database, ["vault", "shared", "pools", "marks"], (secrets, shared, pools, marks) => {
      secrets.delete(range("secret "));
      for (const each of [shared, pools, marks]) each.delete(range(""));
    });
  }

  /** Let another page have it. */
  close() {
    this.database.close();
    this.release();
  }
}

/** Hold a lock of the browser's until the function that is given back is called. @param {string} name */
async function locked(name) {
  if (!navigator.locks) return () => {}; // a store's owner is checked at each write all the same
  /** @type {() => void} */
  let release = () => {};
  const held = new Promise((resolve) => {
    release = () => resolve(undefined);
  });
  await new Promise((resolve, reject) => {
    navigator.locks
      .request(name, { signal: AbortSignal.timeout(PATIENCE_MS) }, () => {
        resolve(undefined);
        return held;
      })
      .catch(() => reject(inUse()));
  });
  return release;
}

const inUse = () =>
  new EngineError("in-use", "Another tab of this browser has the keys for this server: close it, and load again.");
