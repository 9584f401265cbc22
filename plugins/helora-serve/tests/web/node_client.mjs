// A client in Node that is told what to do by lines of JSON, and answers with such lines.
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { setFlagsFromString } from "node:v8";
import { Client } from "../../src/helora_serve/web/client.js";
import { loadEngine } from "../../src/helora_serve/web/engine.js";
import { MemoryStore } from "../../src/helora_serve/web/store.js";
import { base64, bytes, counted, doubles } from "./random.mjs";

setFlagsFromString("--experimental-wasm-relaxed-simd");
const folder = new URL("../../src/helora_serve/web/", import.meta.url);
const read = (/** @type {string} */ name) => readFile(new URL(name, folder));
const random = counted();
const store = new MemoryStore();
/** @type {import("../../src/helora_serve/web/engine.js").Engine} */
let engine;
/** @type {Client} */
let client;
/** @type {any} */
let request;

/** @type {Record<string, (command: any) => Promise<object>>} */
const commands = {
  async load({ builds, counts }) {
    engine = await loadEngine({ read, builds, random: counts ? random : undefined });
    return { build: engine.build };
  },
  async make({ offer, up = {} }) {
    const matrices = new Map(Object.entries(up).map(([name, each]) => [name, doubles(each)]));
    client = await Client.make(engine, bytes(offer), { up: matrices, store });
    return { keys: base64(client.evaluationKeys), modules: client.modules };
  },
  async begin({ names, x, tokens, at = 0 }) {
    random.begin(at);
    request = await client.begin(names, doubles(x), tokens);
    return { message: base64(request.message) };
  },
  async prepare({ names, count }) {
    request = await client.prepare(names, count);
    return { message: base64(request.message) };
  },
  async left({ names }) {
    return { left: await client.left(names) };
  },
  async again({ offer }) {
    // as after a crash: what is in the store, and nothing else
    client = await Client.make(engine, bytes(offer), { kept: client.kept(), store });
    return {};
  },
  async receive({ answer }) {
    await request.receive(bytes(answer));
    if (!request.done) return { message: base64(request.message) };
    if (!request.deltas) return { done: true };
    return { deltas: Object.fromEntries([...request.deltas].map(([name, delta]) => [name, base64(delta)])) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...rest } = JSON.parse(line);
  let answer;
  try {
    answer = await commands[op](rest);
  } catch (caught) {
    const error = /** @type {any} */ (caught);
    answer = { error: error.code ?? String(error.stack), message: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
