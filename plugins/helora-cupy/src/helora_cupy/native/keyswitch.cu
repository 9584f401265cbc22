// Key switching and products in the transform domain. Compile with -DPOLICY=Fma50 (or Montgomery64) -DDEGREE_LOG=13
// -DDIGITS=3 -DRUNS=1.
//
// A key is [limbs][N/32][DIGITS][2][32]: all that a warp needs of it follows in memory, digits of one coefficient side by
// side, and each read is coalesced. Its entries are the policy's constants: times 2^64, or centred doubles.
#define SHIM_HERE
#include "ntt.cuh"

struct alignas(16) Two {
  u64 x, y;
};

DEVICE u64 key_at(int limb, int i, int digit, int part) {
  return (((((u64)limb << (DEGREE_LOG - 5)) + (i >> 5)) * DIGITS + digit) * 2 + part) * 32 + (i & 31);
}

// Digits that are transformed already, as a hoisted rotation has them: out[run][part][limb] = Σ digits · key.
// digits: [runs][DIGITS][limbs][N]; out: [runs][2][limbs][N]; a thread keeps the key for RUNS runs. Sums of 128 bits are
// exact, with one reduction at the end (DIGITS·q < 2^64); Fma50 reduces each product.
// Grid: x N/256, y limbs, z runs/RUNS.
KERNEL(256)
inner_product(const u64* digits, const POLICY::W* key, u64* out, const u64* mods, int limbs) {
  const int limb = BLOCK_Y;
  const POLICY::Mod m = POLICY::read(mods + limb * MOD_WORDS);
  const u64 limb_size = 1ull << DEGREE_LOG;
  THREADS(tid) {
    const int i = BLOCK_X * 256 + tid;
    POLICY::W part[DIGITS][2];
    UNROLL for (int d = 0; d < DIGITS; ++d) {
      part[d][0] = key[key_at(limb, i, d, 0)];
      part[d][1] = key[key_at(limb, i, d, 1)];
    }
    UNROLL for (int r = 0; r < RUNS; ++r) {
      const u64 run = (u64)BLOCK_Z * RUNS + r;
      const u64* x = digits + (run * DIGITS * limbs + limb) * limb_size + i;
      u64* to = out + (run * 2 * limbs + limb) * limb_size + i;
      POLICY::T sum0 = 0, sum1 = 0;
      UNROLL for (int d = 0; d < DIGITS; ++d) {
        const POLICY::T v = POLICY::load(x[d * limbs * limb_size], m);
        sum0 = sum0 + POLICY::product(v, part[d][0], m);
        sum1 = sum1 + POLICY::product(v, part[d][1], m);
      }
      to[0] = POLICY::store(sum0, m);
      to[limbs * limb_size] = POLICY::store(sum1, m);
    }
  }
}

// The same for a hoisted group: the digits of one ciphertext, [DIGITS][limbs][N], with a key for each rotation,
// [rotations] keys, to [rotations][2][limbs][N]. Rotation z takes X to X^galois[z]: in bit-reversed order, place i takes
// what stands where ψ^((2·rev(i) + 1)·galois) does. Grid: x N/256, y limbs, z rotations.
DEVICE int moved_by(int i, u32 galois) {
  const u32 root = (2 * reversed((u32)i, DEGREE_LOG) + 1) * galois;
  return (int)reversed((root >> 1) & ((1u << DEGREE_LOG) - 1), DEGREE_LOG);
}

KERNEL(256)
hoisted(const u64* digits, const POLICY::W* keys, const u32* galois, u64* out, const u64* mods, int limbs) {
  const int limb = BLOCK_Y;
  const POLICY::Mod m = POLICY::read(mods + limb * MOD_WORDS);
  const u64 limb_size = 1ull << DEGREE_LOG;
  const POLICY::W* key = keys + (u64)BLOCK_Z * limbs * limb_size * DIGITS * 2;
  u64* to = out + ((u64)BLOCK_Z * 2 * limbs + limb) * limb_size;
  THREADS(tid) {
    const int i = BLOCK_X * 256 + tid, from = moved_by(i, galois[BLOCK_Z]);
    POLICY::T sum0 = 0, sum1 = 0;
    UNROLL for (int d = 0; d < DIGITS; ++d) {
      const POLICY::T v = POLICY::load(digits[((u64)d * limbs + limb) * limb_size + from], m);
      sum0 = sum0 + POLICY::product(v, key[key_at(limb, i, d, 0)], m);
      sum1 = sum1 + POLICY::product(v, key[key_at(limb, i, d, 1)], m);
    }
    to[i] = POLICY::store(sum0, m);
    to[limbs * limb_size + i] = POLICY::store(sum1, m);
  }
}

// The same from digits in coefficients, [runs][DIGITS][N], digit d canonical modulo others[d]: each is centred, taken
// modulo the block's prime, transformed in shared memory and multiplied without leaving the chip.
// lifted[d][limb] is the least k·q − others[d] ≥ 0. Grid: x limbs, y runs.
#define SWITCHED(E)                                                                                                  \
  KERNEL((1 << DEGREE_LOG) >> E)                                                                                           \
  switch_key_##E(const u64* digits, const POLICY::W* key, u64* out, const POLICY::W* table, const u64* mods,         \
                 const u64* others, const u64* lifted, int limbs) {                                                  \
    SHARED(POLICY::T, buffer);                                                                                       \
    const int limb = BLOCK_X;                                                                                        \
    const POLICY::Mod m = POLICY::read(mods + limb * MOD_WORDS);                                                     \
    PER_THREAD(POLICY::T, sum0, 1 << E);                                                                             \
    PER_THREAD(POLICY::T, sum1, 1 << E);                                                                             \
    for (int d = 0; d < DIGITS; ++d) {                                                                               \
      const u64* in = digits + (((u64)BLOCK_Y * DIGITS + d) << DEGREE_LOG);                                                \
      const u64 other = others[d], lift = lifted[d * limbs + limb];                                                  \
      BARRIER;                                                                                                       \
      forward_passes<POLICY, Passes<DEGREE_LOG, E>, 0>(buffer, m, table + ((u64)limb << DEGREE_LOG),                                     \
                                         [&](int i) { return POLICY::centre(in[i], other, lift, m); });              \
      WARP_BARRIER;                                                                                                  \
      THREADS(tid) {                                                                                                 \
        UNROLL for (int e = 0; e < (1 << E); ++e) {                                                                  \
          const int i = moved<Passes<DEGREE_LOG, E>>(tid, e);                                                                      \
          const POLICY::T v = POLICY::ready(buffer[padded<POLICY, Passes<DEGREE_LOG, E>>(i)], m);                                  \
          const POLICY::T p0 = POLICY::product(v, key[key_at(limb, i, d, 0)], m);                                    \
          const POLICY::T p1 = POLICY::product(v, key[key_at(limb, i, d, 1)], m);                                    \
          MINE(sum0)[e] = d == 0 ? p0 : MINE(sum0)[e] + p0;                                                          \
          MINE(sum1)[e] = d == 0 ? p1 : MINE(sum1)[e] + p1;                                                          \
        }                                                                                                            \
      }                                                                                                              \
    }                                                                                                                \
    u64* to = out + (((u64)BLOCK_Y * 2 * limbs + limb) << DEGREE_LOG);                                                     \
    THREADS(tid) {                                                                                                   \
      UNROLL for (int e = 0; e < (1 << E); ++e) {                                                                    \
        const int i = moved<Passes<DEGREE_LOG, E>>(tid, e);                                                                        \
        to[i] = POLICY::store(MINE(sum0)[e], m);                                                                     \
        to[((u64)limbs << DEGREE_LOG) + i] = POLICY::store(MINE(sum1)[e], m);                                              \
      }                                                                                                              \
    }                                                                                                                \
  }

#if DEGREE_LOG - 3 <= 10
SWITCHED(3)
#endif
SWITCHED(4)

// out = sum + a·b: a and sum canonical, b a plaintext as constants of the policy. [limbs_in_all][N], limb b modulo prime
// b mod primes. Grid: x N/512, y limbs in all.
KERNEL(256)
multiply_add(const u64* a, const POLICY::W* b, const u64* sum, u64* out, const u64* mods, int primes) {
  const POLICY::Mod m = POLICY::read(mods + (BLOCK_Y % primes) * MOD_WORDS);
  THREADS(tid) {
    const u64 i = ((u64)BLOCK_Y << (DEGREE_LOG - 1)) + BLOCK_X * 256 + tid;
    const Two x = ((const Two*)a)[i], s = ((const Two*)sum)[i];
    const POLICY::W *w = b + 2 * i;
    const POLICY::W first = w[0], second = w[1];
    Two r;
    r.x = POLICY::store(POLICY::load(s.x, m) + POLICY::product(POLICY::load(x.x, m), first, m), m);
    r.y = POLICY::store(POLICY::load(s.y, m) + POLICY::product(POLICY::load(x.y, m), second, m), m);
    ((Two*)out)[i] = r;
  }
}

// What memory gives: 64 bytes a thread. Grid: x bytes/2^14.
KERNEL(256) copy(const Two* a, Two* b) {
  THREADS(tid) {
    const u64 at = (u64)BLOCK_X * 1024 + tid;
    Two x[4];
    UNROLL for (int j = 0; j < 4; ++j) x[j] = a[at + j * 256];
    UNROLL for (int j = 0; j < 4; ++j) b[at + j * 256] = x[j];
  }
}

// Nothing: what a launch costs.
KERNEL(32)
nothing(u64*) {}
