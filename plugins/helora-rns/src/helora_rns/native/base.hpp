// Types, and loops that are unrolled by templates: pragmas for it are ignored by some compilers.
#pragma once
#include <stdint.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef int64_t i64;
typedef unsigned __int128 u128;

#define HR_INLINE inline __attribute__((always_inline))
#define HR_INLINED __attribute__((always_inline)) // of a lambda

template <int I>
struct Index {
    static constexpr int value = I;
};

template <int I, int N, class F>
static HR_INLINE void unroll_from(F &f) {
    if constexpr (I < N) {
        f(Index<I>{});
        unroll_from<I + 1, N>(f);
    }
}

// f(Index<0>), f(Index<1>), …, f(Index<N − 1>).
template <int N, class F>
static HR_INLINE void unroll(F &&f) {
    unroll_from<0, N>(f);
}

static HR_INLINE u64 high64(u64 a, u64 b) { return (u64)(((u128)a * b) >> 64); }

// a·b modulo q, of factors below q.
#if defined(HR_CLIENT) // q is below 2^50, so that a quotient in doubles is less than one off, and no library divides u128
static HR_INLINE u64 multiply_mod(u64 a, u64 b, u64 q) {
    const u64 quotient = (u64)(i64)((double)a * (double)b / (double)q);
    const i64 rest = (i64)(a * b - quotient * q);
    return (u64)(rest < 0 ? rest + (i64)q : rest >= (i64)q ? rest - (i64)q : rest);
}
#else
static HR_INLINE u64 multiply_mod(u64 a, u64 b, u64 q) { return (u64)((u128)a * b % q); }
#endif
