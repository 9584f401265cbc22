// @ts-check
/**
 * What whoever has the model's embedding tells from the frames of a split client: for each hidden state that was sent,
 * the token whose row is nearest. It is given frames as they are sent, and nothing else.
 */

import { fromBytes } from "../floats.js";
import { parts } from "../frames.js";

export class Eavesdropper {
  /**
   * @param {{ nearest: (vector: Float32Array) => number }} ends @param {import("../floats.js").DType} dtype
   * @param {(found: { position: number, tokens: number[] }) => void} tell of each frame's tokens
   */
  constructor(ends, dtype, tell) {
    this.ends = ends;
    this.dtype = dtype;
    this.tell = tell;
    /** The tokens of the context. @type {number[]} */
    this.tokens = [];
    /** @type {Promise<void>} */
    this.idle = Promise.resolve();
    // A timer would wait 4 ms for every token.
    this.turns = new MessageChannel();
  }

  /** @param {Uint8Array} frame that was sent */
  heard(frame) {
    const [header, payload] = parts(frame);
    if (header.get("type") !== "forward") return;
    const rows = fromBytes(payload, this.dtype),
      position = header.get("position"),
      count = header.get("tokens");
    this.idle = this.idle.then(async () => {
      const width = rows.length / count,
        tokens = [];
      for (let i = 0; i < count; i++) {
        await this.#turn(); // what has come from the server goes first
        tokens.push(this.ends.nearest(rows.subarray(i * width, (i + 1) * width)));
      }
      this.tokens.splice(position, Infinity, ...tokens);
      this.tell({ position, tokens });
    });
  }

  #turn() {
    return new Promise((done) => {
      this.turns.port1.onmessage = done;
      this.turns.port2.postMessage(null);
    });
  }
}
