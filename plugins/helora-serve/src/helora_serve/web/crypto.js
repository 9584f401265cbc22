// @ts-check
/** A page's side of the worker that has the keys: its methods, each a promise. */

import { EngineError } from "./wasm.js";

export class CryptoWorker {
  constructor() {
    this.worker = new Worker(new URL("./crypto-worker.js", import.meta.url), { type: "module" });
    /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void }>} */
    this.waiting = new Map();
    this.last = 0;
    this.worker.onmessage = ({ data: { id, result, error } }) => {
      const waiting = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) waiting?.reject(new EngineError(error.code, error.message));
      else waiting?.resolve(result);
    };
    this.worker.onerror = (event) => {
      for (const { reject } of this.waiting.values())
        reject(new EngineError("error", event.message ?? "the worker did not start"));
      this.waiting.clear();
    };
  }

  /**
   * Call a method of the worker (crypto-worker.js).
   * @param {string} method
   * @param {...any} args
   * @returns {Promise<any>}
   */
  call(method, ...args) {
    return new Promise((resolve, reject) => {
      this.waiting.set(++this.last, { resolve, reject });
      this.worker.postMessage({ id: this.last, method, args });
    });
  }

  /** End the worker, with all that it has. */
  close() {
    this.worker.terminate();
    for (const { reject } of this.waiting.values()) reject(new EngineError("error", "the worker was ended"));
    this.waiting.clear();
  }
}
