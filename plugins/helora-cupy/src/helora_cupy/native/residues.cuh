// Canonical residues modulo primes of up to 60 bits, as rings have them: Fma50 below 2^50, Long64 beyond.
//
// Compile with -DWIDE=1 for rings that have primes of both kinds: a block looks at its prime and takes one of the two.
#pragma once
#include "arith.cuh"

// Integers of 64 bits with q < 2^60 and Shoup's quotients, Harvey's ranges: [0, 4q) forward, [0, 2q) inverse.
struct Long64 {
  typedef u64 T;
  typedef u64 Word;
  typedef Pair64 W;
  static constexpr int PAD = 4;
  struct Mod {
    u64 q, twice, inverse_of_q, minus_inverse, square;
    W scale;
  };
  DEVICE static Mod read(const u64* row) {
    return {row[0], 2 * row[0], row[1], row[2], row[7], {row[3], row[4]}};
  }
  DEVICE static T load(Word x, const Mod&) { return x; }
  DEVICE static Word store(T x, const Mod& m) {
    x = least(x, x - m.twice);
    return least(x, x - m.q);
  }
  DEVICE static T product(T x, const W& w, const Mod& m) { return x * w.w - high64(x, w.quotient) * m.q; }
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

// Any number below 2^64, modulo q < 2^63.
DEVICE u64 reduced(u64 x, u64 q, u64 inverse_of_q) {
  x -= high64(x, inverse_of_q) * q;
  return least(x, x - q);
}

// a·2^-64 modulo q of a number of 128 bits below 2^64·q.
DEVICE u64 montgomery(u64 high, u64 low, u64 q, u64 minus_inverse) {
  const u64 r = high + high64(low * minus_inverse, q) + (low != 0);
  return least(r, r - q);
}

// One prime, any up to 60 bits, in integers: for what is not worth a policy.
struct Prime {
  u64 q, inverse_of_q, minus_inverse, square;
  DEVICE explicit Prime(const u64* row) : q(row[0]), inverse_of_q(row[1]), minus_inverse(row[2]), square(row[7]) {}
  DEVICE u64 reduce(u64 x) const { return reduced(x, q, inverse_of_q); }
  DEVICE u64 multiply(u64 a, u64 b) const {
    const u64 r = montgomery(high64(a, b), a * b, q, minus_inverse);
    return montgomery(high64(r, square), r * square, q, minus_inverse);
  }
  DEVICE u64 add(u64 a, u64 b) const { return least(a + b, a + b - q); }
  DEVICE u64 sub(u64 a, u64 b) const { return least(a - b, a - b + q); }
  DEVICE u64 negate(u64 a) const { return a ? q - a : 0; }
  DEVICE u64 of_signed(i64 x) const { return x < 0 ? negate(reduce(0 - (u64)x)) : reduce((u64)x); }
  DEVICE i64 centred(u64 a) const { return (i64)a - (a > (q >> 1) ? (i64)q : 0); }
};

// Sums of products of residues. Of Fma50: |a·b| ≤ q² = 2q·q/2, so that a product is at most 0.75q (arith.cuh with B = 2);
// eight of them and a reduced sum are below 8q.
template <class P>
struct Sum;

template <>
struct Sum<Fma50> {
  double s = 0;
  DEVICE void add_product(u64 a, u64 b, const Fma50::Mod& m) {
    s = plus(s, Fma50::product(Fma50::integer(a), Fma50::integer(b), m));
  }
  DEVICE void add(u64 a, const Fma50::Mod& m) { s = plus(s, Fma50::integer(a)); }  // as much as a product and a third
  DEVICE void settle(const Fma50::Mod& m) { s = Fma50::reduce(s, m); }
  DEVICE u64 value(const Fma50::Mod& m) const { return Fma50::store(s, m); }
};

template <>
struct Sum<Long64> {
  u64 s = 0;
  DEVICE void add(u64 a, const Long64::Mod& m) { s = least(s + a, s + a - m.q); }
  DEVICE void add_product(u64 a, u64 b, const Long64::Mod& m) {
    const u64 r = montgomery(high64(a, b), a * b, m.q, m.minus_inverse);
    add(montgomery(high64(r, m.square), r * m.square, m.q, m.minus_inverse), m);
  }
  DEVICE void settle(const Long64::Mod&) {}
  DEVICE u64 value(const Long64::Mod&) const { return s; }
};

#if WIDE
#define IS_LONG(row) ((row)[9] > 50)
#define BY_POLICY(row, ...)                                \
  do {                                                     \
    if (IS_LONG(row)) { typedef Long64 P; __VA_ARGS__; }   \
    else { typedef Fma50 P; __VA_ARGS__; }                 \
  } while (0)
#else
#define BY_POLICY(row, ...) do { typedef Fma50 P; __VA_ARGS__; } while (0)
#endif
