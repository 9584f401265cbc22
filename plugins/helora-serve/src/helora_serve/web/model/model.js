// @ts-check
/**
 * A model shaped like Llama, in WebAssembly: a base model that runs where the keys are.
 *
 * Nothing here asks anybody for anything but Δ, through the function that `forward` is given. Tokens, activations and
 * the cache stay in this object's memory.
 */

import { Weights } from "./weights.js";

/** @typedef {import("./weights.js").Manifest} Manifest */
/**
 * @typedef {(names: string[], x: Float32Array, tokens: number) => Promise<Record<string, Float32Array>>} Ask
 *   Δ of modules of one input: x is (tokens, columns), each Δ (tokens, rows), row after row.
 */

/** Modules of a layer that read the same. */
const INPUTS = [
  ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
  ["self_attn.o_proj"],
  ["mlp.gate_proj", "mlp.up_proj"],
  ["mlp.down_proj"],
];

/** More tokens than the cache has room for. */
export class ContextFull extends Error {}

/** The base model, with its weights and its cache. */
export class Model extends Weights {
  /**
   * Load the weights, piece by piece.
   *
   * @param {Manifest} manifest What is loaded.
   * @param {WebAssembly.Module} kernels The compiled kernels, `kernels.wasm`.
   * @param {import("./weights.js").Piece} piece Gives the bytes of a piece; see `pieces.js`.
   * @param {{positions?: number, together?: number, progress?: (share: number) => void}} [options] Tokens that the
   *   cache
   *   holds; tokens that go through a layer together; told of the share that is loaded.
   * @returns {Promise<Model>}
   */
  static async load(manifest, kernels, piece, { positions = 1024, together = 64, progress = () => {} } = {}) {
    const model = new Model(manifest, kernels, Math.min(positions, manifest.positions), together);
    await model.fill(piece, progress);
    return model;
  }

  /**
   * Use `load`.
   * @param {Manifest} manifest
   * @param {WebAssembly.Module} kernels
   * @param {number} positions
   * @param {number} together
   */
  constructor(manifest, kernels, positions, together) {
    const { hidden, heads, kv_heads, head_dim, intermediate, vocabulary, layers } = manifest;
    const [query, kv] = [heads * head_dim, kv_heads * head_dim];
    super(manifest, kernels, {
      x: together * hidden,
      h: together * hidden,
      q: together * query,
      k: together * kv,
      v: together * kv,
      seen: together * query,
      out: together * hidden,
      gate: together * intermediate,
      up: together * intermediate,
      keys: layers * positions * kv,
      values: layers * positions * kv,
      scores: positions,
      cosines: (positions * head_dim) / 2,
      sines: (positions * head_dim) / 2,
      logits: vocabulary,
    });
    this.positions = positions;
    this.together = together;
    this.length = 0;
    this._angles();
  }

  /** Modules of one input, together, in the order in which they are asked for. @param {Set<string>} adapted */
  groups(adapted) {
    const layers = Array.from({ length: this.of.layers }, (_, layer) =>
      INPUTS.map((names) => names.map((name) => `model.layers.${layer}.${name}`)),
    );
    return layers
      .flat()
      .map((names) => names.filter((name) => adapted.has(name)))
      .filter((names) => names.length);
  }

  /** Forget all tokens. */
  reset() {
    this.length = 0;
  }

  /** Forget tokens from a position on. @param {number} length */
  rewind(length) {
    this.length = Math.min(this.length, length);
  }

  /**
   * Run tokens after those that are in the cache.
   *
   * @param {ArrayLike<number>} tokens One or more.
   * @param {Set<string>} adapted Modules that get a Δ, by their names.
   * @param {Ask} ask Gives it. If it fails, so does this, and the cache is as it was before.
   * @returns {Promise<Float32Array>} Logits of the last token; valid until the next call.
   */
  async forward(tokens, adapted, ask) {
    const before = this.length;
    try {
      for (let i = 0; i < tokens.length; i += this.together) {
        await this._chunk(Array.from(tokens).slice(i, i + this.together), adapted, ask);
      }
    } catch (error) {
      this.length = before;
      throw error;
    }
    const { hidden, vocabulary, tied, norm_eps } = this.of,
      last = (tokens.length - 1) % this.together;
    this.run.rms_norm(this.at.h, this.at.x + 4 * last * hidden, this.place("norm"), hidden, norm_eps);
    this.multiply(tied ? "embed" : "head", this.at.h, this.at.logits, 1);
    return this.floats(this.at.logits, vocabulary);
  }

  /** The token of the greatest of the last logits. */
  greatest() {
    return this.run.greatest(this.at.logits, this.of.vocabulary);
  }

  /** @param {number[]} tokens @param {Set<string>} adapted @param {Ask} ask */
  async _chunk(tokens, adapted, ask) {
    const { hidden, intermediate, heads, kv_heads, head_dim, layers } = this.of,
      { at, run } = this,
      count = tokens.length;
    if (this.length + count > this.positions) {
      throw new ContextFull(
        `${this.length} tokens are in the cache of ${this.positions}, and ${count} more do not fit`,
      );
    }
    const [query, kv] = [heads * head_dim, kv_heads * head_dim];
    tokens.forEach((token, t) => this.embed(token, at.x + 4 * t * hidden));
    for (let layer = 0; layer < layers; layer++) {
      const of = (/** @type {string} */ name) => `layers.${layer}.${name}`,
        full = (/** @type {string} */ name) => `model.${of(name)}`;
      const project = (
        /** @type {string[]} */ names,
        /** @type {number} */ from,
        /** @type {number[]} */ outs,
        /** @type {number} */ columns,
      ) => this._project(names.map(full), adapted, ask, from, outs, columns, count);
      this._norms(of("input_layernorm"), count);
      await project(INPUTS[0], at.h, [at.q, at.k, at.v], hidden);
      const cache = 4 * layer * this.positions * kv;
      for (let t = 0; t < count; t++) {
        const position = this.length + t,
          turn = 4 * position * (head_dim / 2);
        run.rotate(at.q + 4 * t * query, heads, head_dim, at.cosines + turn, at.sines + turn);
        run.rotate(at.k + 4 * t * kv, kv_heads, head_dim, at.cosines + turn, at.sines + turn);
        this.floats(at.keys + cache + 4 * position * kv, kv).set(this.floats(at.k + 4 * t * kv, kv));
        this.floats(at.values + cache + 4 * position * kv, kv).set(this.floats(at.v + 4 * t * kv, kv));
        run.attention(
          at.seen + 4 * t * query,
          at.q + 4 * t * query,
          at.keys + cache,
          at.values + cache,
          at.scores,
          position + 1,
          heads,
          kv_heads,
          head_dim,
        );
      }
      await project(INPUTS[1], at.seen, [at.out], query);
      run.add(at.x, at.out, count * hidden);
      this._norms(of("post_attention_layernorm"), count);
      await project(INPUTS[2], at.h, [at.gate, at.up], hidden);
      run.gated(at.gate, at.up, count * intermediate);
      await project(INPUTS[3], at.gate, [at.out], intermediate);
      run.add(at.x, at.out, count * hidden);
    }
    this.length += count;
  }

  /**
   * Products of modules of one input, and the Δ of those that have one.
   * @param {string[]} names @param {Set<string>} adapted @param {Ask} ask @param {number} from @param {number[]} outs
   * @param {number} columns @param {number} count
   */
  async _project(names, adapted, ask, from, outs, columns, count) {
    const wanted = names.filter((name) => adapted.has(name));
    // Asked before anything is computed, so that both sides work at once.
    const asked = wanted.length ? ask(wanted, this.floats(from, count * columns).slice(), count) : null;
    names.forEach((name, i) => this.multiply(name.replace(/^model\./, ""), from, outs[i], count));
    if (!asked) return;
    const deltas = await asked;
    for (const name of wanted) {
      const delta = deltas[name],
        out = outs[names.indexOf(name)],
        rows = this.tensor(name.replace(/^model\./, "")).rows;
      if (delta?.length !== count * rows) throw new Error(`${name} got no Δ of ${count} × ${rows}`);
      const sum = this.floats(out, delta.length);
      for (let i = 0; i < sum.length; i++) sum[i] += delta[i];
    }
  }

  /** @param {string} name @param {number} count */
  _norms(name, count) {
    const { hidden, norm_eps } = this.of;
    for (let t = 0; t < count; t++) {
      this.run.rms_norm(this.at.h + 4 * t * hidden, this.at.x + 4 * t * hidden, this.place(name), hidden, norm_eps);
    }
  }

  _angles() {
    const { head_dim, rope_theta } = this.of,
      half = head_dim / 2;
    const cosines = this.floats(this.at.cosines, this.positions * half),
      sines = this.floats(this.at.sines, this.positions * half);
    for (let i = 0; i < half; i++) {
      const step = rope_theta ** (-i / half);
      for (let position = 0; position < this.positions; position++) {
        cosines[position * half + i] = Math.cos(position * step);
        sines[position * half + i] = Math.sin(position * step);
      }
    }
  }
}
