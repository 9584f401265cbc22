// Negacyclic number-theoretic transforms of one limb a block, in shared memory, in one launch for N = 2^LOGN ≤ 2^14.
//
// Forward is Cooley–Tukey from natural to bit-reversed order, inverse Gentleman–Sande back (Longa and Naehrig, 2016). A
// thread takes 2^LOGE elements through several stages in registers (a pass); between passes they go through shared
// memory, padded against bank conflicts, with one barrier. The first pass reads global memory and the last, which holds
// neighbours, passes its results on within a warp, so that both sides are coalesced.
//
// Twiddles are stored in the order in which passes read them: for a pass that begins at stage S with 2^S groups, its
// j-th twiddle (stage k's are 2^k − 1 … 2^(k+1) − 2) of group h is table[2^S − 1 + j·2^S + h]. Sum over the passes: N − 1.
#pragma once
#include "arith.cuh"

// STAGES stages, from stage START of a transform of 2^LOGBUF elements in the buffer; SHIFT more are done before it, so that
// group h there is group h + offset of stage START + SHIFT of the limb.
template <int LOGBUF_, int LOGE_, int STAGES = LOGBUF_, int START = 0, int SHIFT_ = 0>
struct Passes {
  static constexpr int LOGBUF = LOGBUF_, LOGE = LOGE_, SHIFT = SHIFT_;
  static constexpr int COUNT = (STAGES + LOGE - 1) / LOGE, THREADS_OF = (1 << LOGBUF) >> LOGE;
  HOST_TOO static constexpr int length(int pass) { return STAGES / COUNT + (pass >= COUNT - STAGES % COUNT ? 1 : 0); }
  HOST_TOO static constexpr int first_stage(int pass) {
    return pass == 0 ? START : first_stage(pass - 1) + length(pass - 1);
  }
};

template <class P, class S>
DEVICE int padded(int i) {
  constexpr int last = S::length(S::COUNT - 1);
  return i + (i >> (last > P::PAD ? last : P::PAD));
}

// Stages K, K + 1, … L − 1 of a pass, a template each: loops whose bounds depend on an outer one are not unrolled in time,
// and an array indexed at run time would go to local memory.
template <class P, int L, int K, int FIRST>
DEVICE void forward_stages(typename P::T* x, const typename P::W* twiddle, const typename P::Mod& m) {
  constexpr int HALF = (1 << L) >> (K + 1);
  UNROLL for (int j = 0; j < (1 << L) / 2; ++j) {
    const int group = j / HALF, u = j + group * HALF;
    P::forward_step(x[u], x[u + HALF], twiddle[((1 << K) - 1 + group) << FIRST], m);
  }
  if constexpr (K + 1 < L) forward_stages<P, L, K + 1, FIRST>(x, twiddle, m);
}

template <class P, int L, int K, int FIRST, class S>
DEVICE void inverse_stages(typename P::T* x, float* bound, const typename P::W* twiddle, const typename P::Mod& m) {
  constexpr int HALF = (1 << L) >> (K + 1);
  UNROLL for (int j = 0; j < (1 << L) / 2; ++j) {
    const int group = j / HALF, u = j + group * HALF, v = u + HALF;
    const typename P::W w = twiddle[((1 << K) - 1 + group) << (FIRST + S::SHIFT)];
    P::inverse_step(x[u], x[v], w, m, S::LOGBUF - 1 - FIRST - K, bound[u], bound[v]);
  }
  if constexpr (K > 0) inverse_stages<P, L, K - 1, FIRST, S>(x, bound, twiddle, m);
}

template <class P, class S, int PASS, class Load>
DEVICE void forward_pass(typename P::T* buffer, const typename P::Mod& m, const typename P::W* table, const Load& load,
                         int offset, int tid) {
  constexpr int FIRST = S::first_stage(PASS), L = S::length(PASS), R = 1 << L, LOW = S::LOGBUF - FIRST - L;
  UNROLL for (int g = 0; g < (1 << S::LOGE) / R; ++g) {
    const int unit = tid + g * S::THREADS_OF, high = unit >> LOW;
    const int base = (high << (LOW + L)) | (unit & ((1 << LOW) - 1));
    const typename P::W* twiddle = table + (1 << (FIRST + S::SHIFT)) - 1 + high + (offset << (FIRST - S::first_stage(0)));
    typename P::T x[R];
    UNROLL for (int e = 0; e < R; ++e) {
      const int i = base + (e << LOW);
      x[e] = PASS == 0 ? load(i) : buffer[padded<P, S>(i)];
    }
    P::forward_start(x, R, PASS == 0 && L <= 4, m);
    forward_stages<P, L, 0, FIRST + S::SHIFT>(x, twiddle, m);
    UNROLL for (int e = 0; e < R; ++e) buffer[padded<P, S>(base + (e << LOW))] = x[e];
  }
}

template <class P, class S, int PASS, class Store>
DEVICE void inverse_pass(typename P::T* buffer, const typename P::Mod& m, const typename P::W* table,
                         const Store& store, int offset, int tid) {
  constexpr int FIRST = S::first_stage(PASS), L = S::length(PASS), R = 1 << L, LOW = S::LOGBUF - FIRST - L;
  UNROLL for (int g = 0; g < (1 << S::LOGE) / R; ++g) {
    const int unit = tid + g * S::THREADS_OF, high = unit >> LOW;
    const int base = (high << (LOW + L)) | (unit & ((1 << LOW) - 1));
    const typename P::W* twiddle = table + (1 << (FIRST + S::SHIFT)) - 1 + high + (offset << (FIRST - S::first_stage(0)));
    typename P::T x[R];
    float bound[R];
    UNROLL for (int e = 0; e < R; ++e) {
      x[e] = buffer[padded<P, S>(base + (e << LOW))];
      bound[e] = 1.0f;
    }
    inverse_stages<P, L, L - 1, FIRST, S>(x, bound, twiddle, m);
    UNROLL for (int e = 0; e < R; ++e) {
      const int i = base + (e << LOW);
      if (FIRST == 0) {  // the twiddle of the last stage carries 1/N already; the other half is scaled here
        if (e < R / 2) {
          P::inverse_end(x[e], bound[e] > 4.0f ? bound[e] : 0.0f, m);
          x[e] = P::product(x[e], m.scale, m);
        }
        store(i, x[e]);
      } else {
        P::inverse_end(x[e], bound[e], m);
        buffer[padded<P, S>(i)] = x[e];
      }
    }
  }
}

// The element that a thread moves between global memory and its warp's part of the buffer: coalesced.
template <class S>
DEVICE int moved(int tid, int e) {
  constexpr int L = S::length(S::COUNT - 1), R = 1 << L;
  return (((tid & ~31) + (e / R) * S::THREADS_OF) << L) + (e % R) * 32 + (tid & 31);
}

template <class P, class S, int PASS, class Load>
DEVICE void forward_passes(typename P::T* buffer, const typename P::Mod& m, const typename P::W* table,
                           const Load& load, int offset = 0) {
  THREADS(tid) { forward_pass<P, S, PASS>(buffer, m, table, load, offset, tid); }
  if constexpr (PASS + 1 < S::COUNT) {
    BARRIER;
    forward_passes<P, S, PASS + 1>(buffer, m, table, load, offset);
  }
}

template <class P, class S, int PASS, class Store>
DEVICE void inverse_passes(typename P::T* buffer, const typename P::Mod& m, const typename P::W* table,
                           const Store& store, int offset = 0) {
  THREADS(tid) { inverse_pass<P, S, PASS>(buffer, m, table, store, offset, tid); }
  if constexpr (PASS > 0) {
    BARRIER;
    inverse_passes<P, S, PASS - 1>(buffer, m, table, store, offset);
  }
}

// in, out: [blocks][N]; limb b is modulo prime b mod primes; table: [primes][N]; mods: [primes][MOD_WORDS].
template <class P, int LOGN, int LOGE>
DEVICE void ntt_forward(const typename P::Word* in, typename P::Word* out, const typename P::W* table, const u64* mods,
                        int primes) {
  typedef Passes<LOGN, LOGE> S;
  SHARED(typename P::T, buffer);
  const int prime = BLOCK_X % primes;
  const typename P::Mod m = P::read(mods + prime * MOD_WORDS);
  in += (u64)BLOCK_X << LOGN;
  out += (u64)BLOCK_X << LOGN;
  forward_passes<P, S, 0>(buffer, m, table + ((u64)prime << LOGN), [&](int i) { return P::load(in[i], m); });
  WARP_BARRIER;
  THREADS(tid) {
    UNROLL for (int e = 0; e < (1 << LOGE); ++e) {
      const int i = moved<S>(tid, e);
      out[i] = P::store(buffer[padded<P, S>(i)], m);
    }
  }
}

template <class P, int LOGN, int LOGE>
DEVICE void ntt_inverse(const typename P::Word* in, typename P::Word* out, const typename P::W* table, const u64* mods,
                        int primes) {
  typedef Passes<LOGN, LOGE> S;
  SHARED(typename P::T, buffer);
  const int prime = BLOCK_X % primes;
  const typename P::Mod m = P::read(mods + prime * MOD_WORDS);
  in += (u64)BLOCK_X << LOGN;
  out += (u64)BLOCK_X << LOGN;
  THREADS(tid) {
    UNROLL for (int e = 0; e < (1 << LOGE); ++e) {
      const int i = moved<S>(tid, e);
      buffer[padded<P, S>(i)] = P::load(in[i], m);
    }
  }
  WARP_BARRIER;
  inverse_passes<P, S, S::COUNT - 1>(buffer, m, table + ((u64)prime << LOGN),
                                     [&](int i, typename P::T x) { out[i] = P::store(x, m); });
}

// A transform in two launches, for few limbs: the first half of the stages on tiles of 16 columns of a limb seen as
// 2^FIRST rows, the rest on 8 neighbouring rows; 2^(LOGN - FIRST - 4) and 2^(FIRST - 3) blocks a limb work at once.
// Between the launches residues are canonical, in `out`; the inverse goes the other way. Grid: x tiles, y limbs.
template <int LOGN, int LOGE>
struct Halves {
  static constexpr int FIRST = LOGN / 2;
  typedef Passes<FIRST + 4, LOGE, FIRST> Columns;
  typedef Passes<LOGN - FIRST + 3, LOGE, LOGN - FIRST, 3, FIRST - 3> Rows;
};

template <class P, int LOGN, int LOGE>
DEVICE void ntt_columns(const typename P::Word* in, typename P::Word* out, const typename P::W* table, const u64* mods,
                        int primes) {
  typedef typename Halves<LOGN, LOGE>::Columns S;
  constexpr int ACROSS = LOGN - Halves<LOGN, LOGE>::FIRST;
  SHARED(typename P::T, buffer);
  const int prime = BLOCK_Y % primes;
  const typename P::Mod m = P::read(mods + prime * MOD_WORDS);
  const u64 at = ((u64)BLOCK_Y << LOGN) + BLOCK_X * 16;
  in += at;
  out += at;
  forward_passes<P, S, 0>(buffer, m, table + ((u64)prime << LOGN),
                          [&](int i) { return P::load(in[((i >> 4) << ACROSS) + (i & 15)], m); });
  BARRIER;
  THREADS(tid) {
    UNROLL for (int e = 0; e < (1 << LOGE); ++e) {
      const int i = tid + e * S::THREADS_OF;
      out[((i >> 4) << ACROSS) + (i & 15)] = P::store(buffer[padded<P, S>(i)], m);
    }
  }
}

template <class P, int LOGN, int LOGE>
DEVICE void ntt_rows(typename P::Word* out, const typename P::W* table, const u64* mods, int primes) {
  typedef typename Halves<LOGN, LOGE>::Rows S;
  SHARED(typename P::T, buffer);
  const int prime = BLOCK_Y % primes;
  const typename P::Mod m = P::read(mods + prime * MOD_WORDS);
  out += ((u64)BLOCK_Y << LOGN) + ((u64)BLOCK_X << S::LOGBUF);
  forward_passes<P, S, 0>(buffer, m, table + ((u64)prime << LOGN), [&](int i) { return P::load(out[i], m); },
                          BLOCK_X * 8);
  WARP_BARRIER;
  THREADS(tid) {
    UNROLL for (int e = 0; e < (1 << LOGE); ++e) {
      const int i = moved<S>(tid, e);
      out[i] = P::store(buffer[padded<P, S>(i)], m);
    }
  }
}

template <class P, int LOGN, int LOGE>
DEVICE void inverse_rows(const typename P::Word* in, typename P::Word* out, const typename P::W* table, const u64* mods,
                         int primes) {
  typedef typename Halves<LOGN, LOGE>::Rows S;
  SHARED(typename P::T, buffer);
  const int prime = BLOCK_Y % primes;
  const typename P::Mod m = P::read(mods + prime * MOD_WORDS);
  const u64 at = ((u64)BLOCK_Y << LOGN) + ((u64)BLOCK_X << S::LOGBUF);
  in += at;
  out += at;
  THREADS(tid) {
    UNROLL for (int e = 0; e < (1 << LOGE); ++e) {
      const int i = moved<S>(tid, e);
      buffer[padded<P, S>(i)] = P::load(in[i], m);
    }
  }
  WARP_BARRIER;
  inverse_passes<P, S, S::COUNT - 1>(buffer, m, table + ((u64)prime << LOGN), [](int, typename P::T) {}, BLOCK_X * 8);
  BARRIER;
  THREADS(tid) {
    UNROLL for (int e = 0; e < (1 << LOGE); ++e) {
      const int i = tid + e * S::THREADS_OF;
      out[i] = P::store(buffer[padded<P, S>(i)], m);
    }
  }
}

template <class P, int LOGN, int LOGE>
DEVICE void inverse_columns(typename P::Word* out, const typename P::W* table, const u64* mods, int primes) {
  typedef typename Halves<LOGN, LOGE>::Columns S;
  constexpr int ACROSS = LOGN - Halves<LOGN, LOGE>::FIRST;
  SHARED(typename P::T, buffer);
  const int prime = BLOCK_Y % primes;
  const typename P::Mod m = P::read(mods + prime * MOD_WORDS);
  out += ((u64)BLOCK_Y << LOGN) + BLOCK_X * 16;
  THREADS(tid) {
    UNROLL for (int e = 0; e < (1 << LOGE); ++e) {
      const int i = tid + e * S::THREADS_OF;
      buffer[padded<P, S>(i)] = P::load(out[((i >> 4) << ACROSS) + (i & 15)], m);
    }
  }
  BARRIER;
  inverse_passes<P, S, S::COUNT - 1>(
      buffer, m, table + ((u64)prime << LOGN),
      [&](int i, typename P::T x) { out[((i >> 4) << ACROSS) + (i & 15)] = P::store(x, m); });
}
