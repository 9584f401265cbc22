// Runs one job of the engine in Node: `node node_engine.mjs JOB.json`. Bytes are base64, random bytes are as the tests
// make them, or the platform's.
import { readFile } from "node:fs/promises";
import { setFlagsFromString } from "node:v8";
import { BatchKey, wordParameters } from "../../src/helora_serve/web/correlations.js";
import { loadEngine } from "../../src/helora_serve/web/engine.js";
import { base64, bytes, counted, doubles } from "./random.mjs";
import { Stream } from "../../src/helora_serve/web/ring.js";

const job = JSON.parse(await readFile(process.argv[2], "utf8"));
if (job.relaxed) setFlagsFromString("--experimental-wasm-relaxed-simd"); // which newer ones have without it
const folder = new URL("../../src/helora_serve/web/", import.meta.url);
const read = (/** @type {string} */ name) => readFile(new URL(name, folder));
const parameters = (/** @type {{ n: number, data: number[], special: number[] }} */ { n, data, special }) => ({
  ringDegree: n,
  dataPrimes: data.map(BigInt),
  specialPrimes: special.map(BigInt),
});

const engine = await loadEngine({ read, builds: job.builds, random: job.random ? undefined : counted() });
/** @type {Record<string, any>} */
const out = { build: engine.build };
if (job.stream) {
  const { machine } = engine;
  out.stream = machine.scratch((take) => {
    const stream = new Stream(machine, bytes(job.stream.seed), take, bytes(job.stream.nonce));
    return job.stream.counts.map((/** @type {number} */ count) =>
      base64(machine.bytes(stream.words(count), 8 * count)),
    );
  });
}
if (job.rows) {
  const ring = await engine.ring(parameters(job.rows)),
    { machine, call, row } = ring,
    all = ring.primes.length;
  out.rows = machine.scratch((take) => {
    const at = take(row * all),
      product = take(row * all),
      doubles = take(row),
      spare = take((2 + all) * row);
    machine.bytes(at, row * all).set(bytes(job.rows.given));
    call.hr_forward(ring.ring, ring.basis, all, 1, at);
    const forward = base64(machine.bytes(at, row * all));
    call.hr_multiply(ring.ring, ring.basis, all, 1, 1, product, at, at);
    call.hr_inverse(ring.ring, ring.basis, all, 1, product);
    const square = base64(machine.bytes(product, row * all));
    call.hr_to_doubles(ring.ring, ring.basis, all, doubles, product, spare);
    return [forward, square, base64(machine.bytes(doubles, row))];
  });
}
if (job.batch) {
  const { n, bits, count, opened, top, key: keyBits } = job.batch;
  const ring = await engine.ring(
    wordParameters({ ring_degree: n, data_bits: bits, special_bits: [], scale_bits: 0, wrap_bits: 64 }),
  );
  const key = await BatchKey.make(ring, bytes(job.batch.nonces)),
    numbers = bytes(job.batch.numbers);
  const upload = key.encrypt(count, (row, at) =>
    ring.machine.bytes(at, ring.row).set(numbers.subarray(row * ring.row, (row + 1) * ring.row)),
  );
  const found = key.decrypt(bytes(job.batch.results), opened, top, keyBits);
  const at = key.minus,
    size = ring.row * ring.primes.length;
  key.erase();
  const erased = !ring.machine.bytes(at, size).some((byte) => byte);
  out.batch = { publicKey: base64(key.publicKey), upload: base64(upload), numbers: base64(found), erased };
}
if (job.keys) {
  const keys = await engine.generateKeys(parameters(job.keys), { steps: job.keys.steps, publicKey: job.keys.public });
  out.keys = base64(keys.evaluationKeys);
  out.encrypted = (job.encrypt ?? []).map((/** @type {any} */ { values, scale, encoding }) =>
    base64(keys.encrypt(doubles(values), scale, encoding)),
  );
  out.decrypted = (job.decrypt ?? []).map((/** @type {any} */ { payload, encoding, lowBits }) => {
    try {
      return base64(keys.decrypt(bytes(payload), encoding, lowBits));
    } catch (error) {
      return { refused: /** @type {any} */ (error).code ?? String(error) };
    }
  });
  const before = engine.machine.bytes(keys.secret, keys.secretBytes).some((byte) => byte);
  const { secret, secretBytes, minus, minusBytes } = keys;
  keys.wipe();
  const left = [
    [secret, secretBytes],
    [minus, minusBytes],
  ].some(([at, size]) => engine.machine.bytes(at, size).some((byte) => byte));
  out.wiped = before && !left && keys.seed.every((byte) => !byte);
}
process.stdout.write(JSON.stringify(out));
