// Transforms of rings with any primes, by jobs: what is read, lifted, written, and taken from what, row by row.
//
// Compile with -DDEGREE_LOG=13 -DWIDE=0. A job is JOB_WORDS integers:
//   [0, 1] slot and row that are read   [2, 3] those written   [4] the prime   [5] 1: copy [0, 1] instead of transforming
//   [6] the prime that what is read is a residue of, lifted to least size, or −1 if it is of [4]
//   [7, 8] slot and row of what the transform is taken from, or −1   [9] the constant that multiplies the difference
// Slots are addresses in tables[run][slot], or without tables the first three are a, b and c, which have strides in words
// from run to run. Grid: x jobs (whole limbs), or x tiles and z jobs (halves); y runs.
#define SHIM_HERE
#include "ntt.cuh"
#include "residues.cuh"

#include "places.cuh"

#define JOB_WORDS 10
#define WHOLE_E (DEGREE_LOG == 10 ? 3 : 4)

struct Rings {
  const u64 *mods, *twiddles, *lifted, *constants;
  int primes;
};

// A residue modulo `other`, of least size, modulo the prime of m.
template <class P>
struct Lift;
template <>
struct Lift<Fma50> {
  u64 other, lifted, half;
  bool wide;
  DEVICE Fma50::T operator()(u64 x, const Fma50::Mod& m, const u64* row) const {
#if WIDE
    if (wide) return Fma50::integer(reduced(x + (x > half ? lifted : 0), row[0], row[1]));
#endif
    Fma50::T y = Fma50::integer(x);
    return x > half ? Fma50::reduce(plus(y, -Fma50::integer(other)), m) : Fma50::reduce(y, m);
  }
};
template <>
struct Lift<Long64> {
  u64 other, lifted, half;
  bool wide;
  DEVICE u64 operator()(u64 x, const Long64::Mod& m, const u64* row) const {
    return reduced(x + (x > half ? lifted : 0), row[0], row[1]);
  }
};

template <class P>
DEVICE Lift<P> lift_of(const int* job, const Rings& r) {
  if (job[6] < 0) return {0, 0, ~0ull, false};
  const u64* row = r.mods + job[6] * MOD_WORDS;
  return {row[0], r.lifted[job[6] * r.primes + job[4]], row[0] >> 1, row[9] > 50};
}

template <class P>
DEVICE const typename P::W* twiddles_of(const int* job, const Rings& r) {
  return (const typename P::W*)(r.twiddles + r.mods[job[4] * MOD_WORDS + 8]);
}

// What leaves: the transform, or the constant times (what it is taken from − the transform).
DEVICE Fma50::T taken(u64 b, Fma50::T x, const Fma50::Mod& m) {
  return plus(Fma50::integer(b), -Fma50::reduce(x, m));  // below 1.5q
}
DEVICE Long64::T taken(u64 b, Long64::T x, const Long64::Mod& m) {
  return b + 4 * m.q - x;
}
template <class P>
DEVICE u64 finished(typename P::T x, int i, const u64* from, const typename P::W& constant, const typename P::Mod& m) {
  return P::store(from ? P::product(taken(from[i], x, m), constant, m) : x, m);
}
template <class P>
DEVICE typename P::W constant_of(const int* job, const Rings& r) {
  return job[7] < 0 ? typename P::W() : *(const typename P::W*)(r.constants + 2 * job[9]);
}

DEVICE void copied(const u64* in, u64* out, int count) {
  THREADS(tid) {
    for (int i = tid; i < count; i += BLOCK_THREADS) out[i] = in[i];
  }
}

template <class P, class S, bool ROWS>
DEVICE void forward_of(const Place& place, const int* job, const Rings& r, const u64* in, u64* out, const u64* from) {
  constexpr int ACROSS = DEGREE_LOG - DEGREE_LOG / 2;
  constexpr bool WHOLE = S::LOGBUF == DEGREE_LOG && !ROWS;
  SHARED(typename P::T, buffer);
  const u64* row = r.mods + job[4] * MOD_WORDS;
  const typename P::Mod m = P::read(row);
  const typename P::W constant = constant_of<P>(job, r);
  const typename P::W* table = twiddles_of<P>(job, r);
  if constexpr (ROWS) {
    forward_passes<P, S, 0>(buffer, m, table, [&](int i) { return P::load(out[i], m); }, BLOCK_X * 8);
  } else {
    const Lift<P> lift = lift_of<P>(job, r);
    forward_passes<P, S, 0>(buffer, m, table,
                            [&](int i) { return lift(in[WHOLE ? i : ((i >> 4) << ACROSS) + (i & 15)], m, row); });
  }
  if constexpr (WHOLE || ROWS) {
    WARP_BARRIER;
    THREADS(tid) {
      UNROLL for (int e = 0; e < (1 << S::LOGE); ++e) {
        const int i = moved<S>(tid, e);
        out[i] = finished<P>(buffer[padded<P, S>(i)], i, from, constant, m);
      }
    }
  } else {
    BARRIER;
    THREADS(tid) {
      UNROLL for (int e = 0; e < (1 << S::LOGE); ++e) {
        const int i = tid + e * S::THREADS_OF;
        out[((i >> 4) << ACROSS) + (i & 15)] = P::store(buffer[padded<P, S>(i)], m);
      }
    }
  }
}

template <class P, class S, bool ROWS>
DEVICE void inverse_of(const int* job, const Rings& r, const u64* in, u64* out) {
  constexpr int ACROSS = DEGREE_LOG - DEGREE_LOG / 2;
  constexpr bool WHOLE = S::LOGBUF == DEGREE_LOG && !ROWS;
  SHARED(typename P::T, buffer);
  const typename P::Mod m = P::read(r.mods + job[4] * MOD_WORDS);
  const typename P::W* table = twiddles_of<P>(job, r);
  THREADS(tid) {
    UNROLL for (int e = 0; e < (1 << S::LOGE); ++e) {
      const int i = WHOLE || ROWS ? moved<S>(tid, e) : tid + e * S::THREADS_OF;
      const int at = WHOLE || ROWS ? i : ((i >> 4) << ACROSS) + (i & 15);
      buffer[padded<P, S>(i)] = P::load((ROWS || WHOLE ? in : out)[at], m);
    }
  }
  if constexpr (WHOLE || ROWS)
    WARP_BARRIER;
  else
    BARRIER;
  if constexpr (ROWS) {
    inverse_passes<P, S, S::COUNT - 1>(buffer, m, table, [](int, typename P::T) {}, BLOCK_X * 8);
    BARRIER;
    THREADS(tid) {
      UNROLL for (int e = 0; e < (1 << S::LOGE); ++e) {
        const int i = tid + e * S::THREADS_OF;
        out[i] = P::store(buffer[padded<P, S>(i)], m);
      }
    }
  } else {
    inverse_passes<P, S, S::COUNT - 1>(buffer, m, table, [&](int i, typename P::T x) {
      out[WHOLE ? i : ((i >> 4) << ACROSS) + (i & 15)] = P::store(x, m);
    });
  }
}

#define PLACES const u64 *tables, int slots, u64 *a, u64 *b, u64 *c, u64 stride_a, u64 stride_b, u64 stride_c
#define RINGS const int *jobs, const u64 *mods, const u64 *twiddles, const u64 *lifted, const u64 *constants, int primes
#define ROW (mods + job[4] * MOD_WORDS)
#define BEGIN(axis)                                                                                                  \
  const Place place = {tables, slots, {a, b, c}, {stride_a, stride_b, stride_c}};                                    \
  const Rings r = {mods, twiddles, lifted, constants, primes};                                                       \
  const int* job = jobs + axis * JOB_WORDS;                                                                          \
  const u64* in = place.at(job[0], job[1], DEGREE_LOG);                                                              \
  u64* out = place.at(job[2], job[3], DEGREE_LOG)

#if DEGREE_LOG <= 14
typedef Passes<DEGREE_LOG, WHOLE_E> Whole;
#define TOGETHER_OF(E) ((1024 << E) >> DEGREE_LOG ? (1024 << E) >> DEGREE_LOG : 1)
KERNEL_TOGETHER(Whole::THREADS_OF, TOGETHER_OF(WHOLE_E)) forward_whole(PLACES, RINGS) {
  BEGIN(BLOCK_X);
  const u64* from = job[7] < 0 ? nullptr : place.at(job[7], job[8], DEGREE_LOG);
  if (job[5])
    copied(in, out, 1 << DEGREE_LOG);
  else
    BY_POLICY(ROW, (forward_of<P, Whole, false>(place, job, r, in, out, from)));
}
KERNEL_TOGETHER(Whole::THREADS_OF, TOGETHER_OF(WHOLE_E)) inverse_whole(PLACES, RINGS) {
  BEGIN(BLOCK_X);
  BY_POLICY(ROW, (inverse_of<P, Whole, false>(job, r, in, out)));
}
#endif

#define HALF_E (DEGREE_LOG < 12 ? 2 : 3)
typedef Halves<DEGREE_LOG, HALF_E>::Columns Columns;
typedef Halves<DEGREE_LOG, HALF_E>::Rows Rows;

KERNEL_TOGETHER(Columns::THREADS_OF, 1024 / Columns::THREADS_OF) forward_columns(PLACES, RINGS) {
  BEGIN(BLOCK_Z);
  if (job[5]) {
    copied(in + ((u64)BLOCK_X << Columns::LOGBUF), out + ((u64)BLOCK_X << Columns::LOGBUF), 1 << Columns::LOGBUF);
  } else {
    in += BLOCK_X * 16;
    out += BLOCK_X * 16;
    BY_POLICY(ROW, (forward_of<P, Columns, false>(place, job, r, in, out, nullptr)));
  }
}
KERNEL_TOGETHER(Rows::THREADS_OF, 1024 / Rows::THREADS_OF) forward_rows(PLACES, RINGS) {
  BEGIN(BLOCK_Z);
  const u64 tile = (u64)BLOCK_X << Rows::LOGBUF;
  const u64* from = job[7] < 0 ? nullptr : place.at(job[7], job[8], DEGREE_LOG) + tile;
  if (!job[5]) BY_POLICY(ROW, (forward_of<P, Rows, true>(place, job, r, in, out + tile, from)));
}
KERNEL_TOGETHER(Rows::THREADS_OF, 1024 / Rows::THREADS_OF) inverse_rows(PLACES, RINGS) {
  BEGIN(BLOCK_Z);
  const u64 tile = (u64)BLOCK_X << Rows::LOGBUF;
  BY_POLICY(ROW, (inverse_of<P, Rows, true>(job, r, in + tile, out + tile)));
}
KERNEL_TOGETHER(Columns::THREADS_OF, 1024 / Columns::THREADS_OF) inverse_columns(PLACES, RINGS) {
  BEGIN(BLOCK_Z);
  BY_POLICY(ROW, (inverse_of<P, Columns, false>(job, r, in, out + BLOCK_X * 16)));
}
