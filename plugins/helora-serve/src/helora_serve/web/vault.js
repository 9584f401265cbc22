// @ts-check
/**
 * What a page keeps of its secrets: encrypted by a key of the browser's that no script can read.
 *
 * The key is an AES-GCM CryptoKey that is not extractable, kept in IndexedDB. Whoever copies the profile's files
 * without
 * the browser's own protection, or runs code in the page, can use it; a script can not carry it away.
 */

import { durably, settled } from "./database.js";
import { EngineError } from "./wasm.js";

const KEY = "key";
const NONCE_BYTES = 12;

/** @param {IDBDatabase} database @returns {Promise<CryptoKey>} */
async function keyOf(database) {
  const stored = await settled(database.transaction("vault").objectStore("vault").get(KEY));
  if (stored) return stored;
  const made = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
  // Of two pages that begin at once the first to write has the key.
  return durably(database, ["vault"], (vault) => {
    vault.add(made, KEY).onerror = (event) => {
      event.preventDefault();
      event.stopPropagation();
    };
    return vault.get(KEY);
  }).then((request) => /** @type {IDBRequest} */ (request).result);
}

/**
 * A secret encrypted, under a name that it is bound to.
 * @param {IDBDatabase} database
 * @param {string} name
 * @param {Uint8Array} secret
 */
export async function sealed(database, name, secret) {
  const key = await keyOf(database),
    iv = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  const additionalData = new TextEncoder().encode(name);
  return {
    iv,
    bytes: await crypto.subtle.encrypt(
      { name: "AES-GCM", iv, additionalData },
      key,
      /** @type {BufferSource} */ (secret),
    ),
  };
}

/**
 * Undo `sealed`.
 * @param {IDBDatabase} database
 * @param {string} name
 * @param {{ iv: Uint8Array, bytes: ArrayBuffer }} found
 */
export async function opened(database, name, { iv, bytes }) {
  const key = await keyOf(database),
    additionalData = new TextEncoder().encode(name);
  try {
    const algorithm = { name: "AES-GCM", iv: /** @type {BufferSource} */ (iv), additionalData };
    return new Uint8Array(await crypto.subtle.decrypt(algorithm, key, bytes));
  } catch {
    throw new EngineError("corrupt-payload", `What was kept as ${name} is damaged.`);
  }
}

/** Keep a secret under a name. @param {IDBDatabase} database @param {string} name @param {Uint8Array} secret */
export async function keep(database, name, secret) {
  const value = await sealed(database, name, secret);
  await durably(database, ["vault"], (vault) => vault.put(value, `secret ${name}`));
}

/**
 * A secret that was kept, or null.
 * @param {IDBDatabase} database
 * @param {string} name
 * @returns {Promise<Uint8Array | null>}
 */
export async function kept(database, name) {
  const found = await settled(database.transaction("vault").objectStore("vault").get(`secret ${name}`));
  return found ? opened(database, name, found) : null;
}

/** Forget a secret. @param {IDBDatabase} database @param {string} name */
export async function forget(database, name) {
  await durably(database, ["vault"], (vault) => vault.delete(`secret ${name}`));
}
