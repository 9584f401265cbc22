// Products of matrices with rows: out[i] = Σ weights[i][k]·a[k], of residues modulo primes and of words modulo 2^64.
//
// Compile with -DWIDE=0 or 1. Weights carry a factor 2^64 modulo their prime, so that sums of 128 bits need one reduction.
// Blocks take BM rows and BN columns, 16 terms at a time through shared memory.
#define SHIM_HERE
#include "residues.cuh"

// Below 2^50: high = fl₀(a·b + 2^104) = 2^104 + 2^52·⌊a·b/2^52⌋, and low = a·b − 2^52·⌊a·b/2^52⌋ + 2^52, both exact as a·b <
// 2^100. The bits of such doubles are those of 2^104 and 2^52 plus the integers, below 2^48 and 2^52; so sums of the bits
// less those constants are sums of the integers: k·2^52 ≤ 2^63 for k ≤ 2^11 terms. (Emmart, Zhu and Chen, 2018.)
struct Narrow {
  typedef double A;
  static constexpr double C104 = 20282409603651670423947251286016.0, C52 = 4503599627370496.0;
  struct Sums {
    u64 high, low;
  };
  DEVICE static A load(u64 x) { return Fma50::integer(x); }
  DEVICE static void begin() { TOWARDS_ZERO; }
  DEVICE static void end() { TO_NEAREST; }
  DEVICE static void add(Sums& c, A a, A b) {
    const double high = fma_to_zero(a, b, C104);
    const double low = fma_to_zero(a, b, plus(C104 + C52, -high));
    c.high += bits_of(high);
    c.low += bits_of(low);
  }
  DEVICE static void settle(Sums&, const u64*) {}
  DEVICE static u64 value(const Sums& c, int terms, const u64* row) {
    const u64 high = c.high - terms * bits_of(C104), low = c.low - terms * bits_of(C52);
    u64 top = high >> 12, bottom = high << 52;
    bottom += low;
    top += bottom < low;
    return montgomery(top, bottom, row[0], row[2]);
  }
  DEVICE static u64 plus_there(u64 a, u64 b, const u64* row) { return least(a + b, a + b - row[0]); }
};

// Up to 2^60: 16 products of a tile, and a residue, are below 2^64·q.
struct Wide {
  typedef u64 A;
  struct Sums {
    u64 high, low, settled;
  };
  DEVICE static A load(u64 x) { return x; }
  DEVICE static void begin() {}
  DEVICE static void end() {}
  DEVICE static void add(Sums& c, A a, A b) {
    const u64 low = a * b;
    c.low += low;
    c.high += high64(a, b) + (c.low < low);
  }
  DEVICE static void settle(Sums& c, const u64* row) {
    c.settled = plus_there(c.settled, montgomery(c.high, c.low, row[0], row[2]), row);
    c.high = c.low = 0;
  }
  DEVICE static u64 value(const Sums& c, int, const u64*) { return c.settled; }
  DEVICE static u64 plus_there(u64 a, u64 b, const u64* row) { return least(a + b, a + b - row[0]); }
};

struct Word {
  typedef u64 A;
  struct Sums {
    u64 s;
  };
  DEVICE static A load(u64 x) { return x; }
  DEVICE static void begin() {}
  DEVICE static void end() {}
  DEVICE static void add(Sums& c, A a, A b) { c.s += a * b; }
  DEVICE static void settle(Sums&, const u64*) {}
  DEVICE static u64 value(const Sums& c, int, const u64*) { return c.s; }
  DEVICE static u64 plus_there(u64 a, u64 b, const u64*) { return a + b; }
};

#define BK 16

// right(k) and out(row) are where the block's first column is, of which there are `width`.
template <class G, int BM, int BN, int TM, int TN, class Right, class Out>
DEVICE void multiply(const u64* weights, int rows, int terms, int stride, const Right& right, const Out& out,
                     const u64* row_of_prime, int adds, int width = BN) {
  constexpr int ACROSS = BN / TN, COUNT = (BM / TM) * ACROSS;
  struct Tiles {
    typename G::A a[BK][BM + 1], b[BK][BN];
  };
  SHARED(Tiles, tiles);
  const int row0 = BLOCK_X * BM;
  PER_THREAD(typename G::Sums, sums, TM * TN);
  THREADS(tid) {
    UNROLL for (int j = 0; j < TM * TN; ++j) (MINE(sums))[j] = typename G::Sums();
  }
  for (int k0 = 0; k0 < terms; k0 += BK) {
    THREADS(tid) {
      UNROLL for (int j = tid; j < BM * BK; j += COUNT) {
        const int row = row0 + j / BK, k = k0 + j % BK;
        tiles->a[j % BK][j / BK] = G::load(row < rows && k < terms ? weights[(u64)row * stride + k] : 0);
      }
      UNROLL for (int j = tid; j < BN * BK; j += COUNT) {
        const int k = k0 + j / BN;
        tiles->b[j / BN][j % BN] = G::load(k < terms && j % BN < width ? right(k)[j % BN] : 0);
      }
    }
    BARRIER;
    THREADS(tid) {
      const int row = tid / ACROSS, column = tid % ACROSS;
      G::begin();
      UNROLL_BY_4 for (int k = 0; k < BK; ++k) {
        typename G::A left[TM], top[TN];
        UNROLL for (int i = 0; i < TM; ++i) left[i] = tiles->a[k][row + i * (BM / TM)];
        UNROLL for (int j = 0; j < TN; ++j) top[j] = tiles->b[k][column + j * ACROSS];
        UNROLL for (int i = 0; i < TM; ++i) {
          UNROLL for (int j = 0; j < TN; ++j) G::add(MINE(sums)[i * TN + j], left[i], top[j]);
        }
      }
      G::end();
      UNROLL for (int j = 0; j < TM * TN; ++j) G::settle(MINE(sums)[j], row_of_prime);
    }
    BARRIER;
  }
  const int summed = (terms + BK - 1) / BK * BK;
  THREADS(tid) {
    UNROLL for (int i = 0; i < TM; ++i) {
      UNROLL for (int j = 0; j < TN; ++j) {
        const int row = row0 + tid / ACROSS + i * (BM / TM), column = tid % ACROSS + j * ACROSS;
        if (row < rows && column < width) {
          const u64 value = G::value(MINE(sums)[i * TN + j], summed, row_of_prime);
          u64* where = out(row) + column;
          *where = adds ? G::plus_there(*where, value, row_of_prime) : value;
        }
      }
    }
  }
}

// weights: [limbs][rows][stride], of which `terms` are read; a and out: addresses of (count, limbs, N). Terms ≤ 2048.
// Grid: x rows, y columns of all polynomials, z limbs.
template <class G, int BM, int BN, int TM, int TN>
DEVICE void of_residues(const u64* weights, const u64* a, const u64* out, const int* basis, int limbs, int rows,
                        int terms, int stride, int adds, int log_n, const u64* mods) {
  const u64 column = (u64)BLOCK_Y * BN, at = column >> log_n, n = 1ull << log_n;
  const u64 offset = (at * limbs + BLOCK_Z) * n + (column & (n - 1));
  multiply<G, BM, BN, TM, TN>(
      weights + (u64)BLOCK_Z * rows * stride, rows, terms, stride, [&](int k) { return (const u64*)a[k] + offset; },
      [&](int row) { return (u64*)out[row] + offset; }, mods + basis[BLOCK_Z] * MOD_WORDS, adds);
}

#define OF_LIMBS const u64 *weights, const u64 *a, const u64 *out, const int *basis, int limbs, int rows, int terms, \
                 int stride, int adds, int log_n, const u64 *mods
#if WIDE
#define BY_LIMB(BM, BN, TM, TN)                                                                                     \
  if (IS_LONG(mods + basis[BLOCK_Z] * MOD_WORDS))                                                                    \
    of_residues<Wide, BM, BN, TM, TN>(weights, a, out, basis, limbs, rows, terms, stride, adds, log_n, mods);        \
  else                                                                                                               \
    of_residues<Narrow, BM, BN, TM, TN>(weights, a, out, basis, limbs, rows, terms, stride, adds, log_n, mods)
#else
#define BY_LIMB(BM, BN, TM, TN) \
  of_residues<Narrow, BM, BN, TM, TN>(weights, a, out, basis, limbs, rows, terms, stride, adds, log_n, mods)
#endif

KERNEL_TOGETHER(128, 4) product_16(OF_LIMBS) { BY_LIMB(16, 64, 4, 2); }
KERNEL_TOGETHER(256, WIDE ? 1 : 2) product_64(OF_LIMBS) { BY_LIMB(64, 64, 4, 4); }

// Words: a (terms, columns), out (rows, columns). Grid: x rows, y columns.
template <int BM, int BN, int TM, int TN>
DEVICE void of_words(const u64* weights, const u64* a, u64* out, int rows, int terms, u64 columns, int adds) {
  const u64 offset = (u64)BLOCK_Y * BN;
  multiply<Word, BM, BN, TM, TN>(weights, rows, terms, terms, [&](int k) { return a + k * columns + offset; },
                                 [&](int row) { return out + row * columns + offset; }, nullptr, adds,
                                 columns - offset < BN ? (int)(columns - offset) : BN);
}
KERNEL(128) words_16(const u64* weights, const u64* a, u64* out, int rows, int terms, u64 columns, int adds) {
  of_words<16, 64, 4, 2>(weights, a, out, rows, terms, columns, adds);
}
KERNEL(256) words_64(const u64* weights, const u64* a, u64* out, int rows, int terms, u64 columns, int adds) {
  of_words<64, 64, 4, 4>(weights, a, out, rows, terms, columns, adds);
}
