// Runs both ends of a model, and what carries hidden states, for test_ends.py: a job from standard input, results to standard output.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** @type {any} */
const { web, folder, states, halves, numbers, frames, draws } = JSON.parse(readFileSync(0, "utf8"));
const at = (/** @type {string} */ path) => import(pathToFileURL(join(web, path)).href);
const [{ Ends }, floats, { frame, parts }, { drawn }] = await Promise.all(
  ["model/ends.js", "floats.js", "frames.js", "chat/sampling.js"].map(at),
);
const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
const kernels = new WebAssembly.Module(readFileSync(join(web, "model", "kernels.wasm")));
const ends = await Ends.load(manifest, kernels, async (/** @type {number} */ i) =>
  readFileSync(join(folder, manifest.pieces[i])),
);
const tokens = Array.from({ length: manifest.vocabulary }, (_, token) => token);
const width = manifest.hidden,
  rows = ends.rows(tokens);
const heard = floats.fromBytes(floats.toBytes(rows, "float16"), "float16");
const nearest = (/** @type {Float32Array} */ all) =>
  tokens.map((token) => ends.nearest(all.subarray(token * width, (token + 1) * width)));
const logits = states.map((/** @type {number[]} */ state) => [
  Array.from(ends.logits(Float32Array.from(state))),
  ends.greatest(),
]);
const hex = (/** @type {Uint8Array} */ bytes) => Buffer.from(bytes).toString("hex");

process.stdout.write(
  JSON.stringify({
    rows: Array.from(rows),
    nearest: [nearest(rows), nearest(heard)],
    logits,
    whole: halves.map((/** @type {number} */ bits) => String(floats.whole(bits))),
    half: numbers.map(floats.half),
    frames: frames.map((/** @type {any} */ { header, payload }) => hex(frame(header, Buffer.from(payload, "hex")))),
    parts: frames.map((/** @type {any} */ { frame: bytes }) => {
      const [header, payload] = parts(new Uint8Array(Buffer.from(bytes, "hex")));
      const plain = [...header].map(([name, value]) => [name, value instanceof Uint8Array ? hex(value) : value]);
      return [Object.fromEntries(plain), hex(payload)];
    }),
    drawn: draws.map((/** @type {any} */ { logits, how, u }) => drawn(Float32Array.from(logits), how, () => u)),
  }),
);
