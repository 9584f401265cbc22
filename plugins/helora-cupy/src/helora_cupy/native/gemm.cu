// Exact integer matrix products c[m][n] = a[m][k] · b[k][n], row-major, in tiles through shared memory.
//
//   Wrap        modulo 2^64, any u64 by any u64: the wrap limb of a pool's offline round, and its online step
//   WrapSmall   modulo 2^64, b unsigned below 2^32 (a signed weight plus an offset; the caller takes offset · Σa away)
//   Integer128  modulo q < 2^50, sums of 128 bits; b times 2^64 modulo q; k ≤ 2^14
//   Fma         the same with doubles: a product of 100 bits is split into two of 52 by fused steps that round to zero
//               (Emmart, Zhu and Chen, 2018); k ≤ 2^11 a slice
//   FmaSmall    modulo q < 2^50, b signed, |b| < 2^20: a in two halves of 25 bits
//
// The grid's z cuts k into slices, whose results are added atomically to a c that holds zeros: exact in any order. Results
// modulo q are then sums of canonical residues; `canonical` reduces them.
#define SHIM_HERE
#include "arith.cuh"

// a·2^-64 modulo q of a 128-bit sum below 2^64·q.
DEVICE u64 montgomery_reduce(u64 high, u64 low, u64 q, u64 minus_inverse) {
  const u64 r = high + high64(low * minus_inverse, q) + (low != 0);
  return least(r, r - q);
}

DEVICE void add128(u64& high, u64& low, u64 x) {
  low += x;
  high += low < x;
}

struct Plain {
  DEVICE static void begin() {}
  DEVICE static void end() {}
};

struct Wrap : Plain {
  typedef u64 A;
  typedef u64 B;
  typedef u64 InB;
  struct Sum {
    u64 s;
  };
  DEVICE static A left(u64 x) { return x; }
  DEVICE static B right(u64 x) { return x; }
  DEVICE static void mac(Sum& c, A a, B b) { c.s += a * b; }
  DEVICE static void fold(Sum&) {}
  DEVICE static u64 value(Sum c, int, const u64*) { return c.s; }
};

struct WrapSmall : Wrap {
  typedef u32 B;
  typedef u32 InB;
  DEVICE static B right(u32 x) { return x; }
  DEVICE static void mac(Sum& c, A a, B b) { c.s += (u64)(u32)a * b + ((u64)((u32)(a >> 32) * b) << 32); }
};

struct Integer128 : Plain {
  typedef u64 A;
  typedef u64 B;
  typedef u64 InB;
  struct Sum {
    u64 high, low;
  };
  DEVICE static A left(u64 x) { return x; }
  DEVICE static B right(u64 x) { return x; }
  DEVICE static void mac(Sum& c, A a, B b) {
    const u64 low = a * b;
    c.low += low;
    c.high += high64(a, b) + (c.low < low);
  }
  DEVICE static void fold(Sum&) {}
  DEVICE static u64 value(Sum c, int, const u64* mod) { return montgomery_reduce(c.high, c.low, mod[0], mod[2]); }
};

// a, b < 2^50. high = fl₀(a·b + 2^104) = 2^104 + 2^52·⌊a·b/2^52⌋, and low = a·b − 2^52·⌊a·b/2^52⌋ + 2^52, both exact as
// a·b < 2^100. The bits of such doubles are those of 2^104 and 2^52 plus the integers, below 2^48 and 2^52; so sums of the
// bits less those constants are sums of the integers: k·2^52 ≤ 2^63 for k ≤ 2^11.
struct Fma {
  DEVICE static void begin() { TOWARDS_ZERO; }
  DEVICE static void end() { TO_NEAREST; }
  typedef double A;
  typedef double B;
  typedef u64 InB;
  static constexpr double C104 = 20282409603651670423947251286016.0, C52 = 4503599627370496.0;
  struct Sum {
    u64 high, low;
  };
  DEVICE static A left(u64 x) { return Fma50::integer(x); }
  DEVICE static B right(u64 x) { return Fma50::integer(x); }
  DEVICE static void mac(Sum& c, A a, B b) {
    const double high = fma_to_zero(a, b, C104);
    const double low = fma_to_zero(a, b, plus(C104 + C52, -high));
    c.high += bits_of(high);
    c.low += bits_of(low);
  }
  DEVICE static void fold(Sum&) {}
  DEVICE static u64 value(Sum c, int count, const u64* mod) {
    const u64 high = c.high - count * bits_of(C104), low = c.low - count * bits_of(C52);
    u64 top = high >> 12, bottom = high << 52;
    add128(top, bottom, low);
    return montgomery_reduce(top, bottom, mod[0], mod[2]);
  }
};

// Halves of a are below 2^25, |b| < 2^20: 64 products stay below 2^51. fold() moves them to integers, k·2^45 < 2^63.
struct FmaSmall : Plain {
  struct A {
    double high, low;
  };
  typedef double B;
  typedef double InB;
  struct Sum {
    double high, low;
    i64 high_sum, low_sum;
  };
  DEVICE static A left(u64 x) {
    return {Fma50::integer(x >> 25), Fma50::integer(x & 0x1ffffff)};
  }
  DEVICE static B right(double x) { return x; }
  DEVICE static void mac(Sum& c, const A& a, B b) {
    c.high = fma_nearest(a.high, b, c.high);
    c.low = fma_nearest(a.low, b, c.low);
  }
  DEVICE static void fold(Sum& c) {  // 1.5·2^52 plus an |x| < 2^51 has x in its bits
    const double shift = Fma50::M;
    c.high_sum += (i64)(bits_of(plus(c.high, shift)) - bits_of(shift));
    c.low_sum += (i64)(bits_of(plus(c.low, shift)) - bits_of(shift));
    c.high = c.low = 0;
  }
  // high·2^25 + low as a residue: both are brought into [0, q) first, then high·2^25 by a 128-bit product, [7] = 2^128
  // mod q undoing two Montgomery reductions.
  DEVICE static u64 residue(i64 x, const u64* mod) {
    const u64 q = mod[0], size = x < 0 ? 0 - (u64)x : (u64)x;
    u64 r = size - high64(size, mod[1]) * q;
    r = least(r, r - q);
    return x < 0 && r ? q - r : r;
  }
  DEVICE static u64 value(Sum c, int, const u64* mod) {
    fold(c);
    const u64 q = mod[0], high = residue(c.high_sum, mod), low = residue(c.low_sum, mod);
    const u64 scaled = high << 12;  // below 2^62; times 2^13 makes 2^25
    u64 t = scaled - high64(scaled, mod[1]) * q;
    t = least(t, t - q) << 13;
    t -= high64(t, mod[1]) * q;
    t = least(t, t - q) + low;
    return least(t, t - q);
  }
};

template <class G, int BM, int BN, int BK, int TM, int TN>
DEVICE void multiply(const u64* a, const typename G::InB* b, u64* c, const u64* mod, int rows, int depth, int columns,
                     int slice) {
  constexpr int ACROSS = BN / TN, COUNT = (BM / TM) * ACROSS;
  struct Tiles {
    typename G::A a[BK][BM + 1];
    typename G::B b[BK][BN];
  };
  SHARED(Tiles, tiles);
  const int row0 = BLOCK_X * BM, column0 = BLOCK_Y * BN;
  const int from = BLOCK_Z * slice, to = from + slice < depth ? from + slice : depth;
  PER_THREAD(typename G::Sum, sums, TM * TN);
  THREADS(tid) {
    UNROLL for (int j = 0; j < TM * TN; ++j) (MINE(sums))[j] = typename G::Sum();
  }
  for (int k0 = from; k0 < to; k0 += BK) {
    THREADS(tid) {
      UNROLL for (int j = tid; j < BM * BK; j += COUNT) {
        const int row = j / BK, k = j % BK;
        const bool inside = row0 + row < rows && k0 + k < to;
        tiles->a[k][row] = G::left(inside ? a[(u64)(row0 + row) * depth + k0 + k] : 0);
      }
      UNROLL for (int j = tid; j < BN * BK; j += COUNT) {
        const int k = j / BN, column = j % BN;
        const bool inside = column0 + column < columns && k0 + k < to;
        tiles->b[k][column] = G::right(inside ? b[(u64)(k0 + k) * columns + column0 + column] : 0);
      }
    }
    BARRIER;
    THREADS(tid) {
      const int row = tid / ACROSS, column = tid % ACROSS;
      G::begin();
      UNROLL_BY_4 for (int k = 0; k < BK; ++k) {
        typename G::A left[TM];
        typename G::B right[TN];
        UNROLL for (int i = 0; i < TM; ++i) left[i] = tiles->a[k][row + i * (BM / TM)];
        UNROLL for (int j = 0; j < TN; ++j) right[j] = tiles->b[k][column + j * ACROSS];
        UNROLL for (int i = 0; i < TM; ++i) {
          UNROLL for (int j = 0; j < TN; ++j) G::mac(MINE(sums)[i * TN + j], left[i], right[j]);
        }
      }
      G::end();
      if ((k0 - from) % 64 + BK >= 64) {
        UNROLL for (int j = 0; j < TM * TN; ++j) G::fold(MINE(sums)[j]);
      }
    }
    BARRIER;
  }
  const int padded_depth = from < to ? (to - from + BK - 1) / BK * BK : 0;
  THREADS(tid) {
    UNROLL for (int i = 0; i < TM; ++i) {
      UNROLL for (int j = 0; j < TN; ++j) {
        const int row = row0 + tid / ACROSS + i * (BM / TM), column = column0 + tid % ACROSS + j * ACROSS;
        if (row < rows && column < columns) {
          const u64 value = G::value(MINE(sums)[i * TN + j], padded_depth, mod);
          u64* where = c + (u64)row * columns + column;
          if (slice >= depth)
            *where = value;
          else
            ATOMIC_ADD(where, value);
        }
      }
    }
  }
}

#define PRODUCT(G, name, BM, BN, TM, TN)                                                                             \
  KERNEL(BM / TM * (BN / TN))                                                                                        \
  name(const u64* a, const G::InB* b, u64* c, const u64* mod, int rows, int depth, int columns, int slice) {         \
    multiply<G, BM, BN, 16, TM, TN>(a, b, c, mod, rows, depth, columns, slice);                                      \
  }
#define PRODUCTS(G, name)                 \
  PRODUCT(G, name##_16, 64, 16, 4, 2)     \
  PRODUCT(G, name##_32, 64, 32, 4, 4)     \
  PRODUCT(G, name##_64, 64, 64, 4, 4)

PRODUCTS(Wrap, wrap)
PRODUCTS(WrapSmall, wrap_small)
PRODUCTS(Integer128, integer128)
PRODUCTS(Fma, fma)
PRODUCTS(FmaSmall, fma_small)

// Sums of canonical residues to canonical, in place. Grid: x count/256.
KERNEL(256) canonical(u64* c, const u64* mod, int count) {
  THREADS(tid) {
    const int i = BLOCK_X * 256 + tid;
    if (i < count) {
      u64 x = c[i];
      x -= high64(x, mod[1]) * mod[0];
      c[i] = least(x, x - mod[0]);
    }
  }
}
