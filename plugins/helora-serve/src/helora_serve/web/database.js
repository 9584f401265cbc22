// @ts-check
/** IndexedDB by promises: one database with a store for each kind of record. */

const NAME = "helora";
const VERSION = 1;
export const STORES = Object.freeze(["vault", "marks", "pools"]);

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
  request.onupgradeneeded = () => STORES.forEach((name) => request.result.createObjectStore(name));
  return settled(request);
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
