// @ts-check
/** IndexedDB by promises: one database with a store for each kind of record. */

import { EngineError } from "./wasm.js";

const NAME = "helora";
const VERSION = 2;
export const STORES = Object.freeze(["vault", "marks", "pools", "shared"]);

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
export function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @returns {Promise<IDBDatabase>} */
export function openDatabase() {
  const request = indexedDB.open(NAME, VERSION);
  request.onupgradeneeded = () => {
    for (const name of STORES)
      if (!request.result.objectStoreNames.contains(name)) request.result.createObjectStore(name);
  };
  return settled(request);
}

/** Delete a database with all that is in it. Others that have it open keep it until they close it. @param {string} [name] */
export async function deleteDatabase(name = NAME) {
  const request = indexedDB.deleteDatabase(name);
  await new Promise((resolve, reject) => {
    request.onblocked = () => reject(new EngineError("in-use", "Another tab has this open: close it, and try again."));
    settled(request).then(resolve, reject);
  });
}

/**
 * A transaction that is on the disk when the promise is kept: a crash of the machine does not undo it.
 * @template T @param {IDBDatabase} database @param {readonly string[]} names
 * @param {(...stores: IDBObjectStore[]) => T} body makes its requests at once
 * @returns {Promise<T>} what the body returned
 */
export function durably(database, names, body) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction([...names], "readwrite", { durability: "strict" });
    const result = body(...names.map((name) => transaction.objectStore(name)));
    transaction.oncomplete = () => resolve(result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}
