// Pieces of a base model: fetched by their SHA-256, checked, and kept in IndexedDB, so that a page loads them once.

const STORE = "pieces";

/** A piece that is not what its name says. */
export class DamagedPiece extends Error {}

/** Pieces that this browser keeps. */
export class Kept {
  /** @param {string} name Of the database. */
  static async open(name = "helora-base") {
    const asked = indexedDB.open(name, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    return new Kept(await done(asked));
  }

  /** Use `open`. @param {IDBDatabase} database */
  constructor(database) {
    this.database = database;
  }

  /** The bytes of a digest, or undefined. @param {string} digest @returns {Promise<Uint8Array | undefined>} */
  get(digest) {
    return done(this.database.transaction(STORE).objectStore(STORE).get(digest));
  }

  /**
   * Keep bytes; a browser that has no room for them does not, and loads them again next time.
   * @param {string} digest @param {Uint8Array} bytes
   */
  async put(digest, bytes) {
    try {
      await done(this.database.transaction(STORE, "readwrite").objectStore(STORE).put(bytes, digest));
    } catch (error) {
      if (/** @type {any} */ (error)?.name !== "QuotaExceededError") throw error;
    }
  }

  /** Delete all pieces; nothing is kept afterwards. */
  async erase() {
    await this.keep([]);
    this.database.close();
  }

  /** Keep no pieces but these. @param {string[]} digests */
  async keep(digests) {
    const store = this.database.transaction(STORE, "readwrite").objectStore(STORE),
      wanted = new Set(digests);
    for (const key of await done(store.getAllKeys())) if (!wanted.has(String(key))) await done(store.delete(key));
  }
}

/**
 * A function that gives pieces by their places, for `Model.load`.
 *
 * @param {string} base Address of the folder that has them.
 * @param {string[]} digests Of all pieces.
 * @param {Kept | null} kept Where they are kept, if anywhere.
 */
export function pieces(base, digests, kept) {
  return async (/** @type {number} */ index) => {
    const digest = digests[index],
      found = await kept?.get(digest);
    if (found && (await sha256(found)) === digest) return found;
    const answer = await fetch(new URL(digest, base), { cache: "no-store" });
    if (!answer.ok) throw new Error(`The base model's piece ${index + 1} could not be loaded (${answer.status}).`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    if ((await sha256(bytes)) !== digest) throw new DamagedPiece(`The base model's piece ${index + 1} is damaged.`);
    await kept?.put(digest, bytes);
    return bytes;
  };
}

/** @param {Uint8Array} bytes */
async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", /** @type {BufferSource} */ (bytes)));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
