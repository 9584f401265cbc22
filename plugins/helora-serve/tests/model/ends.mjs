// Runs both ends of a model, and what carries hidden states, for test_ends.py: a job from standard input, results to standard output.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { web, folder, states, halves, numbers, frames, draws } = JSON.parse(readFileSync(0, "utf8"));
const at = (path) => import(pathToFileURL(join(web, path)));
const [{ Ends }, floats, { frame, parts }, { drawn }] = await Promise.all(
  ["model/ends.js", "floats.js", "frames.js", "chat/sampling.js"].map(at),
);
const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
const kernels = new WebAssembly.Module(readFileSync(join(web, "model", "kernels.wasm")));
const ends = await Ends.load(manifest, kernels, async (i) => readFileSync(join(folder, manifest.pieces[i])));
const tokens = Array.from({ length: manifest.vocabulary }, (_, token) => token);
const width = manifest.hidden,
  rows = ends.rows(tokens);
const heard = floats.fromBytes(floats.toBytes(rows, "float16"), "float16");
const nearest = (all) => tokens.map((token) => ends.nearest(all.subarray(token * width, (token + 1) * width)));
const logits = states.map((state) => [Array.from(ends.logits(Float32Array.from(state))), ends.greatest()]);
const hex = (bytes) => Buffer.from(bytes).toString("hex");

process.stdout.write(
  JSON.stringify({
    rows: Array.from(rows),
    nearest: [nearest(rows), nearest(heard)],
    logits,
    whole: halves.map((bits) => String(floats.whole(bits))),
    half: numbers.map(floats.half),
    frames: frames.map(({ header, payload }) => hex(frame(header, Buffer.from(payload, "hex")))),
    parts: frames.map(({ frame: bytes }) => {
      const [header, payload] = parts(new Uint8Array(Buffer.from(bytes, "hex")));
      const plain = [...header].map(([name, value]) => [name, value instanceof Uint8Array ? hex(value) : value]);
      return [Object.fromEntries(plain), hex(payload)];
    }),
    drawn: draws.map(({ logits, how, u }) => drawn(Float32Array.from(logits), how, () => u)),
  }),
);
