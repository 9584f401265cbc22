// @ts-check
/** A base model's tensors in a memory of WebAssembly, with room beside them, and the products that read them. */

/** @typedef {{ name: string, rows: number, columns: number, at: number, scales_at?: number }} Tensor */
/**
 * @typedef {{
 *   name: string, source: string, weights: "q8" | "f32", hidden: number, layers: number, heads: number, kv_heads: number,
 *   head_dim: number, intermediate: number, vocabulary: number, norm_eps: number, rope_theta: number,
 *   positions: number, tied: boolean, ends: number[], chat_template: string, tokenizer: string,
 *   tokenizer_config: string, bytes: number, piece_bytes: number, pieces: string[], tensors: Tensor[],
 * }} Manifest
 * @typedef {(index: number) => Promise<Uint8Array>} Piece Gives the bytes of a piece; see `pieces.js`.
 */

const PAGE = 65536,
  BLOCK = 32;

export class Weights {
  /**
   * @param {Manifest} manifest What is loaded.
   * @param {WebAssembly.Module} kernels The compiled kernels, `kernels.wasm`.
   * @param {Record<string, number>} floats How many numbers each buffer beside the tensors holds.
   */
  constructor(manifest, kernels, floats) {
    this.of = manifest;
    this.tensors = new Map(manifest.tensors.map((tensor) => [tensor.name, tensor]));
    const widest = Math.max(...manifest.tensors.map(({ columns }) => columns));
    // The first page is the compiler's: its constants and its stack.
    let end = 16 * PAGE;
    const room = (/** @type {number} */ bytes) => {
      const at = end;
      end += Math.ceil(bytes / 16) * 16;
      return at;
    };
    /** @type {Record<string, number>} Where each buffer is. */
    this.at = {};
    for (const [name, count] of Object.entries({ ...floats, scales: widest / BLOCK })) this.at[name] = room(4 * count);
    this.at.integers = room(2 * widest);
    this.start = room(manifest.bytes);
    this.memory = new WebAssembly.Memory({ initial: Math.ceil(end / PAGE) });
    /** @type {any} */
    this.run = new WebAssembly.Instance(kernels, { env: { memory: this.memory } }).exports;
  }

  /**
   * Load the tensors, piece by piece.
   * @param {Piece} piece
   * @param {(share: number) => void} progress told of the share that is loaded
   */
  async fill(piece, progress = () => {}) {
    const { pieces, piece_bytes } = this.of;
    for (let i = 0; i < pieces.length; i++) {
      new Uint8Array(this.memory.buffer, this.start + i * piece_bytes).set(await piece(i));
      progress((i + 1) / pieces.length);
    }
  }

  /** @param {string} name @returns {Tensor} */
  tensor(name) {
    const found = this.tensors.get(name);
    if (!found) throw new RangeError(`the base model has no ${name}`);
    return found;
  }

  /** Where a tensor's numbers are. @param {string} name */
  place(name) {
    return this.start + this.tensor(name).at;
  }

  /** Where the scales of its blocks are. @param {string} name */
  scales(name) {
    return this.start + (this.tensor(name).scales_at ?? 0);
  }

  /**
   * Products of a matrix with vectors, one after another.
   * @param {string} name
   * @param {number} from
   * @param {number} to
   * @param {number} count
   */
  multiply(name, from, to, count) {
    const { rows, columns } = this.tensor(name),
      place = this.place(name),
      { at, run } = this;
    for (let t = 0; t < count; t++) {
      const [x, out] = [from + 4 * t * columns, to + 4 * t * rows];
      if (this.of.weights === "f32") {
        run.matvec_f32(out, rows, columns, place, x);
      } else {
        run.quantize(at.integers, at.scales, x, columns);
        run.matvec_q8(out, rows, columns, place, this.scales(name), at.integers, at.scales);
      }
    }
  }

  /** A token's row of the embedding. @param {number} token @param {number} to */
  embed(token, to) {
    const { hidden, vocabulary } = this.of,
      place = this.place("embed");
    if (!(token >= 0 && token < vocabulary)) throw new RangeError(`no token has the number ${token}`);
    if (this.of.weights === "f32") {
      this.floats(to, hidden).set(this.floats(place + 4 * token * hidden, hidden));
    } else {
      this.run.row_q8(to, place + token * hidden, this.scales("embed") + 4 * token * (hidden / BLOCK), hidden);
    }
  }

  /** Numbers where they lie: valid until they are written over. @param {number} at @param {number} count */
  floats(at, count) {
    return new Float32Array(this.memory.buffer, at, count);
  }
}
