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

template <int LOGN, int LOGE>
struct Passes {
  static constexpr int COUNT = (LOGN + LOGE - 1) / LOGE;
  static constexpr int N = 1 << LOGN, THREADS_OF = N >> LOGE;
  HOST_TOO static constexpr int length(int pass) { return LOGN / COUNT + (pass >= COUNT - LOGN % COUNT ? 1 : 0); }
  HOST_TOO static constexpr int first_stage(int pass) { return pass == 0 ? 0 : first_stage(pass - 1) + length(pass - 1); }
};

template <class P, int LOGN, int LOGE>
DEVICE int padded(int i) {
  constexpr int last = Passes<LOGN, LOGE>::length(Passes<LOGN, LOGE>::COUNT - 1);
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

template <class P, int L, int K, int FIRST, int LOGN>
DEVICE void inverse_stages(typename P::T* x, float* bound, const typename P::W* twiddle, const typename P::Mod& m) {
  constexpr int HALF = (1 << L) >> (K + 1);
  UNROLL for (int j = 0; j < (1 << L) / 2; ++j) {
    const int group = j / HALF, u = j + group * HALF, v = u + HALF;
    P::inverse_step(x[u], x[v], twiddle[((1 << K) - 1 + group) << FIRST], m, LOGN - 1 - FIRST - K, bound[u], bound[v]);
  }
  if constexpr (K > 0) inverse_stages<P, L, K - 1, FIRST, LOGN>(x, bound, twiddle, m);
}

template <class P, int LOGN, int LOGE, int PASS, class Load>
DEVICE void forward_pass(typename P::T* buffer, const typename P::Mod& m, const typename P::W* table, const Load& load,
                         int tid) {
  typedef Passes<LOGN, LOGE> S;
  constexpr int FIRST = S::first_stage(PASS), L = S::length(PASS), R = 1 << L, LOW = LOGN - FIRST - L;
  UNROLL for (int g = 0; g < (1 << LOGE) / R; ++g) {
    const int unit = tid + g * S::THREADS_OF, high = unit >> LOW;
    const int base = (high << (LOW + L)) | (unit & ((1 << LOW) - 1));
    const typename P::W* twiddle = table + (1 << FIRST) - 1 + high;
    typename P::T x[R];
    UNROLL for (int e = 0; e < R; ++e) {
      const int i = base + (e << LOW);
      x[e] = PASS == 0 ? load(i) : buffer[padded<P, LOGN, LOGE>(i)];
    }
    P::forward_start(x, R, PASS == 0 && L <= 4, m);
    forward_stages<P, L, 0, FIRST>(x, twiddle, m);
    UNROLL for (int e = 0; e < R; ++e) buffer[padded<P, LOGN, LOGE>(base + (e << LOW))] = x[e];
  }
}

template <class P, int LOGN, int LOGE, int PASS, class Store>
DEVICE void inverse_pass(typename P::T* buffer, const typename P::Mod& m, const typename P::W* table,
                         const Store& store, int tid) {
  typedef Passes<LOGN, LOGE> S;
  constexpr int FIRST = S::first_stage(PASS), L = S::length(PASS), R = 1 << L, LOW = LOGN - FIRST - L;
  UNROLL for (int g = 0; g < (1 << LOGE) / R; ++g) {
    const int unit = tid + g * S::THREADS_OF, high = unit >> LOW;
    const int base = (high << (LOW + L)) | (unit & ((1 << LOW) - 1));
    const typename P::W* twiddle = table + (1 << FIRST) - 1 + high;
    typename P::T x[R];
    float bound[R];
    UNROLL for (int e = 0; e < R; ++e) {
      x[e] = buffer[padded<P, LOGN, LOGE>(base + (e << LOW))];
      bound[e] = 1.0f;
    }
    inverse_stages<P, L, L - 1, FIRST, LOGN>(x, bound, twiddle, m);
    UNROLL for (int e = 0; e < R; ++e) {
      const int i = base + (e << LOW);
      if (PASS == 0) {  // the twiddle of the last stage carries 1/N already; the other half is scaled here
        if (e < R / 2) {
          P::inverse_end(x[e], bound[e] > 4.0f ? bound[e] : 0.0f, m);
          x[e] = P::product(x[e], m.scale, m);
        }
        store(i, x[e]);
      } else {
        P::inverse_end(x[e], bound[e], m);
        buffer[padded<P, LOGN, LOGE>(i)] = x[e];
      }
    }
  }
}

// The element that a thread moves between global memory and its warp's part of the buffer: coalesced.
template <int LOGN, int LOGE>
DEVICE int moved(int tid, int e) {
  typedef Passes<LOGN, LOGE> S;
  constexpr int L = S::length(S::COUNT - 1), R = 1 << L;
  return (((tid & ~31) + (e / R) * S::THREADS_OF) << L) + (e % R) * 32 + (tid & 31);
}

template <class P, int LOGN, int LOGE, int PASS, class Load>
DEVICE void forward_passes(typename P::T* buffer, const typename P::Mod& m, const typename P::W* table,
                           const Load& load) {
  THREADS(tid) { forward_pass<P, LOGN, LOGE, PASS>(buffer, m, table, load, tid); }
  if constexpr (PASS + 1 < Passes<LOGN, LOGE>::COUNT) {
    BARRIER;
    forward_passes<P, LOGN, LOGE, PASS + 1>(buffer, m, table, load);
  }
}

template <class P, int LOGN, int LOGE, int PASS, class Store>
DEVICE void inverse_passes(typename P::T* buffer, const typename P::Mod& m, const typename P::W* table,
                           const Store& store) {
  THREADS(tid) { inverse_pass<P, LOGN, LOGE, PASS>(buffer, m, table, store, tid); }
  if constexpr (PASS > 0) {
    BARRIER;
    inverse_passes<P, LOGN, LOGE, PASS - 1>(buffer, m, table, store);
  }
}

// in, out: [blocks][N]; limb b is modulo prime b mod primes; table: [primes][N]; mods: [primes][MOD_WORDS].
template <class P, int LOGN, int LOGE>
DEVICE void ntt_forward(const typename P::Word* in, typename P::Word* out, const typename P::W* table, const u64* mods,
                        int primes) {
  SHARED(typename P::T, buffer);
  const int prime = BLOCK_X % primes;
  const typename P::Mod m = P::read(mods + prime * MOD_WORDS);
  in += (u64)BLOCK_X << LOGN;
  out += (u64)BLOCK_X << LOGN;
  forward_passes<P, LOGN, LOGE, 0>(buffer, m, table + ((u64)prime << LOGN), [&](int i) { return P::load(in[i], m); });
  WARP_BARRIER;
  THREADS(tid) {
    UNROLL for (int e = 0; e < (1 << LOGE); ++e) {
      const int i = moved<LOGN, LOGE>(tid, e);
      out[i] = P::store(buffer[padded<P, LOGN, LOGE>(i)], m);
    }
  }
}

template <class P, int LOGN, int LOGE>
DEVICE void ntt_inverse(const typename P::Word* in, typename P::Word* out, const typename P::W* table, const u64* mods,
                        int primes) {
  SHARED(typename P::T, buffer);
  const int prime = BLOCK_X % primes;
  const typename P::Mod m = P::read(mods + prime * MOD_WORDS);
  in += (u64)BLOCK_X << LOGN;
  out += (u64)BLOCK_X << LOGN;
  THREADS(tid) {
    UNROLL for (int e = 0; e < (1 << LOGE); ++e) {
      const int i = moved<LOGN, LOGE>(tid, e);
      buffer[padded<P, LOGN, LOGE>(i)] = P::load(in[i], m);
    }
  }
  WARP_BARRIER;
  inverse_passes<P, LOGN, LOGE, Passes<LOGN, LOGE>::COUNT - 1>(
      buffer, m, table + ((u64)prime << LOGN), [&](int i, typename P::T x) { out[i] = P::store(x, m); });
}
