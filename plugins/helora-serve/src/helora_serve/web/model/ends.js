// @ts-check
/** Both ends of a model, for clients whose server runs its layers: rows of the embedding, and the head. */

import { Weights } from "./weights.js";

/** @typedef {import("./weights.js").Manifest} Manifest */

export class Ends extends Weights {
  /** @type {Float32Array | undefined} */
  #halves;

  /**
   * Load them, piece by piece.
   * @param {Manifest} manifest @param {WebAssembly.Module} kernels @param {import("./weights.js").Piece} piece
   * @param {{ progress?: (share: number) => void }} [options]
   */
  static async load(manifest, kernels, piece, { progress } = {}) {
    const ends = new Ends(manifest, kernels, {
      x: manifest.hidden,
      row: manifest.hidden,
      logits: manifest.vocabulary,
      products: manifest.vocabulary,
    });
    await ends.fill(piece, progress);
    return ends;
  }

  /** The embedding of tokens, (tokens, hidden). @param {readonly number[]} tokens @returns {Float32Array} */
  rows(tokens) {
    const { hidden } = this.of,
      rows = new Float32Array(tokens.length * hidden);
    tokens.forEach((token, t) => {
      this.embed(token, this.at.x);
      rows.set(this.floats(this.at.x, hidden), t * hidden);
    });
    return rows;
  }

  /** Logits after a hidden state that the final norm has been applied to; valid until the next call. @param {Float32Array} state @returns {Float32Array} */
  logits(state) {
    this.floats(this.at.x, this.of.hidden).set(state);
    this.multiply(this.of.tied ? "embed" : "head", this.at.x, this.at.logits, 1);
    return this.floats(this.at.logits, this.of.vocabulary);
  }

  /** The token of the greatest of the last logits. @returns {number} */
  greatest() {
    return this.run.greatest(this.at.logits, this.of.vocabulary);
  }

  /**
   * The token whose row of the embedding is nearest to a vector: what anybody who has the model can tell from it.
   * @param {Float32Array} vector
   */
  nearest(vector) {
    this.floats(this.at.x, this.of.hidden).set(vector);
    this.multiply("embed", this.at.x, this.at.products, 1);
    const products = this.floats(this.at.products, this.of.vocabulary),
      halves = (this.#halves ??= this.#halved());
    for (let token = 0; token < products.length; token++) products[token] -= halves[token];
    return /** @type {number} */ (this.run.greatest(this.at.products, this.of.vocabulary));
  }

  /** Half the squared length of each row: |x − e|² is |x|² less twice x · e − |e|²/2. */
  #halved() {
    const { hidden, vocabulary } = this.of,
      halves = new Float32Array(vocabulary);
    for (let token = 0; token < vocabulary; token++) {
      this.embed(token, this.at.row);
      const row = this.floats(this.at.row, hidden);
      for (let i = 0; i < hidden; i++) halves[token] += (row[i] * row[i]) / 2;
    }
    return halves;
  }
}
