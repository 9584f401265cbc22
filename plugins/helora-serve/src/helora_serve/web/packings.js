// @ts-check
/**
 * Where a packing puts the numbers of x, and where it leaves those of Δ: the client's half of helora_core.packing.
 *
 * Matrices are row-major Float64Arrays; a layout packs up to `tokensPerRun` tokens.
 */

import { EngineError } from "./wasm.js";

/** @typedef {{ d_in: number, d_out: number, rank: number }} Shape */
/** @typedef {"slots" | "coefficients" | "words"} Encoding */
/**
 * @typedef {object} Layout
 * @property {Encoding} encoding
 * @property {number} tokensPerRun
 * @property {number[]} inputs the vectors that are packed
 * @property {number} results ciphertexts of Δ, or of z if the client finishes
 * @property {number[]} steps by which the server rotates
 * @property {string} placing what plans have in common that take the same ciphertexts
 * @property {(x: Float64Array, tokens: number) => Float64Array[]} pack
 * @property {(outputs: Float64Array[], tokens: number, up?: Float64Array) => Float64Array} unpack
 * @property {{ masked: number, moves: [number, number, number][] }} [answer] masked values, and where each number goes
 */

const MOST_COEFFICIENTS = 2 ** 27;

/** @param {number} width @param {number} period */
const blocks = (width, period) => Math.ceil(width / period);

/** @param {number} count */
const range = (count) => Array.from({ length: count }, (_, i) => i);

/** @param {any} recipe @returns {Layout} */
export function layoutOf(recipe) {
  const make = { rank_bsgs: rankBsgs, cheetah, cheetah_two_round: cheetahTwoRound, precomputed }[
    /** @type {string} */ (recipe.packing)
  ];
  if (!make) throw new EngineError("packing-unavailable", `Packing ${recipe.packing} is not known here.`);
  return make(recipe);
}

/** Tokens interleaved in slots: feature f of token t is in slot f·T + t. @param {any} recipe @returns {Layout} */
function rankBsgs({ shape, layout, settings }) {
  const { period, padded_rank: rank, baby_steps_down: down, baby_steps_up: up } = layout;
  const slots = settings.params.ring_degree / 2,
    tokensPerRun = slots / period;
  /** @type {Set<number>} */
  const features = new Set();
  for (const babies of [down, up]) {
    for (let baby = 1; baby < babies; baby++) features.add(baby);
    for (let giant = babies; giant < rank; giant += babies) features.add(giant);
  }
  let distance = rank;
  for (const radix of String(layout.fold_radices || "")
    .split("")
    .map(Number)) {
    for (let j = 1; j < radix; j++) features.add(j * distance);
    distance *= radix;
  }
  if (!Number.isInteger(tokensPerRun) || distance !== period) throw impossible("its period is not that of its folds");
  return {
    encoding: "slots",
    tokensPerRun,
    inputs: range(blocks(shape.d_in, period)),
    results: blocks(shape.d_out, period),
    steps: [...features].map((each) => each * tokensPerRun).sort((a, b) => a - b),
    placing: `slots ${period}`,
    pack: (x, tokens) =>
      Array.from({ length: blocks(shape.d_in, period) }, (_, block) => {
        const out = new Float64Array(slots);
        for (let f = 0; f < Math.min(period, shape.d_in - block * period); f++)
          for (let t = 0; t < tokens; t++) out[f * tokensPerRun + t] = x[t * shape.d_in + block * period + f];
        return out;
      }),
    unpack: (outputs, tokens) => {
      const delta = new Float64Array(tokens * shape.d_out);
      for (let o = 0; o < shape.d_out; o++)
        for (let t = 0; t < tokens; t++)
          delta[t * shape.d_out + o] = outputs[Math.floor(o / period)][(o % period) * tokensPerRun + t];
      return delta;
    },
  };
}

/** Inner products by reversed rows. */
class InnerProducts {
  /**
   * @param {number} height
   * @param {number} columns
   * @param {number} width
   * @param {number} rows
   * @param {number} tokens
   */
  constructor(height, columns, width, rows, tokens) {
    this.height = height;
    this.columns = columns;
    this.width = width;
    this.rows = rows;
    this.tokens = tokens;
    this.blocks = blocks(columns, width);
    this.groups = blocks(height, rows);
  }

  /** @param {Float64Array} x @param {number} tokens */
  pack(x, tokens) {
    const spaced = this.rows * this.width;
    return Array.from({ length: this.blocks }, (_, block) => {
      const out = new Float64Array(tokens * spaced);
      const start = block * this.width,
        end = Math.min(start + this.width, this.columns);
      for (let t = 0; t < tokens; t++)
        out.set(x.subarray(t * this.columns + start, t * this.columns + end), t * spaced);
      return out;
    });
  }

  /** The group and the coefficient of each number of z, token by token. @param {number} token @param {number} row */
  place(token, row) {
    const group = Math.floor(row / this.rows);
    return [group, (token * this.rows + (row % this.rows)) * this.width + this.width - 1];
  }

  /** @param {Float64Array[]} outputs @param {number} tokens */
  unpack(outputs, tokens) {
    const z = new Float64Array(tokens * this.height);
    for (let t = 0; t < tokens; t++)
      for (let row = 0; row < this.height; row++) {
        const [group, at] = this.place(t, row);
        z[t * this.height + row] = outputs[group][at];
      }
    return z;
  }
}

/** @param {number} height @param {number} columns @param {number} n @param {number} tokens */
function* splits(height, columns, n, tokens) {
  for (let rows = Math.min(height, Math.floor(n / tokens)); rows; rows--) {
    rows = blocks(height, blocks(height, rows));
    yield new InnerProducts(
      height,
      columns,
      blocks(columns, blocks(columns, Math.floor(n / (rows * tokens)))),
      rows,
      tokens,
    );
  }
}

/** Numbers of tokens that may run together. @param {number} tokens @param {number} most */
function together(tokens, most = tokens) {
  const found = Array.from({ length: 32 - Math.clz32(most) + 1 }, (_, exponent) => Math.min(2 ** exponent, most));
  return [...new Set(found)].sort((a, b) => a - b);
}

/** @template T @param {T[]} all @param {(each: T) => number} cost @returns {T} */
const least = (all, cost) => all.reduce((best, each) => (cost(each) < cost(best) ? each : best));

/**
 * The figures that a recipe states are those of one of these.
 * @template T
 * @param {any} recipe
 * @param {T[]} found
 * @param {(each: T) => Record<string, number>} figures
 * @returns {T}
 */
function stated(recipe, found, figures) {
  const wanted = JSON.stringify(Object.entries(recipe.layout).sort());
  const match = found.find((each) => JSON.stringify(Object.entries(figures(each)).sort()) === wanted);
  if (!match) throw impossible("the packing makes no layout with its figures");
  return match;
}

/** @param {string} what */
const impossible = (what) => new EngineError("corrupt-payload", `The offer holds an impossible plan: ${what}.`);

/** z in coefficients; the client applies `up`. @param {any} recipe @returns {Layout} */
function cheetah(recipe) {
  const { shape, costs } = recipe,
    n = recipe.settings.params.ring_degree,
    tokens = recipe.tokens ?? 1;
  const candidates = together(tokens)
    .flatMap((perRun) => [...splits(shape.rank, shape.d_in, n, perRun)])
    .filter((each) => each.tokens === 1 || each.blocks * each.groups * n <= MOST_COEFFICIENTS);
  const cheapest = [costs.decrypt, costs.decrypt + costs.sanitize].map((forEach) =>
    least(candidates, ({ blocks: b, groups: g, tokens: t }) => {
      const work = b * g * (costs.multiply_plain + costs.add);
      return blocks(tokens, t) * (work + (b * costs.encrypt + g * forEach) + costs.round_trip);
    }),
  );
  const products = stated(recipe, cheapest, (each) => ({
    width: each.width,
    blocks: each.blocks,
    rows: each.rows,
    ciphertexts_down: each.groups,
  }));
  return {
    encoding: "coefficients",
    tokensPerRun: products.tokens,
    inputs: range(products.blocks),
    results: products.groups,
    steps: [],
    placing: `coefficients ${products.width} ${products.rows} ${products.tokens}`,
    pack: (x, count) => products.pack(x, count),
    unpack: (outputs, count, up) => {
      if (!up)
        throw new EngineError("leakage-refused", "Packing cheetah: the client applies up, and was not given it.");
      const z = products.unpack(outputs, count),
        delta = new Float64Array(count * shape.d_out);
      for (let t = 0; t < count; t++)
        for (let o = 0; o < shape.d_out; o++) {
          let sum = 0;
          for (let k = 0; k < shape.rank; k++) sum += up[o * shape.rank + k] * z[t * shape.rank + k];
          delta[t * shape.d_out + o] = sum;
        }
      return delta;
    },
  };
}

/** Two products with a masked z between them. @param {any} recipe @returns {Layout} */
function cheetahTwoRound(recipe) {
  const { shape, costs } = recipe,
    n = recipe.settings.params.ring_degree,
    tokens = recipe.tokens ?? 1;
  const candidates = together(tokens, Math.min(tokens, Math.floor(n / shape.rank))).flatMap((perRun) => {
    const rows = blocks(shape.d_out, blocks(shape.d_out, Math.floor(n / (shape.rank * perRun))));
    const up = new InnerProducts(shape.d_out, shape.rank, shape.rank, rows, perRun);
    return [...splits(shape.rank, shape.d_in, n, perRun)]
      .filter((down) => perRun === 1 || (down.blocks * down.groups + up.groups) * n <= MOST_COEFFICIENTS)
      .map((down) => ({ down, up }));
  });
  const cheapest = [costs.decrypt, costs.decrypt + costs.sanitize].map((forEach) =>
    least(candidates, ({ down, up }) => {
      const work = (down.blocks * down.groups + up.groups) * (costs.multiply_plain + costs.add);
      const there = (down.blocks + 1) * costs.encrypt + 2 * costs.round_trip;
      const back = down.groups * (costs.rescale + costs.sanitize + costs.decrypt) + up.groups * forEach;
      return blocks(tokens, down.tokens) * (work + there + back);
    }),
  );
  const { down, up } = stated(recipe, cheapest, (each) => ({
    width: each.down.width,
    blocks: each.down.blocks,
    rows: each.down.rows,
    masked_ciphertexts: each.down.groups,
    rows_out: each.up.rows,
    blocks_out: each.up.groups,
  }));
  /**
   * Where each masked number goes: its ciphertext, its coefficient, and its coefficient in the answer.
   * @type {[number, number, number][]}
   */
  const moves = [];
  for (let t = 0; t < down.tokens; t++)
    for (let row = 0; row < shape.rank; row++) {
      const [group, at] = down.place(t, row);
      moves.push([group, at, t * up.rows * up.width + row]);
    }
  return {
    encoding: "coefficients",
    tokensPerRun: down.tokens,
    inputs: range(down.blocks),
    results: up.groups,
    steps: [],
    placing: `coefficients ${down.width} ${down.rows} ${down.tokens}`,
    pack: (x, count) => down.pack(x, count),
    unpack: (outputs, count) => up.unpack(outputs, count),
    answer: { masked: down.groups, moves },
  };
}

/** Numbers under pads: what is made ahead of time is preparation.js's. @param {any} recipe @returns {Layout} */
function precomputed({ shape, settings }) {
  const unused = () => {
    throw new EngineError("invalid-input", "What is precomputed is not packed.");
  };
  return {
    encoding: "words",
    tokensPerRun: settings.params.ring_degree,
    inputs: range(shape.d_in),
    results: shape.d_out,
    steps: [],
    placing: `words ${settings.low_bits} ${settings.scales.down_bits}`,
    pack: unused,
    unpack: unused,
  };
}
