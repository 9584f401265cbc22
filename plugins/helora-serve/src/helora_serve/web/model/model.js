// A model shaped like Llama, in WebAssembly: a base model that runs where the keys are.
//
// Nothing here asks anybody for anything but Δ, through the function that `forward` is given. Tokens, activations and
// the cache stay in this object's memory.

/**
 * @typedef {{name: string, rows: number, columns: number, at: number, scales_at?: number}} Tensor
 * @typedef {{
 *   hidden: number, layers: number, heads: number, kv_heads: number, head_dim: number, intermediate: number,
 *   vocabulary: number, norm_eps: number, rope_theta: number, positions: number, tied: boolean, weights: "q8" | "f32",
 *   bytes: number, piece_bytes: number, pieces: string[], tensors: Tensor[],
 * }} Manifest
 * @typedef {(names: string[], x: Float32Array, tokens: number) => Promise<Record<string, Float32Array>>} Ask
 *   Δ of modules of one input: x is (tokens, columns), each Δ (tokens, rows), row after row.
 */

const PAGE = 65536, BLOCK = 32;
/** Modules of a layer that read the same. */
const INPUTS = [
  ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"], ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"],
]; // prettier-ignore

/** More tokens than the cache has room for. */
export class ContextFull extends Error {}

/** The base model, with its weights and its cache. */
export class Model {
  /**
   * Load the weights, piece by piece.
   *
   * @param {Manifest} manifest What is loaded.
   * @param {WebAssembly.Module} kernels The compiled kernels, `kernels.wasm`.
   * @param {(index: number) => Promise<Uint8Array>} piece Gives the bytes of a piece; see `pieces.js`.
   * @param {{positions?: number, together?: number, progress?: (share: number) => void}} [options] Tokens that the cache
   *   holds; tokens that go through a layer together; told of the share that is loaded.
   * @returns {Promise<Model>}
   */
  static async load(manifest, kernels, piece, { positions = 1024, together = 64, progress = () => {} } = {}) {
    const model = new Model(manifest, kernels, Math.min(positions, manifest.positions), together);
    for (let i = 0; i < manifest.pieces.length; i++) {
      new Uint8Array(model.memory.buffer, model.weights + i * manifest.piece_bytes).set(await piece(i));
      progress((i + 1) / manifest.pieces.length);
    }
    return model;
  }

  /** Use `load`. */
  constructor(manifest, kernels, positions, together) {
    const { hidden, heads, kv_heads, head_dim, intermediate, vocabulary, layers } = manifest;
    this.of = manifest;
    this.positions = positions;
    this.together = together;
    this.length = 0;
    this.tensors = new Map(manifest.tensors.map((tensor) => [tensor.name, tensor]));
    const widest = Math.max(hidden, intermediate, heads * head_dim);
    const [query, kv] = [heads * head_dim, kv_heads * head_dim];
    const floats = {
      x: together * hidden, h: together * hidden, q: together * query, k: together * kv, v: together * kv,
      seen: together * query, out: together * hidden, gate: together * intermediate, up: together * intermediate,
      keys: layers * positions * kv, values: layers * positions * kv, scores: positions, scales: widest / BLOCK,
      cosines: (positions * head_dim) / 2, sines: (positions * head_dim) / 2, logits: vocabulary,
    };
    // The first page is the compiler's: its constants and its stack.
    let end = 16 * PAGE;
    const room = (bytes) => { const at = end; end += Math.ceil(bytes / 16) * 16; return at; };
    /** @type {Record<string, number>} Where each buffer is. */
    this.at = Object.fromEntries(Object.entries(floats).map(([name, count]) => [name, room(4 * count)]));
    this.at.integers = room(2 * widest);
    this.weights = room(manifest.bytes);
    this.memory = new WebAssembly.Memory({ initial: Math.ceil(end / PAGE) });
    /** @type {any} */
    this.run = new WebAssembly.Instance(kernels, { env: { memory: this.memory } }).exports;
    this._angles();
  }

  /** Modules of one input, together, in the order in which they are asked for. @param {Set<string>} adapted */
  groups(adapted) {
    const layers = Array.from({ length: this.of.layers }, (_, layer) => INPUTS.map((names) => names.map((name) => `model.layers.${layer}.${name}`)));
    return layers.flat().map((names) => names.filter((name) => adapted.has(name))).filter((names) => names.length);
  }

  /** Forget all tokens. */
  reset() { this.length = 0; }

  /** Forget tokens from a position on. */
  rewind(length) { this.length = Math.min(this.length, length); }

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
    const { hidden, vocabulary, tied, norm_eps } = this.of, last = (tokens.length - 1) % this.together;
    this.run.rms_norm(this.at.h, this.at.x + 4 * last * hidden, this._place("norm"), hidden, norm_eps);
    this._multiply(tied ? "embed" : "head", this.at.h, this.at.logits, 1);
    return this._floats(this.at.logits, vocabulary);
  }

  /** The token of the greatest of the last logits. */
  greatest() { return this.run.greatest(this.at.logits, this.of.vocabulary); }

  async _chunk(tokens, adapted, ask) {
    const { hidden, intermediate, heads, kv_heads, head_dim, layers } = this.of, { at, run } = this, count = tokens.length;
    if (this.length + count > this.positions) {
      throw new ContextFull(`${this.length} tokens are in the cache of ${this.positions}, and ${count} more do not fit`);
    }
    const [query, kv] = [heads * head_dim, kv_heads * head_dim];
    tokens.forEach((token, t) => this._embed(token, at.x + 4 * t * hidden));
    for (let layer = 0; layer < layers; layer++) {
      const of = (name) => `layers.${layer}.${name}`, full = (name) => `model.${of(name)}`;
      const project = (names, from, outs, columns) => this._project(names.map(full), adapted, ask, from, outs, columns, count);
      this._norms(of("input_layernorm"), count);
      await project(INPUTS[0], at.h, [at.q, at.k, at.v], hidden);
      const cache = 4 * layer * this.positions * kv;
      for (let t = 0; t < count; t++) {
        const position = this.length + t, turn = 4 * position * (head_dim / 2);
        run.rotate(at.q + 4 * t * query, heads, head_dim, at.cosines + turn, at.sines + turn);
        run.rotate(at.k + 4 * t * kv, kv_heads, head_dim, at.cosines + turn, at.sines + turn);
        this._floats(at.keys + cache + 4 * position * kv, kv).set(this._floats(at.k + 4 * t * kv, kv));
        this._floats(at.values + cache + 4 * position * kv, kv).set(this._floats(at.v + 4 * t * kv, kv));
        run.attention(at.seen + 4 * t * query, at.q + 4 * t * query, at.keys + cache, at.values + cache, at.scores,
          position + 1, heads, kv_heads, head_dim);
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

  /** Products of modules of one input, and the Δ of those that have one. */
  async _project(names, adapted, ask, from, outs, columns, count) {
    const wanted = names.filter((name) => adapted.has(name));
    // Asked before anything is computed, so that both sides work at once.
    const asked = wanted.length ? ask(wanted, this._floats(from, count * columns).slice(), count) : null;
    names.forEach((name, i) => this._multiply(name.replace(/^model\./, ""), from, outs[i], count));
    if (!asked) return;
    const deltas = await asked;
    for (const name of wanted) {
      const delta = deltas[name], out = outs[names.indexOf(name)], rows = this.tensors.get(name.replace(/^model\./, "")).rows;
      if (delta?.length !== count * rows) throw new Error(`${name} got no Δ of ${count} × ${rows}`);
      const sum = this._floats(out, delta.length);
      for (let i = 0; i < sum.length; i++) sum[i] += delta[i];
    }
  }

  _multiply(name, from, to, count) {
    const { rows, columns } = this.tensors.get(name), place = this._place(name), { at, run } = this;
    for (let t = 0; t < count; t++) {
      const [x, out] = [from + 4 * t * columns, to + 4 * t * rows];
      if (this.of.weights === "f32") {
        run.matvec_f32(out, rows, columns, place, x);
      } else {
        run.quantize(at.integers, at.scales, x, columns);
        run.matvec_q8(out, rows, columns, place, this._scales(name), at.integers, at.scales);
      }
    }
  }

  _embed(token, to) {
    const { hidden, vocabulary } = this.of, place = this._place("embed");
    if (!(token >= 0 && token < vocabulary)) throw new RangeError(`no token has the number ${token}`);
    if (this.of.weights === "f32") {
      this._floats(to, hidden).set(this._floats(place + 4 * token * hidden, hidden));
    } else {
      this.run.row_q8(to, place + token * hidden, this._scales("embed") + 4 * token * (hidden / BLOCK), hidden);
    }
  }

  _norms(name, count) {
    const { hidden, norm_eps } = this.of;
    for (let t = 0; t < count; t++) {
      this.run.rms_norm(this.at.h + 4 * t * hidden, this.at.x + 4 * t * hidden, this._place(name), hidden, norm_eps);
    }
  }

  _angles() {
    const { head_dim, rope_theta } = this.of, half = head_dim / 2;
    const cosines = this._floats(this.at.cosines, this.positions * half), sines = this._floats(this.at.sines, this.positions * half);
    for (let i = 0; i < half; i++) {
      const step = rope_theta ** (-i / half);
      for (let position = 0; position < this.positions; position++) {
        cosines[position * half + i] = Math.cos(position * step);
        sines[position * half + i] = Math.sin(position * step);
      }
    }
  }

  _place(name) { return this.weights + this.tensors.get(name).at; }

  _scales(name) { return this.weights + this.tensors.get(name).scales_at; }

  _floats(at, count) { return new Float32Array(this.memory.buffer, at, count); }
}
