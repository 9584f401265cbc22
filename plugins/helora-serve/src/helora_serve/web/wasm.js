// @ts-check
/**
 * The engine's builds and their memory: which one runs here, and what is allocated in it.
 *
 * A build is chosen by trying it: where a machine has no fused product, relaxed vectors give wrong results without a
 * word.
 */

/** Builds, the fastest first. */
export const BUILDS = Object.freeze(["relaxed", "simd128", "scalar"]);

const ALIGNMENT = 64;
const PAGE = 65536;

/** Which parameters are of 64 bits: they take BigInts. Of the others all are numbers. @type {Record<string, string>} */
const SIGNATURES = {
  hr_add: "iilliii",
  hr_sub: "iilliii",
  hr_negate: "iillii",
  hr_multiply: "iillliii",
  hr_multiply_add: "iillliiii",
  hr_times: "iilliii",
  hr_permute: "iliii",
  hr_forward: "iilli",
  hr_inverse: "iilli",
  hr_of_doubles: "iilii",
  hr_values_of_doubles: "iilii",
  hr_to_doubles: "iiliii",
  hr_uniform: "iiilili",
  hr_binomial: "iiil",
  hr_ternary: "ilil",
  hr_pack: "iili",
  hr_unpack: "iili",
  hr_ring_bytes: "lli",
  hr_ring_make: "illiii",
  hr_slots_to_coefficients: "iiilliif",
  hr_coefficients_to_slots: "iiiiif",
  hr_words_encrypted: "iliiiiilii",
  hr_words_opened: "iiiilliiiii",
  hr_words_padded: "iiiill",
  hr_words_revealed: "iiiillii",
  hr_root_powers: "iil",
  hr_are_below: "iil",
};

export class EngineError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = "EngineError";
    this.code = code;
  }
}

/** An instance of a build, and an allocator of its memory. Pointers are byte offsets, multiples of 64. */
export class Machine {
  /** @param {string} build @param {WebAssembly.Instance} instance */
  constructor(build, instance) {
    this.build = build;
    const { memory, __heap_base: base, ...functions } = /** @type {any} */ (instance.exports);
    /** @type {WebAssembly.Memory} */
    this.memory = memory;
    /** @type {Record<string, (...args: any[]) => any>} */
    this.call = {};
    for (const [name, exported] of Object.entries(functions)) this.call[name] = wrapped(exported, SIGNATURES[name]);
    this.top = aligned(base.value);
    /** @type {Map<number, number[]>} */
    this.free = new Map();
  }

  /** Memory that is not set. @param {number} bytes @returns {number} */
  allocate(bytes) {
    const size = aligned(Math.max(bytes, 1));
    const kept = this.free.get(size)?.pop();
    if (kept !== undefined) return kept;
    const start = this.top;
    const missing = start + size - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / PAGE));
    this.top = start + size;
    return start;
  }

  /** Clear memory and give it back. @param {number} pointer @param {number} bytes */
  release(pointer, bytes) {
    const size = aligned(Math.max(bytes, 1));
    this.bytes(pointer, size).fill(0);
    const kept = this.free.get(size);
    if (kept) kept.push(pointer);
    else this.free.set(size, [pointer]);
  }

  /**
   * Run with scratch memory that is cleared and given back at the end.
   * @template T @param {(take: (bytes: number) => number) => T} body @returns {T}
   */
  scratch(body) {
    /** @type {[number, number][]} */
    const taken = [];
    try {
      return body((bytes) => {
        const pointer = this.allocate(bytes);
        taken.push([pointer, bytes]);
        return pointer;
      });
    } finally {
      for (const [pointer, bytes] of taken) this.release(pointer, bytes);
    }
  }

  /** A view, valid until memory grows. @param {number} pointer @param {number} count */
  bytes(pointer, count) {
    return new Uint8Array(this.memory.buffer, pointer, count);
  }

  /** @param {number} pointer @param {number} count */
  doubles(pointer, count) {
    return new Float64Array(this.memory.buffer, pointer, count);
  }

  /** @param {number} pointer @param {number} count */
  words(pointer, count) {
    return new BigUint64Array(this.memory.buffer, pointer, count);
  }

  /** @param {number} pointer @param {number} count */
  numbers(pointer, count) {
    return new Uint32Array(this.memory.buffer, pointer, count);
  }
}

/** @param {number} bytes */
function aligned(bytes) {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** @param {(...args: any[]) => any} exported @param {string | undefined} signature */
function wrapped(exported, signature) {
  const long = [...(signature ?? "")].flatMap((kind, place) => (kind === "l" ? [place] : []));
  if (!long.length) return exported;
  return (/** @type {any[]} */ ...args) => {
    for (const place of long) args[place] = BigInt(args[place]);
    const result = exported(...args);
    return typeof result === "bigint" ? Number(result) : result;
  };
}

const TRIED_N = 64;
const TRIED_PRIME = 1125899906826241n; // 50 bits, 1 modulo 2·8192

/**
 * A known product: two polynomials modulo x^64 + 1 and a prime of 50 bits, against the same by the definition.
 * @param {Machine} machine @returns {boolean}
 */
export function worksHere(machine) {
  if (machine.call.hr_fused() !== 1) return false;
  const n = TRIED_N,
    q = TRIED_PRIME;
  return machine.scratch((take) => {
    const bytes = machine.call.hr_ring_bytes(n, 1, 0);
    const ring = take(bytes),
      moduli = take(8),
      powers = take(8 * n),
      basis = take(4),
      pair = take(16 * n);
    machine.words(moduli, 1)[0] = q;
    machine.numbers(basis, 1)[0] = 0;
    machine.call.hr_root_powers(powers, n, q);
    machine.call.hr_ring_make(ring, n, 1, moduli, powers, 0);
    const values = machine.words(pair, 2 * n);
    let state = 1n;
    for (let i = 0; i < 2 * n; i++) values[i] = state = (state * 6364136223846793005n + 1442695040888963407n) % q;
    const [a, b] = [values.slice(0, n), values.slice(n)];
    machine.call.hr_forward(ring, basis, 1, 2, pair);
    machine.call.hr_multiply(ring, basis, 1, 1, 1, pair, pair, pair + 8 * n);
    machine.call.hr_inverse(ring, basis, 1, 1, pair);
    for (let k = 0; k < n; k++) {
      let sum = 0n;
      for (let i = 0; i < n; i++) sum += a[i] * (i <= k ? b[k - i] : q - b[n + k - i]);
      if (sum % q !== machine.words(pair, n)[k]) return false;
    }
    return true;
  });
}

/** Reads a file beside this module. @param {string} name @returns {Promise<BufferSource>} */
async function fetched(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new EngineError("engine-missing", `${name}: the server answered ${response.status}.`);
  return response.arrayBuffer();
}

/**
 * The fastest build that works here.
 * @param {{ read?: (name: string) => Promise<BufferSource>, builds?: readonly string[] }} [options] `builds`: those to
 *   try.
 * @returns {Promise<Machine>}
 */
export async function loadMachine({ read = fetched, builds = BUILDS } = {}) {
  const refused = [];
  for (const build of builds) {
    const file = await read(`engine-${build}.wasm`); // where nobody answers, that is no fault of a build
    try {
      const { instance } = await WebAssembly.instantiate(file, {});
      const machine = new Machine(build, instance);
      if (worksHere(machine)) return machine;
      refused.push(`${build}: wrong results`);
    } catch (error) {
      refused.push(`${build}: ${error instanceof Error ? error.message : error}`);
    }
  }
  throw new EngineError("engine-unavailable", `No build of the engine works here (${refused.join("; ")}).`);
}
