// One encrypted request by the protocol's page alone: no code of helora, no packages, all arithmetic in BigInt.
// It makes keys, asks for Δ of one token in coefficient packing (cheetah_two_round), and decrypts it. For N = 8192 a
// few seconds; for reading, not for use: nothing here takes the same time for all secrets.
import { createCipheriv, createHash, randomBytes } from "node:crypto";

// Primes that are 1 modulo 2N, the largest of each length, all different; of equal lengths the last is taken first.
/** @type {(b: bigint, e: bigint, q: bigint) => bigint} */
const power = (b, e, q) => {
  let r = 1n;
  for (b %= q; e; e >>= 1n, b = (b * b) % q) if (e & 1n) r = (r * b) % q;
  return r;
};
function isPrime(n) {
  const small = [2n, 3n, 5n, 7n, 11n, 13n, 17n, 19n, 23n, 29n, 31n, 37n, 41n];
  if (small.some((p) => n % p === 0n)) return small.includes(n);
  let odd = n - 1n,
    twos = 0;
  while (!(odd & 1n)) {
    odd >>= 1n;
    twos++;
  }
  return small.every((b) => {
    let x = power(b, odd, n);
    if (x === 1n || x === n - 1n) return true;
    for (let i = 1; i < twos; i++) {
      x = (x * x) % n;
      if (x === n - 1n) return true;
    }
    return false;
  });
}
function primesOf(lengths, N) {
  const found = {};
  for (const bits of new Set(lengths)) {
    const step = BigInt(2 * N),
      list = [];
    let p = (((1n << BigInt(bits)) - 1n) / step) * step + 1n;
    for (; list.length < lengths.filter((b) => b === bits).length; p -= step)
      if (bitsOf(p) === bits && isPrime(p)) list.push(p);
    found[bits] = list;
  }
  return lengths.map((bits) => found[bits].pop());
}
const bitsOf = (n) => n.toString(2).length;
/** @type {(x: bigint, q: bigint) => bigint} */
const modulo = (x, q) => ((x % q) + q) % q;

// A polynomial modulo q by its values at ψ^(2·rev(i) + 1): products of polynomials are products of values.
class Ring {
  /** @param {number} N @param {bigint} q */
  constructor(N, q) {
    this.N = N;
    this.q = q;
    let psi,
      base = 2n;
    do psi = power(base++, (q - 1n) / BigInt(2 * N), q);
    while (power(psi, BigInt(N), q) !== q - 1n);
    const bits = Math.log2(N),
      reversed = (i) => {
        let r = 0;
        for (let k = 0; k < bits; k++) r |= ((i >> k) & 1) << (bits - 1 - k);
        return r;
      };
    const powers = [1n];
    for (let i = 1; i < N; i++) powers.push((powers[i - 1] * psi) % q);
    this.roots = powers.map((_, i) => powers[reversed(i)]);
    this.inverse_roots = this.roots.map((r) => power(r, q - 2n, q));
  }
  /** @param {bigint[]} coefficients */
  forward(coefficients) {
    const a = coefficients.map((x) => modulo(x, this.q)),
      q = this.q;
    for (let m = 1, t = this.N / 2; t >= 1; m *= 2, t /= 2)
      for (let i = 0; i < m; i++)
        for (let j = 2 * i * t; j < 2 * i * t + t; j++) {
          const v = (a[j + t] * this.roots[m + i]) % q;
          a[j + t] = modulo(a[j] - v, q);
          a[j] = (a[j] + v) % q;
        }
    return a;
  }
  /** @param {bigint[]} values */
  inverse(values) {
    const a = [...values],
      q = this.q,
      scale = power(BigInt(this.N), q - 2n, q);
    for (let m = this.N / 2, t = 1; m >= 1; m /= 2, t *= 2)
      for (let i = 0; i < m; i++)
        for (let j = 2 * i * t; j < 2 * i * t + t; j++) {
          const u = a[j],
            v = a[j + t];
          a[j] = (u + v) % q;
          a[j + t] = (modulo(u - v, q) * this.inverse_roots[m + i]) % q;
        }
    return a.map((x) => (x * scale) % q);
  }
  /** @param {bigint[]} a @param {bigint[]} b @param {bigint[]} c */
  madd(a, b, c) {
    return a.map((x, i) => modulo(x * b[i] + c[i], this.q));
  }
}

// Randomness: a seed's ChaCha20 stream in words of 64 bits; uniform by rejection, errors 21 coins less 21, secrets
// −1, 0, 1.
/** @returns {Generator<bigint, never>} */
function* words(seed) {
  const cipher = createCipheriv("chacha20", seed, Buffer.alloc(16));
  for (;;) {
    const block = cipher.update(Buffer.alloc(4096));
    for (let i = 0; i < 4096; i += 8) yield block.readBigUInt64LE(i);
  }
}
const uniform = (seed, rings) => {
  const w = words(seed);
  return rings.map((r) => {
    const mask = (1n << BigInt(bitsOf(r.q))) - 1n,
      row = [];
    while (row.length < r.N) {
      const x = w.next().value & mask;
      if (x < r.q) row.push(x);
    }
    return row;
  });
};
const ones = (n) => [...n.toString(2)].filter((bit) => bit === "1").length,
  COINS = (1n << 21n) - 1n;
const errors = (N) => {
  const w = words(randomBytes(32));
  return Array.from({ length: N }, () => {
    const x = w.next().value;
    return BigInt(ones(x & COINS) - ones((x >> 21n) & COINS));
  });
};
const ternary = (N) => {
  const found = [];
  for (const w of words(randomBytes(32))) {
    for (let k = 0n; k < 64n; k += 2n) {
      const t = (w >> k) & 3n;
      if (t < 3n) found.push(t - 1n);
    }
    if (found.length >= N) break;
  }
  return found.slice(0, N);
};

// Bytes: numbers packed to their bits, the fields of helora-rns, helora's envelope, and as much MessagePack as is
// needed.
function pack(row, bits) {
  const out = Buffer.alloc(Math.ceil((row.length * bits) / 8));
  let held = 0n,
    have = 0n,
    at = 0;
  for (const x of row) {
    held |= x << have;
    have += BigInt(bits);
    while (have >= 8n) {
      out[at++] = Number(held & 255n);
      held >>= 8n;
      have -= 8n;
    }
  }
  if (have) out[at] = Number(held);
  return out;
}
function unpack(bytes, bits, N) {
  const out = [],
    mask = (1n << BigInt(bits)) - 1n;
  let held = 0n,
    have = 0;
  for (const byte of bytes) {
    held |= BigInt(byte) << BigInt(have);
    have += 8;
    while (have >= bits && out.length < N) {
      out.push(held & mask);
      held >>= BigInt(bits);
      have -= bits;
    }
  }
  return out;
}
export const sha256 = (...parts) => parts.reduce((h, p) => h.update(p), createHash("sha256")).digest();
const u64be = (n) => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64BE(BigInt(n));
  return b;
};
const f64 = (x) => {
  const b = Buffer.alloc(8);
  b.writeDoubleLE(x);
  return b;
};
export function bin(bytes) {
  const head = Buffer.alloc(5);
  head[0] = 0xc6;
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}
export const text = (s) => Buffer.concat([Buffer.from([0xd9, Buffer.byteLength(s)]), Buffer.from(s)]);
export const list = (items) => {
  const head = Buffer.alloc(5);
  head[0] = 0xdd;
  head.writeUInt32BE(items.length, 1);
  return Buffer.concat([head, ...items]);
};
export const whole = (n) => Buffer.from([n]); // below 128
export function read(b, at = { i: 0 }) {
  // arrays, maps as arrays, strings and whole numbers
  const t = b[at.i++],
    take = (n) => {
      const v = b.readUIntBE(at.i, n);
      at.i += n;
      return v;
    };
  const many = (n) => Array.from({ length: n }, () => read(b, at)),
    bytes = (n) => b.subarray(at.i, (at.i += n));
  if (t < 0x80) return t;
  if (t >> 4 === 9) return many(t & 15);
  if (t >> 4 === 8) return many(2 * (t & 15));
  if (t >> 5 === 5) return bytes(t & 31).toString();
  if (t === 0xc4 || t === 0xc5 || t === 0xc6) return bytes(take(1 << (t - 0xc4)));
  if (t === 0xdc || t === 0xdd) return many(take(2 << (t - 0xdc)));
  if (t === 0xc0) return null;
  if (t === 0xc2 || t === 0xc3) return t === 0xc3;
  if (t === 0xcb) return b.readDoubleBE((at.i += 8) - 8);
  if (t === 0xd9 || t === 0xda) return bytes(take(1 << (t - 0xd9))).toString();
  if (t >= 0xcc && t <= 0xce) return take(1 << (t - 0xcc));
  if (t === 0xcf) return Number(b.readBigUInt64BE((at.i += 8) - 8));
  throw new Error(`unexpected MessagePack byte ${t}`);
}

/** Keys for one plan of an offer, and requests by it; `ask` sends a message of a session and resolves to the answer. */
export class Client {
  constructor(offer, name) {
    this.module = offer.modules.find((m) => m.name === name);
    this.plan = offer.plans.find((p) => p.digest === this.module.plan);
    if (this.plan.packing !== "cheetah_two_round")
      throw new Error(`this client packs cheetah_two_round, not ${this.plan.packing}`);
    const { ring_degree: N, data_bits, special_bits } = this.plan.settings.params;
    this.N = N;
    this.origin = Buffer.from(`${offer.backend}\n${offer.library}`);
    this.producer = offer.library.split(" ")[1];
    this.id = randomBytes(16);
    const primes = primesOf([...data_bits, ...special_bits], N);
    this.rings = primes.slice(0, data_bits.length).map((q) => new Ring(N, q));
    const sizes = Buffer.alloc(12);
    [N, data_bits.length, special_bits.length].forEach((n, i) => sizes.writeUInt32LE(n, 4 * i));
    const told = Buffer.alloc(8 * primes.length);
    primes.forEach((q, i) => told.writeBigUInt64LE(q, 8 * i));
    const { secret, scale_bits } = this.plan.settings.params,
      [data_primes, special_primes] = [primes.slice(0, data_bits.length), primes.slice(data_bits.length)].map((some) =>
        some.map(Number),
      );
    this.fingerprint = sha256(
      JSON.stringify({ ring_degree: N, data_bits, special_bits, scale_bits, secret, data_primes, special_primes }),
    );
    this.digest = sha256(sizes, told).subarray(0, 16);
    const s = ternary(N);
    this.secret = this.rings.map((r) => r.forward(s));
  }
  fields(kind, found) {
    // tag, length, value
    const all = [[1, Buffer.from(this.producer)], ...found].map(([tag, value]) => {
      const h = Buffer.alloc(5);
      h[0] = tag;
      h.writeUInt32LE(value.length, 1);
      return Buffer.concat([h, value]);
    });
    return Buffer.concat([Buffer.from("HRNS"), Buffer.from([1, kind]), this.digest, ...all]);
  }
  envelope(kind, payload) {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(this.origin.length);
    const whole = Buffer.concat([
      Buffer.from("HLRA"),
      Buffer.from([2, kind]),
      this.id,
      length,
      u64be(payload.length),
      this.origin,
      payload,
    ]);
    return Buffer.concat([whole, sha256(whole)]);
  }
  open(kind, bytes) {
    const body = bytes.subarray(0, -32),
      origin = body.readUInt16BE(22);
    if (!sha256(body).equals(bytes.subarray(-32)) || body[5] !== kind || !body.subarray(6, 22).equals(this.id))
      throw new Error("not an answer to this client");
    return body.subarray(32 + origin);
  }
  zero() {
    // an encryption of zero: (e − a·s, seed of a)
    const seed = randomBytes(32),
      a = uniform(seed, this.rings),
      e = errors(this.N);
    return {
      seed,
      first: this.rings.map((r, i) =>
        r.madd(
          a[i],
          this.secret[i].map((x) => r.q - x),
          r.forward(e),
        ),
      ),
    };
  }
  packed(rows) {
    return Buffer.concat(rows.map((row, i) => pack(row, bitsOf(this.rings[i].q))));
  }
  evaluationKeys() {
    const z = this.zero();
    return list([
      bin(
        this.envelope(
          2,
          Buffer.concat([
            this.fingerprint,
            this.fields(2, [
              [6, this.id],
              [7, Buffer.concat([z.seed, this.packed(z.first)])],
              [8, Buffer.alloc(0)],
              [9, Buffer.alloc(0)],
            ]),
          ]),
        ),
      ),
    ]);
  }
  encrypt(residues, scale) {
    // a message by its coefficients modulo each prime
    const z = this.zero(),
      b = this.rings.map((r, i) => r.forward(residues(r.q, i)).map((m, k) => (m + z.first[i][k]) % r.q));
    return this.fields(1, [
      [2, Buffer.from([this.rings.length - 1])],
      [3, f64(scale)],
      [4, z.seed],
      [5, this.packed(b)],
    ]);
  }
  ciphertext(bytes) {
    const found = {};
    for (let i = 22; i < bytes.length; ) {
      const n = bytes.readUInt32LE(i + 1);
      found[bytes[i]] = bytes.subarray(i + 5, i + 5 + n);
      i += 5 + n;
    }
    const level = found[2][0],
      scale = found[3].readDoubleLE(0),
      lost = found[10] ? [...found[10]] : [0, 0],
      rows = [];
    let at = 0;
    for (const bits of lost)
      for (const r of this.rings.slice(0, level + 1)) {
        const width = bitsOf(r.q) - bits,
          size = Math.ceil((this.N * width) / 8);
        rows.push(unpack(found[5].subarray(at, (at += size)), width, this.N).map((x) => x << BigInt(bits)));
      }
    return { level, scale, short: 10 in found, first: rows.slice(0, level + 1), second: rows.slice(level + 1) };
  }
  /** @returns {bigint[][]} */
  decrypt(c) {
    // coefficients modulo each prime of its level; short results came as coefficients, others as values
    return this.rings.slice(0, c.level + 1).map((r, i) => {
      const first = c.short ? r.forward(c.first[i]) : c.first[i],
        second = c.short ? r.forward(c.second[i]) : c.second[i];
      return r.inverse(r.madd(second, this.secret[i], first));
    });
  }
  async message(ask, request, number, follows, ciphertexts) {
    const answer = await ask(
      this.envelope(
        4,
        list([
          bin(request),
          whole(number),
          list([text(this.module.name)]),
          list([text(this.plan.digest)]),
          whole(1),
          bin(follows),
          list([list(ciphertexts.map(bin))]),
        ]),
      ),
    );
    return { follows: answer.subarray(-32), ciphertexts: read(this.open(5, answer))[2].flat() };
  }
  /** Δ of one token: x has d_in numbers, Δ d_out. */
  async delta(x, ask) {
    const { layout: l, settings, shape } = this.plan,
      request = randomBytes(16),
      norm = Math.hypot(...x),
      exponent = norm ? Math.ceil(Math.log2(norm)) : 0,
      scale = 2 ** settings.scales.input_bits;
    const blocks = Array.from({ length: l.blocks }, (_, b) =>
      this.encrypt(
        () =>
          Array.from({ length: this.N }, (_, i) =>
            i < l.width && b * l.width + i < shape.d_in
              ? BigInt(Math.round(x[b * l.width + i] * 2 ** (52 - exponent))) << BigInt(settings.scales.input_bits - 52)
              : 0n,
          ),
        scale,
      ),
    );
    const masked = await this.message(ask, request, 0, Buffer.alloc(0), blocks),
      values = masked.ciphertexts.map((c) => this.ciphertext(c)),
      plain = values.map((c) => this.decrypt(c));
    // z under the mask stands at the ends of rows; the upper primes times it go back, spaced by the rank: exact
    // integers.
    const lower = values[0].level + 1,
      upper = this.rings.slice(lower).reduce((p, r) => p * r.q, 1n);
    const picked = (i) =>
      Array.from({ length: shape.rank }, (_, k) => plain[Math.floor(k / l.rows)][i][((k % l.rows) + 1) * l.width - 1]);
    const back = this.encrypt(
      (q, i) => {
        const row = new Array(this.N).fill(0n);
        if (i < lower)
          picked(i).forEach((z, k) => {
            row[k] = (z * upper) % q;
          });
        return row;
      },
      2 ** (settings.scales.input_bits + settings.scales.down_bits),
    );
    const results = await this.message(ask, request, 1, masked.follows, [back]),
      delta = [];
    for (const bytes of results.ciphertexts) {
      const c = this.ciphertext(bytes),
        Q = /** @type {bigint} */ (this.rings.slice(0, c.level + 1).reduce((p, r) => p * r.q, 1n)),
        rows = this.decrypt(c);
      for (let k = 0; k < l.rows_out && delta.length < shape.d_out; k++) {
        const at = (k + 1) * shape.rank - 1,
          m =
            this.rings
              .slice(0, c.level + 1)
              .map((r) => /** @type {bigint} */ (r.q))
              .reduce((sum, q, i) => sum + rows[i][at] * (Q / q) * power(Q / q, q - 2n, q), 0n) % Q;
        delta.push((Number(m > Q / 2n ? m - Q : m) / c.scale) * 2 ** (exponent + this.module.exponent));
      }
    }
    return delta;
  }
}
