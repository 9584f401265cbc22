// Runs the base model for test_model.py: a list of steps from standard input, and what each gave to standard output.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { web, folder, together, positions, steps } = JSON.parse(readFileSync(0, "utf8"));
const { Model } = await import(pathToFileURL(join(web, "model.js")).href);
const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
const kernels = new WebAssembly.Module(readFileSync(join(web, "kernels.wasm")));
const model = await Model.load(
  manifest,
  kernels,
  async (/** @type {number} */ i) => readFileSync(join(folder, manifest.pieces[i])),
  {
    together,
    positions,
  },
);
const results = [];
for (const { tokens, matrices = {}, fails = false, rewind } of steps) {
  if (rewind !== undefined) model.rewind(rewind);
  /** @type {[string[], number][]} */
  const asked = [];
  /** @type {import("../../src/helora_serve/web/model/model.js").Ask} */
  const ask = async (names, x, count) => {
    asked.push([names, x.length / count]);
    if (fails) throw new Error("no Δ");
    return Object.fromEntries(names.map((name) => [name, product(matrices[name], x, count)]));
  };
  try {
    const logits = await model.forward(tokens, new Set(Object.keys(matrices)), ask);
    results.push({ logits: Array.from(logits), greatest: model.greatest(), length: model.length, asked });
  } catch (caught) {
    const error = /** @type {Error} */ (caught);
    results.push({ error: `${error.constructor.name}: ${error.message}`, length: model.length });
  }
}
process.stdout.write(JSON.stringify(results));

/** @param {number[][]} matrix @param {Float32Array} x @param {number} count */
function product(matrix, x, count) {
  const columns = matrix[0].length,
    out = new Float32Array(count * matrix.length);
  for (let t = 0; t < count; t++)
    matrix.forEach((row, i) => {
      out[t * matrix.length + i] = row.reduce((sum, weight, k) => sum + weight * x[t * columns + k], 0);
    });
  return out;
}
