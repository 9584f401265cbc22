// Times the client's steps, the least of many runs each: `node bench.mjs [BUILD]` prints CPU time in microseconds. A
// page imports it too, and calls `measure` with a clock of its own.

/** @type {{ name: string, n: number, bits: number[], special: number[], encoding: "slots" | "coefficients" }[]} */
const CASES = [
  { name: "slots, N=8192, three limbs", n: 8192, bits: [42, 40, 40], special: [43], encoding: "slots" },
  { name: "coefficients, N=2048, one limb", n: 2048, bits: [50], special: [], encoding: "coefficients" },
];

/**
 * @param {object} how
 * @param {typeof import("../../src/helora_serve/web/engine.js").loadEngine} how.loadEngine
 * @param {typeof import("../../src/helora_serve/web/primes.js").nttPrimes} how.nttPrimes
 * @param {typeof import("../../src/helora_serve/web/fields.js")} how.fields
 * @param {string[]} how.builds to try
 * @param {(name: string) => Promise<BufferSource>} how.read gives a build's bytes
 * @param {() => number} how.clock in microseconds
 * @param {number} [how.seconds] of each step
 */
export async function measure({ loadEngine, nttPrimes, fields, builds, read, clock, seconds = 1 }) {
  const engine = await loadEngine({ builds, read });
  const least = (/** @type {() => unknown} */ body) => {
    body();
    let best = Infinity;
    for (const until = Date.now() + 1000 * seconds; Date.now() < until; ) {
      const start = clock();
      for (let i = 0; i < 8; i++) body();
      best = Math.min(best, (clock() - start) / 8);
    }
    return Math.round(best * 10) / 10;
  };
  /** @type {Record<string, any>} */
  const found = { build: engine.build };
  for (const { name, n, bits, special, encoding } of CASES) {
    const primes = nttPrimes([...bits, ...special], n);
    const parameters = {
      ringDegree: n,
      dataPrimes: primes.slice(0, bits.length),
      specialPrimes: primes.slice(bits.length),
    };
    const keys = await engine.generateKeys(parameters);
    const values = Float64Array.from({ length: encoding === "slots" ? n / 2 : n }, (_, i) => Math.sin(i));
    const sent = keys.encrypt(values, 2 ** 30, encoding),
      { ring } = keys,
      { machine, call } = ring;
    const row = machine.allocate(ring.row * ring.limbs);
    // A result has both polynomials; what they are makes no difference.
    const { Kind, Tag, read: parts, written } = fields,
      told = parts(Kind.CIPHERTEXT, ring.digest, sent);
    const half = /** @type {Uint8Array} */ (told.get(Tag.POLYNOMIALS)),
      both = new Uint8Array(2 * half.length);
    both.set(half);
    both.set(half, half.length);
    const [level, scale] = [Tag.LEVEL, Tag.SCALE].map((tag) => /** @type {Uint8Array} */ (told.get(tag)));
    const result = written(Kind.CIPHERTEXT, ring.digest, "0", [
      [Tag.LEVEL, level],
      [Tag.SCALE, scale],
      [Tag.POLYNOMIALS, both],
    ]);
    found[name] = {
      encrypt: least(() => keys.encrypt(values, 2 ** 30, encoding)),
      decrypt: least(() => keys.decrypt(result, encoding)),
      transform: least(() => call.hr_forward(ring.ring, ring.basis, 1, 1, row)),
      chacha20: least(() => call.hr_chacha20(row, row, row, 0, n / 8)),
      bytes: sent.length,
    };
    if (encoding === "slots") {
      const spare = machine.allocate(2 * ring.row),
        [powers, places] = ring.slotTables();
      found[name].encode = least(() =>
        call.hr_slots_to_coefficients(ring.ring, spare, row, n / 2, 1, places, powers, 1),
      );
    }
  }
  return found;
}

if (typeof process !== "undefined" && process.argv[1]?.endsWith("bench.mjs")) {
  const { readFile } = await import("node:fs/promises");
  const { setFlagsFromString } = await import("node:v8");
  setFlagsFromString("--experimental-wasm-relaxed-simd");
  const folder = new URL("../../src/helora_serve/web/", import.meta.url);
  const { loadEngine } = await import(new URL("engine.js", folder).href);
  const fields = await import(new URL("fields.js", folder).href);
  const { nttPrimes } = await import(new URL("primes.js", folder).href);
  const clock = () => {
    const { user, system } = process.cpuUsage();
    return user + system;
  };
  const read = (/** @type {string} */ name) => readFile(new URL(name, folder));
  for (const build of process.argv[2] ? [process.argv[2]] : ["relaxed", "simd128", "scalar"])
    console.log(JSON.stringify(await measure({ loadEngine, nttPrimes, fields, builds: [build], read, clock })));
}
