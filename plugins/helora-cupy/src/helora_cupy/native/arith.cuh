// Modular products, one policy a form. What kernels share:
//   Word  a residue in memory, canonical in [0, q)        T  the same in registers and shared memory, lazily reduced
//   W     a constant to multiply by, prepared on the host   Mod  constants of one prime, read from a row of MOD_WORDS u64
// Row of a prime: [0] q  [1] ⌊2^64/q⌋  [2] −q⁻¹ mod 2^64  [3] 1/N and [4] its Shoup quotient, in the policy's form
//                 [5] q as a double  [6] 1/q as a double  [7] 2^64·2^64 mod q  [8] where its twiddles begin, in words
//                 [9] its bits
#pragma once
#include "shim.h"

#define MOD_WORDS 16

struct Pair64 {
  u64 w, quotient;
};
struct Pair32 {
  u32 w, quotient;
};

// Integers of 64 bits with q < 2^50. Products come out in [0, 2q), and sums are left alone: the transform's T of a
// forward transform grows by 2q a stage, to 29q < 2^55 after 14 stages; an inverse one's at most doubles, to 2^14·q <
// 2^64. So no stage corrects anything; only what leaves is made canonical.
template <class Derived, class Constant>
struct Integers64 {
  typedef u64 T;
  typedef u64 Word;
  typedef Constant W;
  static constexpr int PAD = 4;
  struct Mod {
    u64 q, twice, inverse_of_q, minus_inverse;
    W scale;
  };
  DEVICE static Mod read(const u64* row) {
    Mod m;
    m.q = row[0];
    m.twice = 2 * row[0];
    m.inverse_of_q = row[1];
    m.minus_inverse = row[2];
    m.scale = Derived::constant(row[3], row[4]);
    return m;
  }
  DEVICE static T load(Word x, const Mod&) { return x; }
  // Any u64: x − ⌊x·⌊2^64/q⌋/2^64⌋·q lies in [0, 2q).
  DEVICE static Word store(T x, const Mod& m) {
    x -= high64(x, m.inverse_of_q) * m.q;
    return least(x, x - m.q);
  }
  // A residue modulo `other`, centred, then modulo q: `lifted` is the least k·q − other ≥ 0.
  DEVICE static T centre(Word x, u64 other, u64 lifted, const Mod& m) {
    T y = x + (x > (other >> 1) ? lifted : 0);
    return store(y, m);
  }
  DEVICE static void forward_start(T*, int, bool, const Mod&) {}
  DEVICE static void forward_step(T& u, T& v, const W& w, const Mod& m) {
    T r = Derived::product(v, w, m);
    v = u + m.twice - r;
    u = u + r;
  }
  DEVICE static void inverse_step(T& u, T& v, const W& w, const Mod& m, int done, float&, float&) {
    T sum = u + v;
    v = Derived::product(u + (m.q << done) - v, w, m);
    u = sum;
  }
  DEVICE static void inverse_end(T&, float, const Mod&) {}
  DEVICE static T ready(T x, const Mod&) { return x; }  // what a transform leaves may be multiplied as it is
};

struct Shoup64 : Integers64<Shoup64, Pair64> {
  DEVICE static W constant(u64 w, u64 quotient) { return {w, quotient}; }
  DEVICE static T product(T x, const W& w, const Mod& m) { return x * w.w - high64(x, w.quotient) * m.q; }
};

// w carries a factor 2^64. x·w < 2^64·q, so the result lies in (0, 2q).
struct Montgomery64 : Integers64<Montgomery64, u64> {
  DEVICE static W constant(u64 w, u64) { return w; }
  DEVICE static T product(T x, W w, const Mod& m) {
    u64 low = x * w;
    return high64(x, w) + high64(low * m.minus_inverse, m.q) + (low != 0);
  }
};

// Primes q = k·2^32 + 1: q⁻¹ = 1 mod 2^32, so that each of two steps by 2^32 costs one product by k < 2^18.
// With x·w = h·2^64 + l₁·2^32 + l₀: s = l₁ − l₀·k is the product over 2^32 short of h·2^32, and h + (s >> 32) −
// (s mod 2^32)·k the product over 2^64. It is above −q, and below h + 1 < q; so adding q gives (0, 2q).
struct Friendly64 : Integers64<Friendly64, u64> {
  DEVICE static W constant(u64 w, u64) { return w; }
  DEVICE static T product(T x, W w, const Mod& m) {
    u64 low = x * w, high = high64(x, w), k = m.q >> 32;
    i64 s = (i64)(low >> 32) - (i64)((u64)(u32)low * k);
    return (u64)((i64)high + (s >> 32) - (i64)((u64)(u32)s * k)) + m.q;
  }
};

// Primes below 2^30 in 32-bit words, Harvey's ranges: [0, 4q) forward, [0, 2q) inverse.
struct Shoup32 {
  typedef u32 T;
  typedef u32 Word;
  typedef Pair32 W;
  static constexpr int PAD = 5;
  struct Mod {
    u32 q, twice, inverse_of_q;
    W scale;
  };
  DEVICE static Mod read(const u64* row) {
    Mod m;
    m.q = (u32)row[0];
    m.twice = 2 * m.q;
    m.inverse_of_q = (u32)(row[1] >> 32);
    m.scale = {(u32)row[3], (u32)row[4]};
    return m;
  }
  DEVICE static T load(Word x, const Mod&) { return x; }
  DEVICE static Word store(T x, const Mod& m) {
    x = least(x, x - m.twice);
    return least(x, x - m.q);
  }
  DEVICE static T product(T x, const W& w, const Mod& m) { return x * w.w - high32(x, w.quotient) * m.q; }
  DEVICE static void forward_start(T*, int, bool, const Mod&) {}
  DEVICE static void forward_step(T& u, T& v, const W& w, const Mod& m) {
    T s = least(u, u - m.twice), r = product(v, w, m);
    u = s + r;
    v = s + m.twice - r;
  }
  DEVICE static void inverse_step(T& u, T& v, const W& w, const Mod& m, int, float&, float&) {
    T sum = u + v;
    v = product(u + m.twice - v, w, m);
    u = least(sum, sum - m.twice);
  }
  DEVICE static void inverse_end(T&, float, const Mod&) {}
};

// Doubles with FMA, q < 2^50, constants w centred: |w| ≤ q/2.
//
// Product of an integer |x| ≤ B·q, B ≤ 4. h = fl(x·w), l = x·w − h exactly (FMA); M = 1.5·2^52; b = fl(h·fl(1/q) + M) − M.
//   |h·fl(1/q)| ≤ B·q/2·(1 + 2^-51) ≤ 2^51, so that the sum with M lies in [2^52, 2^53], where doubles are the integers: b
//   is h·fl(1/q) rounded to an integer, off by 1/2 at most. h and fl(1/q) are each off by 2^-53 of themselves, hence
//   |b − x·w/q| ≤ 1/2 + B·q/2·(2^-52 + 2^-106) < 1/2 + B/8 + 2^-50 as q < 2^50.
//   c = h − b·q is an integer with |c| ≤ |x·w − b·q| + |l| ≤ q + 2^48 < 2^53: exact (FMA). So the result c + l = x·w − b·q
//   is exact, congruent, and at most (1/2 + B/8)·q in magnitude.
// Reduction of |x| ≤ 8q: b as above from x itself; |x − b·q| ≤ q/2 + 8q·2^-52 < q/2 + 2.
// Forward: u ± r. From B = 1 (canonical; the first pass, at most 4 stages): 1.63, 2.33, 3.12, 4.01; multiplied are those
//   before: B ≤ 3.12. From B = 1/2 (after a reduction; at most 5 stages): 1.07, 1.70, 2.41, 3.21, 4.11; multiplied B ≤
//   3.21. All sums are below 8q ≤ 2^53: exact.
// Inverse: u + v, and (u − v)·w. Bounds of every element are followed through the unrolled pass (the floats below, which
//   the compiler folds): where |u| + |v| could exceed 4q, both are reduced first; what leaves a pass is at most q.
struct Fma50 {
  typedef double T;
  typedef u64 Word;
  typedef double W;
  static constexpr int PAD = 4;
  static constexpr double M = 6755399441055744.0, TWO52 = 4503599627370496.0;
  struct Mod {
    double q, inverse_of_q;
    W scale;
  };
  DEVICE static Mod read(const u64* row) {
    Mod m;
    m.q = of_bits(row[5]);
    m.inverse_of_q = of_bits(row[6]);
    m.scale = of_bits(row[3]);
    return m;
  }
  DEVICE static T integer(u64 x) { return plus(of_bits(x | 0x4330000000000000ull), -TWO52); }
  DEVICE static T load(Word x, const Mod&) { return integer(x); }
  DEVICE static T reduce(T x, const Mod& m) {
    T b = plus(fma_nearest(x, m.inverse_of_q, M), -M);
    return fma_nearest(-b, m.q, x);
  }
  DEVICE static Word store(T x, const Mod& m) {
    x = reduce(x, m);
    x = x < 0 ? plus(x, m.q) : x;
    return bits_of(plus(x, TWO52)) ^ 0x4330000000000000ull;
  }
  DEVICE static T centre(Word x, u64 other, u64, const Mod& m) {
    T y = integer(x);
    y = x > (other >> 1) ? plus(y, -integer(other)) : y;
    return reduce(y, m);
  }
  DEVICE static T product(T x, W w, const Mod& m) {
    T h = times(x, w);
    T l = fma_nearest(x, w, -h);
    T b = plus(fma_nearest(h, m.inverse_of_q, M), -M);
    return plus(fma_nearest(-b, m.q, h), l);
  }
  DEVICE static void forward_start(T* x, int count, bool canonical_and_short, const Mod& m) {
    if (!canonical_and_short) {
      UNROLL for (int e = 0; e < count; ++e) x[e] = reduce(x[e], m);
    }
  }
  DEVICE static void forward_step(T& u, T& v, W w, const Mod& m) {
    T r = product(v, w, m);
    v = plus(u, -r);
    u = plus(u, r);
  }
  DEVICE static void inverse_step(T& u, T& v, W w, const Mod& m, int, float& bound_u, float& bound_v) {
    if (bound_u + bound_v > 4.0f) {
      u = reduce(u, m);
      v = reduce(v, m);
      bound_u = bound_v = 0.51f;
    }
    float both = bound_u + bound_v;
    T sum = plus(u, v);
    v = product(plus(u, -v), w, m);
    u = sum;
    bound_u = both;
    bound_v = 0.5f + both / 8;
  }
  DEVICE static void inverse_end(T& x, float bound, const Mod& m) {
    if (bound > 1.0f) x = reduce(x, m);
  }
  // What a transform leaves is up to 4.11q: too much for a product. After this a product is at most 0.57q, and a sum of
  // 8 products below 8q.
  DEVICE static T ready(T x, const Mod& m) { return reduce(x, m); }
};
